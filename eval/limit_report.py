"""What the LIMIT laboratory found, as people look at it: a terminal table of critical n, and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.limit_exact import ceiling
from eval.limit_published import FIT, TABLE_6, fit
from eval.limit_search import SWEEP, Critical, Wanted
from eval.plots import save

__all__ = ["draw_critical", "is_papers", "print_critical"]


def print_critical(found: Sequence[Critical], wanted: Wanted) -> None:
    """Print each dimension's critical n, which seeds solved the n around it, and what is published and proved."""
    from rich.console import Console
    from rich.table import Table

    compared = is_papers(wanted)
    title = f"critical n, k = {wanted.k}, {wanted.pattern} pattern, best of {len(wanted.seeds)} seeds"
    table = Table("d", "n", title=f"{title}: {', '.join(map(str, wanted.seeds))}", title_justify="left")
    table.add_column("n : seeds that solve it")
    for column in (["paper", "ceiling"] if compared else []) + ["problems", "steps"]:
        table.add_column(column, justify="right")
    for one in found:
        outcomes = [outcome for tried in one.tried.values() for outcome in tried]
        known = [str(TABLE_6.get(one.dimensions, "")), _proved(one.dimensions)] if compared else []
        steps = f"{sum(outcome.steps for outcome in outcomes):,}"
        table.add_row(str(one.dimensions), _n(one, wanted), _around(one), *known, str(len(outcomes)), steps)
    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    console.print(table)
    if compared:
        console.print(
            "paper: Table 6, one seed. ceiling: the n that no vectors pass; from 4 dimensions on there is none, and n "
            "is what this descent finds.",
            soft_wrap=True,
        )


def is_papers(wanted: Wanted) -> bool:
    """Whether these are the paper's problems, whose figures may stand beside."""
    return wanted.k == 2 and wanted.pattern == "dense" and wanted.queries is None


def draw_critical(found: Sequence[Critical], wanted: Wanted, folder: Path) -> list[Path]:
    """Our n by dimension, beside the paper's points and their cubic where the problems are the paper's.

    Written as critical_n.png and critical_n.svg: our dimensions on the left, all of the paper's on the right.
    """
    from matplotlib.figure import Figure

    compared = is_papers(wanted)
    figure = Figure(figsize=(11 if compared else 6, 4.4), layout="constrained")
    every = figure.subplots(1, 2 if compared else 1, squeeze=False)[0]
    ours = {one.dimensions: one.n for one in found}
    if compared:
        _published(every[0], [d for d in TABLE_6 if min(ours) <= d <= max(ours)])
        _published(every[1], list(TABLE_6))
    for axes in every:
        _solved(axes, found, wanted, several=axes is every[0])
        _axes(axes)
    every[0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.suptitle(f"Free embeddings, k = {wanted.k}: the most documents whose every query is answered", fontsize=11)
    return save(figure, folder / "critical_n")


def _published(axes: Any, dimensions: Sequence[int]) -> None:
    """The paper's points, and the cubic through all of them."""
    if not dimensions:
        return
    cubic = fit(TABLE_6)
    line = np.linspace(dimensions[0], dimensions[-1], 200)
    terms = " ".join(f"{c:+.4f}{x}" for c, x in zip(FIT.coefficients, ("", " d", " d²", " d³"), strict=True))
    axes.plot(line, cubic(line), color="0.6", linewidth=1.2, zorder=1, label=f"fit to the paper: {terms.lstrip('+')}")
    points = [TABLE_6[d] for d in dimensions]
    label = "paper, Table 6, one seed"
    axes.scatter(dimensions, points, s=52, facecolor="none", edgecolor="0.35", linewidth=1, zorder=5, label=label)


def _solved(axes: Any, found: Sequence[Critical], wanted: Wanted, several: bool) -> None:
    """Our best of all seeds; with `several`, also what each seed alone reaches."""
    if several and len(wanted.seeds) > 1:
        alone = [(one.dimensions, n) for one in found for n in one.by_seed.values()]
        axes.scatter(*zip(*alone, strict=True), s=9, color="C0", alpha=0.45, zorder=3, label="ours, each seed alone")
    best = f"ours, best of {len(wanted.seeds)} seeds" if len(wanted.seeds) > 1 else "ours, one seed"
    axes.scatter([one.dimensions for one in found], [one.n for one in found], s=22, color="C0", zorder=4, label=best)


def _axes(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("dimensions d")
    axes.set_ylabel("critical n")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)


def _n(one: Critical, wanted: Wanted) -> str:
    return f"{one.n} or more" if one.n == wanted.largest else str(one.n)


def _around(one: Critical) -> str:
    """`8:3 9:1 10:0`: how many seeds solve each n of the last sweep."""
    near = {n: count for n, count in one.solved.items() if n - one.n in SWEEP}
    return " ".join(f"{n}:{count}" for n, count in near.items())


def _proved(dimensions: int) -> str:
    most = ceiling(dimensions)
    return "none" if most is None else f"n ≤ {most}"
