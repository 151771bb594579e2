"""The charts of the page as pictures for papers: each as PNG and as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.cells import Cell, Curve, Texts
from eval.significance import SAME
from eval.views import PALETTE, bin_means, by_task, cost_names, length_bins, recall_by_rank, training_curves
from retrieval.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["save", "write_plots"]

STYLES = ("-", (0, (6, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))  # after all colours, as on the page
MARKERS = ("o", "s", "^", "D")
COLUMNS = 3  # of small charts beside each other


def write_plots(
    folder: Path,
    cells: Sequence[Cell],
    baseline: str | None = None,
    texts: Mapping[str, Texts] | None = None,
    training: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    curves: Sequence[Curve] = (),
) -> list[Path]:
    """Draw what the page shows of the first measure of each task, and every curve; the files, PNG and SVG of each.

    Those of a task lie in a folder of its name where there are several. Raises ValueError as `by_task` does.
    """
    tasks = by_task(cells, baseline)
    number = {system: place for place, system in enumerate(dict.fromkeys(cell.system for cell in cells))}
    written: list[Path] = []
    for name, of_task in tasks.items():
        inside = folder / _safe(name) if len(tasks) > 1 else folder
        for file, figure in _of_task(name, of_task, baseline, (texts or {}).get(name), number).items():
            written += save(figure, inside / file)
    for curve in [*training_curves(training or {}), *curves]:
        written += save(_lines(curve, number), folder / _safe(curve.name))
    return written


def _of_task(
    name: str, cells: Sequence[Cell], baseline: str | None, texts: Texts | None, number: Mapping[str, int]
) -> dict[str, Figure]:
    """Pictures by file name."""
    measure = next(iter(cells[0].evaluation.values))
    relevant, recalls = recall_by_rank(cells)
    found = {f"cost-{_safe(cost)}": _scatter(cells, measure, cost, number) for cost in cost_names(cells)}
    found["recall"] = _lines(Curve(name, "rank", f"{relevant}@rank", recalls, True), number)
    if texts:
        found["length"] = _by_length(name, cells, measure, texts, number)
    if len(cells) > 1:
        found["differences"] = _differences(cells, measure, baseline or cells[0].system)
    return found


def save(figure: Figure, path: Path) -> list[Path]:
    """PATH.png and PATH.svg, the same bytes for the same data."""
    from matplotlib import rc_context

    written = []
    for ending in ("png", "svg"):
        with rc_context({"svg.hashsalt": "0"}), whole_file(path.with_name(f"{path.name}.{ending}")) as part:
            metadata = {"Date": None} if ending == "svg" else None
            figure.savefig(part, format=ending, dpi=200, metadata=metadata)
        figure.set_layout_engine("none")  # laid out by now, and laying out takes as long as drawing
        written.append(path.with_name(f"{path.name}.{ending}"))
    return written


def _axes(x: str, y: str, title: str = "") -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _look(place: int) -> dict[str, Any]:
    turn = place // len(PALETTE)
    return {
        "color": PALETTE[place % len(PALETTE)],
        "linestyle": STYLES[turn % len(STYLES)],
        "marker": MARKERS[turn % len(MARKERS)],
    }


def _lines(curve: Curve, number: Mapping[str, int]) -> Figure:
    """The lines of a curve; a system's look is that which it has on the page."""
    figure, axes = _axes(curve.x, curve.y, curve.name)
    for place, (name, points) in enumerate(curve.series.items()):
        look = _look(number.get(name, place)) | ({} if len(points) <= 40 else {"marker": ""})
        axes.plot(*zip(*points, strict=True), label=name, markersize=3.5, linewidth=1.5, **look)
    if curve.log:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    _legend(figure, len(curve.series))
    return figure


def _legend(figure: Figure, entries: int) -> None:
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=min(entries, 4))


def _by_length(name: str, cells: Sequence[Cell], measure: str, texts: Texts, number: Mapping[str, int]) -> Figure:
    bins = length_bins(cells[0].evaluation.query_ids, texts)
    figure, axes = _axes("words in the query (queries)", measure, name)
    for cell in cells:
        means = bin_means(cell.evaluation.values[measure], bins)
        axes.plot(means, label=cell.system, markersize=4, linewidth=1.5, **_look(number[cell.system]))
    axes.set_xticks(range(len(bins)), [f"{one.label} ({len(one.places)})" for one in bins])
    _legend(figure, len(cells))
    return figure


def _scatter(cells: Sequence[Cell], measure: str, cost: str, number: Mapping[str, int]) -> Figure:
    """Effectiveness against a cost; logarithmic where costs differ by more than eight times, as on the page."""
    known = [cell for cell in cells if cell.cost.get(cost) is not None]
    figure, axes = _axes(cost, measure, cells[0].task)
    for cell in known:
        look = _look(number[cell.system])
        axes.plot(cell.cost[cost], cell.evaluation.mean[measure], label=cell.system, markersize=7, **look)
    costs = [cell.cost[cost] for cell in known]
    if min(costs) > 0 and max(costs) / min(costs) > 8:
        axes.set_xscale("log")
    axes.margins(0.1)
    for line in axes.get_lines():
        line.set_linestyle("none")
    _legend(figure, len(known))
    return figure


def _differences(cells: Sequence[Cell], measure: str, baseline: str) -> Figure:
    """For each system but the baseline its difference on each query, sorted, in small charts of one scale."""
    from matplotlib.figure import Figure

    first = next(cell for cell in cells if cell.system == baseline).evaluation.values[measure]
    others = [cell for cell in cells if cell.system != baseline]
    columns = min(COLUMNS, len(others))
    rows = math.ceil(len(others) / columns)
    figure = Figure(figsize=(2.9 * columns + 0.5, 2 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(others) :]:
        axes.set_axis_off()
    for axes, cell in zip(grid.flat, others, strict=False):
        gaps = np.sort(cell.evaluation.values[measure] - first)[::-1]
        _bars(axes, gaps)
        axes.axhline(0, color="0.4", linewidth=0.6)
        record = f"{np.count_nonzero(gaps > SAME)} better, {np.count_nonzero(gaps < -SAME)} worse"
        axes.set_title(f"{cell.system}: {gaps.mean():+.3f}, {record}", fontsize=8)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set_xticks([])
    figure.supylabel(f"{measure} less that of {baseline}", fontsize=9)
    figure.supxlabel(f"{cells[0].task}: queries, each system's sorted", fontsize=9)
    return figure


def _bars(axes: Axes, gaps: np.ndarray) -> None:
    """A bar per query, or the outline of so many that no bar could be seen."""
    if len(gaps) <= 200:
        axes.bar(range(len(gaps)), gaps, width=0.85, color=np.where(gaps > 0, PALETTE[0], PALETTE[1]).tolist())
        return
    for color, part in zip(PALETTE, (np.maximum(gaps, 0), np.minimum(gaps, 0)), strict=False):
        axes.fill_between(range(len(gaps)), part, step="mid", color=color, linewidth=0)


def _safe(name: str) -> str:
    """A name as a file name: what could end or leave a folder is replaced."""
    return "".join(letter if letter.isalnum() or letter in "-_.@()=" else "-" for letter in name).strip(".") or "-"
