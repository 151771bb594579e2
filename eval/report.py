"""What a person looks at: a terminal table of systems and measures, and a picture of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from eval.measures import Evaluation
from eval.significance import PairedTest, paired_t

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["draw", "figures", "print_report"]

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
    tests = _tests(systems, baseline)
    return {
        name: {
            "mean": evaluation.mean,
            "counts": dict(evaluation.counts),
            **({"paired t-test": {m: test.to_dict() for m, test in tests[name].items()}} if name in tests else {}),
        }
        for name, evaluation in systems.items()
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
    from rich.console import Console

    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    console.print(_means(systems, title))
    if baseline is not None and len(systems) > 1:
        console.print(_differences(_tests(systems, baseline), baseline))
    if costs:
        console.print(_costs({name: costs[name] for name in systems}))
        if any(cost.get("cache hits") for cost in costs.values()):
            console.print("hits: answers kept from before, with the tokens and seconds that they took then")
    for line in notes:
        console.print(line, soft_wrap=True, markup=False)


def _means(systems: Mapping[str, Evaluation], title: str) -> Table:
    """Means, best in bold, then the counts that are not the same nothing for every system."""
    from rich.markup import escape
    from rich.table import Table

    measures = list(next(iter(systems.values())).mean)
    counted = [c for c in next(iter(systems.values())).counts if any(e.counts[c] for e in systems.values())]
    best = {m: max(round(evaluation.mean[m], 4) for evaluation in systems.values()) for m in measures}
    table = Table("system", title=escape(title), title_justify="left")
    for column in measures + counted:
        table.add_column(column, justify="right")
    for name, evaluation in systems.items():
        means = [_cell(evaluation.mean[m], best[m], len(systems) > 1) for m in measures]
        table.add_row(escape(name), *means, *(_count(evaluation.counts[c]) for c in counted))
    return table


def _differences(tests: Mapping[str, Mapping[str, PairedTest]], baseline: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    title = f"difference from {escape(baseline)} by query: paired t-test, two-sided, not corrected for several tests"
    table = Table("system", "measure", title=title, title_justify="left")
    for column in ("difference", "95% interval", "p", "wins", "ties", "losses"):
        table.add_column(column, justify="right")
    for name, found in tests.items():
        for measure, test in found.items():
            interval = "{:+.4f} {:+.4f}".format(*test.interval) if test.interval else ""
            p = test.untested if test.p is None else f"{test.p:.2g}"
            record = map(str, (test.wins, test.ties, test.losses))
            table.add_row(escape(name), measure, f"{test.difference:+.4f}", interval, p, *record)
        table.add_section()
    return table


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


def _cell(value: float, best: float, several: bool) -> str:
    shown = f"{value:.4f}"
    return f"[bold]{shown}[/bold]" if several and round(value, 4) == best else shown


def _amount(what: str, value: float | None) -> str:
    if not isinstance(value, float):
        return "" if value is None else f"{value:,}"
    return f"{value:,.{4 if what == PER_QUERY else 1}f}"


def _count(value: float) -> str:
    return f"{value:.1%}" if isinstance(value, float) else str(value)


def _tests(systems: Mapping[str, Evaluation], baseline: str | None) -> dict[str, dict[str, PairedTest]]:
    if baseline is None:
        return {}
    first = systems[baseline]
    return {
        name: {measure: paired_t(evaluation, first, measure) for measure in evaluation.mean}
        for name, evaluation in systems.items()
        if name != baseline
    }
