"""Effectiveness against size: a terminal table of indexes by bytes per vector, and a picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.measures import Evaluation

__all__ = ["Point", "draw_curve", "pareto", "print_curve", "share"]


@dataclass(frozen=True, eq=False)
class Point:
    """An index on the curve."""

    name: str
    size: float  # bytes per vector of what is searched
    rescored: float | None  # bytes per vector of what rescoring reads beside it, for a few; None without rescoring
    evaluation: Evaluation


def share(point: Point, baseline: Point) -> float | None:
    """The part of the baseline's first measure that is kept; None where the baseline has none of it."""
    measure = next(iter(point.evaluation.mean))
    whole = baseline.evaluation.mean[measure]
    return point.evaluation.mean[measure] / whole if whole else None


def pareto(points: Sequence[Point]) -> list[Point]:
    """Those that no other matches in the first measure with as few bytes, smallest first; the earlier of equal ones."""
    measure = next(iter(points[0].evaluation.mean))
    kept: list[Point] = []
    for point in sorted(points, key=lambda one: (one.size, -one.evaluation.mean[measure])):
        if not kept or point.evaluation.mean[measure] > kept[-1].evaluation.mean[measure]:
            kept.append(point)
    return kept


def print_curve(points: Sequence[Point], title: str, baseline: Point | None = None, notes: Sequence[str] = ()) -> None:
    """Print bytes, measures and the share of the baseline's first measure, the smallest first."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    measures = list(points[0].evaluation.mean)
    rescoring = any(point.rescored is not None for point in points)
    table = Table("index", title=escape(title), title_justify="left")
    columns = ["bytes/vector", *(["rescored from"] if rescoring else []), *measures]
    for column in [*columns, *([f"{measures[0]} kept"] if baseline else [])]:
        table.add_column(column, justify="right")
    for point in sorted(points, key=lambda one: one.size):
        table.add_row(escape(point.name), *_cells(point, rescoring), *([_kept(point, baseline)] if baseline else []))
    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    console.print(table)
    for line in notes:
        console.print(line, soft_wrap=True, markup=False)


def draw_curve(points: Sequence[Point], path: Path, title: str, baseline: Point | None = None) -> Path:
    """A picture of the first measure against bytes per vector, with the line of those that nothing smaller matches."""
    from matplotlib.figure import Figure

    measure = next(iter(points[0].evaluation.mean))
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    _scale(axes, points, measure)
    best = pareto(points)
    axes.plot(
        *zip(*((point.size, point.evaluation.mean[measure]) for point in best), strict=True),
        color="0.75", linewidth=1.2, zorder=1, label="nothing smaller is as good",
    )  # fmt: skip
    if baseline:
        level = baseline.evaluation.mean[measure]
        axes.axhline(level, color="0.75", linewidth=0.8, linestyle=":", zorder=0)
    _dots(axes, [point for point in points if point.rescored is None], measure, "C0", "by code alone")
    _dots(axes, [point for point in points if point.rescored is not None], measure, "none", "rescored, vectors on disk")
    _names(figure, axes, points, measure)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=140)
    return path


def _cells(point: Point, rescoring: bool) -> list[str]:
    rescored = "" if point.rescored is None else f"{point.rescored:g}"
    means = [f"{mean:.4f}" for mean in point.evaluation.mean.values()]
    return [f"{point.size:g}", *([rescored] if rescoring else []), *means]


def _kept(point: Point, baseline: Point) -> str:
    kept = share(point, baseline)
    return "" if kept is None else f"{kept:.1%}"


def _scale(axes: Any, points: Sequence[Point], measure: str) -> None:
    """Room for all points, on the right also for their names."""
    sizes = sorted({point.size for point in points})
    means = [point.evaluation.mean[measure] for point in points]
    margin = 0.1 * (max(means) - min(means)) or 0.01
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.25, sizes[-1] * (sizes[-1] / sizes[0]) ** 0.22 * 1.25)
    axes.set_ylim(min(means) - margin, max(means) + margin)
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("bytes per vector searched")
    axes.set_ylabel(measure)
    axes.spines[["top", "right"]].set_visible(False)


def _dots(axes: Any, points: Sequence[Point], measure: str, inside: str, label: str) -> None:
    if points:
        means = [point.evaluation.mean[measure] for point in points]
        sizes = [point.size for point in points]
        axes.scatter(sizes, means, s=30, facecolor=inside, edgecolor="C0", label=label, zorder=2)


def _names(figure: Any, axes: Any, points: Sequence[Point], measure: str) -> None:
    """The name of each point to its right, moved up as far as names beside and below it need."""
    figure.draw_without_rendering()  # places are known after the layout only
    placed: list[Any] = []
    for point in sorted(points, key=lambda one: (one.evaluation.mean[measure], one.size)):
        at = (point.size, point.evaluation.mean[measure])
        text = axes.annotate(point.name, at, (6, 3), textcoords="offset points", fontsize=8, color="0.2", zorder=1.5)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.3})  # above the lines, below the points
        text.set_in_layout(False)  # else the axes would move once more
        box = text.get_window_extent()
        while any(box.overlaps(other) for other in placed):
            text.set_position((text.get_position()[0], text.get_position()[1] + 1))
            box = text.get_window_extent()
        placed.append(box)
