"""What a person looks at: a terminal table of systems and measures, and a picture of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from eval.comparison import Difference, differences, family
from eval.measures import Evaluation
from eval.tables import console, differences_table, legend, means_table

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["draw", "figures", "print_report"]

CORRECTION = "holm"
PER_QUERY = "seconds per query"
SHORT = {  # in the heads of columns
    "failed generations": "failed",
    "cut generations": "cut",
    "model calls": "calls",
    "cache hits": "hits",
    "generation seconds": "model s",
    PER_QUERY: "s/query",
}


def figures(systems: Mapping[str, Evaluation], baseline: str | None = None) -> dict[str, Any]:
    """Means, counts and, against the baseline, paired tests: plain values for results.json."""
    tested = _tested(systems, baseline)
    return {
        name: {"mean": evaluation.mean, "counts": dict(evaluation.counts), **_tests_of(name, tested)}
        | ({"judged by": evaluation.judge} if evaluation.judge else {})
        for name, evaluation in systems.items()
    }


def _tests_of(name: str, tested: Sequence[Difference]) -> dict[str, Any]:
    own = [one for one in tested if one.system == name]
    if not own:
        return {}
    return {
        "paired t-test": {one.measure: one.test.to_dict() for one in own},
        "corrected p": {one.measure: one.corrected["t"] for one in own},
        "p is": family(tested, CORRECTION),
    }


def print_report(
    systems: Mapping[str, Evaluation],
    title: str,
    baseline: str | None = None,
    notes: Iterable[str] = (),
    costs: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> None:
    """Print the means, what was counted beside them, each system's difference from the baseline, tested, and its cost.

    `costs` are figures by system; one that is 0 for all is left out.
    """
    to = console()
    to.print(means_table(systems, title))
    tested = _tested(systems, baseline)
    if baseline is not None and tested:
        to.print(differences_table(tested, baseline, CORRECTION))
        to.print(legend(tested))
    if costs:
        to.print(_costs({name: costs[name] for name in systems}))
        if any(cost.get("cache hits") for cost in costs.values()):
            to.print("hits: answers kept from before, with the tokens and seconds that they took then")
    for line in notes:
        to.print(line, soft_wrap=True, markup=False)


def _costs(costs: Mapping[str, Mapping[str, float]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("system", title="cost", title_justify="left")
    every = dict.fromkeys(what for cost in costs.values() for what in cost)
    figures = [what for what in every if any(cost.get(what) for cost in costs.values())]
    for what in figures:
        table.add_column(SHORT.get(what, what), justify="right")
    for name, cost in costs.items():
        table.add_row(escape(name), *(_amount(what, cost.get(what)) for what in figures))
    return table


def draw(systems: Mapping[str, Evaluation], path: Path, title: str, training: Sequence[Mapping[str, Any]] = ()) -> Path:
    """A picture of the means, and beside it loss and dev figures of `training` (lines of training.jsonl)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11 if training else 6.5, 4.2), layout="constrained")
    axes = figure.subplots(1, 2 if training else 1, squeeze=False, width_ratios=[3, 2] if training else None)[0]
    _bars(axes[0], systems)
    if training:
        _curves(axes[1], training)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=140)
    return path


def _bars(axes: Any, systems: Mapping[str, Evaluation]) -> None:
    measures = list(next(iter(systems.values())).mean)
    width = 0.8 / len(systems)
    for number, (name, evaluation) in enumerate(systems.items()):
        places = [place + (number - (len(systems) - 1) / 2) * width for place in range(len(measures))]
        bars = axes.bar(places, [evaluation.mean[m] for m in measures], width * 0.92, label=name, color=f"C{number}")
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
    axes.set_xticks(range(len(measures)), measures)
    axes.set_ylim(0, 1.08)
    axes.set_ylabel("mean over queries")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=len(systems))


def _curves(axes: Any, training: Sequence[Mapping[str, Any]]) -> None:
    losses = [(line["step"], line["loss"]) for line in training if "loss" in line]
    axes.plot(*zip(*losses, strict=True), color="0.55", linewidth=1, label="training loss")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    axes.spines[["top"]].set_visible(False)
    dev = [(line["step"], line["evaluation"]) for line in training if "evaluation" in line]
    if dev:
        right = axes.twinx()
        for number, measure in enumerate(dev[0][1]):
            steps, values = zip(*((step, found[measure]) for step, found in dev), strict=True)
            right.plot(steps, values, "o-", color=f"C{number + 3}", markersize=3.5, label=f"dev {measure}")
        right.set_ylabel("dev measure")
        right.set_ylim(0, 1.08)
        right.spines[["top"]].set_visible(False)
    handles = [line for ax in axes.figure.axes[1:] for line in ax.get_lines()]
    axes.legend(
        handles, [h.get_label() for h in handles], frameon=False, fontsize=8, loc="upper center",
        bbox_to_anchor=(0.5, -0.14), ncols=2,
    )  # fmt: skip


def _amount(what: str, value: float | None) -> str:
    if not isinstance(value, float):
        return "" if value is None else f"{value:,}"
    return f"{value:,.{4 if what == PER_QUERY else 1}f}"


def _tested(systems: Mapping[str, Evaluation], baseline: str | None) -> list[Difference]:
    """By the t-test alone, which costs nothing; retrieval.compare makes the others."""
    return [] if baseline is None else differences(systems, baseline, CORRECTION, resamples=None)
