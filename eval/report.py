"""What a person looks at: a terminal table of systems and measures, and a picture of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.measures import Evaluation
from eval.significance import PairedTest, paired_t

__all__ = ["draw", "figures", "print_report"]


def figures(systems: Mapping[str, Evaluation], baseline: str | None = None) -> dict[str, Any]:
    """Means, counts and, against the baseline, paired tests: plain values for results.json."""
    tests = _tests(systems, baseline)
    return {
        name: {
            "mean": evaluation.mean,
            "counts": evaluation.counts,
            **({"paired t-test": {m: test.to_dict() for m, test in tests[name].items()}} if name in tests else {}),
        }
        for name, evaluation in systems.items()
    }


def print_report(
    systems: Mapping[str, Evaluation], title: str, baseline: str | None = None, notes: Iterable[str] = ()
) -> None:
    """Print the table, what was counted, and each system's difference from the baseline with its paired t-test."""
    from rich.console import Console
    from rich.table import Table

    measures = list(next(iter(systems.values())).mean)
    table = Table(title=title, title_justify="left")
    table.add_column("system")
    for measure in measures:
        table.add_column(measure, justify="right")
    best = {m: max(round(evaluation.mean[m], 4) for evaluation in systems.values()) for m in measures}
    for name, evaluation in systems.items():
        cells = [_cell(evaluation.mean[m], best[m], len(systems) > 1) for m in measures]
        table.add_row(name, *cells)
    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    console.print(table)
    for line in [*_counted(systems), *_differences(systems, baseline), *notes]:
        console.print(line, soft_wrap=True, markup=False)


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


def _counted(systems: Mapping[str, Evaluation]) -> list[str]:
    return [f"{name}: {', '.join(_count(*item) for item in one.counts.items())}" for name, one in systems.items()]


def _count(what: str, value: float) -> str:
    return f"{what} {value:.1%}" if isinstance(value, float) else f"{what} {value}"


def _tests(systems: Mapping[str, Evaluation], baseline: str | None) -> dict[str, dict[str, PairedTest]]:
    if baseline is None:
        return {}
    first = systems[baseline]
    return {
        name: {measure: paired_t(evaluation, first, measure) for measure in evaluation.mean}
        for name, evaluation in systems.items()
        if name != baseline
    }


def _differences(systems: Mapping[str, Evaluation], baseline: str | None) -> list[str]:
    return [
        f"{name} - {baseline}, {measure}: {test}"
        for name, tests in _tests(systems, baseline).items()
        for measure, test in tests.items()
    ]
