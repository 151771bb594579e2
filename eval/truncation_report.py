"""A picture of effectiveness by how many dimensions are kept; systems without dimensions to cut are levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from eval.limit_published import FULL, SMALL, TRUNCATED, Scores
from eval.measures import Evaluation
from eval.plots import save

__all__ = ["Published", "draw_truncation"]

Published = Literal["limit", "limit-small"]  # of which collection LIMIT's paper gives figures
MARKERS = "os^Dv<>p"
WIDEST = 8  # panels beside each other at most


def draw_truncation(
    curves: Mapping[str, Mapping[int, Evaluation]],
    levels: Mapping[str, Evaluation],
    folder: Path,
    title: str,
    published: Published | None = None,
) -> list[Path]:
    """Draw a panel for each measure, as truncation.png and truncation.svg.

    `curves` are evaluations by dimensions of each encoder, `levels` those of retrievers that have no dimensions to
    cut. `published` adds what LIMIT's paper has of the same measure.
    """
    from matplotlib.figure import Figure

    first = next(iter(next(iter(curves.values())).values()))
    measures = list(first.mean)[:WIDEST]
    figure = Figure(figsize=(4.2 * len(measures) + 2, 4.4), layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, measures, strict=True):
        if published:
            _published(axes, measure, published)
        _ours(axes, curves, levels, measure)
        _axes(axes, measure)
    panels[0].set_ylabel("mean over queries")
    lines = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    ours = [*curves, *levels]
    names = [*ours, *(name for name in lines if name not in ours)]
    figure.legend(
        [lines[name] for name in names], names, frameon=False, fontsize=8, loc="outside right center", handlelength=3
    )
    figure.suptitle(title, fontsize=11)
    return save(figure, folder / "truncation")


def _ours(
    axes: Any, curves: Mapping[str, Mapping[int, Evaluation]], levels: Mapping[str, Evaluation], measure: str
) -> None:
    for number, (name, by_width) in enumerate(curves.items()):
        points = {width: one.mean[measure] for width, one in sorted(by_width.items())}
        axes.plot([*points], [*points.values()], "o-", color=f"C{number}", markersize=4, label=name, zorder=3)
    for number, (name, one) in enumerate(levels.items(), start=len(curves)):
        axes.axhline(one.mean[measure], color=f"C{number}", linestyle="--", linewidth=1.4, label=name, zorder=2)


def _published(axes: Any, measure: str, published: Published) -> None:
    """The paper's curves and, of other measures, its points at all dimensions; grey, as they are not ours."""
    rows: Mapping[str, Scores] = FULL if published == "limit" else SMALL
    curves = TRUNCATED if (published, measure) == ("limit", "R@100") else {}
    for marker, (name, one) in zip(MARKERS, rows.items(), strict=True):
        value = one.recall.get(measure)
        if value is None:
            continue
        if one.dimensions is None:
            style = ":" if name == "BM25" else "-."
            axes.axhline(value, color="0.6", linestyle=style, linewidth=1, label=f"{name}, published", zorder=1)
            continue
        points = {**curves.get(name, {}), one.dimensions: value}
        axes.plot(
            [*points], [*points.values()], marker + "-", color="0.6", markersize=4, linewidth=0.8,
            markerfacecolor="white", label=f"{name}, published", zorder=1,
        )  # fmt: skip


def _axes(axes: Any, measure: str) -> None:
    from matplotlib.ticker import NullLocator, ScalarFormatter

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(_ticks(axes.get_xlim()))
    axes.tick_params(axis="x", labelsize=8, rotation=45)
    axes.set_xlabel("dimensions kept")
    axes.set_title(measure, fontsize=10)
    axes.set_ylim(0, 1.03)
    axes.spines[["top", "right"]].set_visible(False)


def _ticks(limits: Sequence[float]) -> list[int]:
    """The powers of 2 within the limits."""
    return [1 << power for power in range(20) if limits[0] <= 1 << power <= limits[1]]
