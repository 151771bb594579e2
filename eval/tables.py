"""The terminal tables that reports share: means of systems, and their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from eval.comparison import Difference, family
from eval.measures import Evaluation
from eval.significance import ALPHA, POWER

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console", "differences_table", "legend", "means_table"]

P = {"t": "p t", "randomisation": "p rand.", "bootstrap": "p boot."}  # in the heads of columns


def console() -> Console:
    """Where tables go: as wide as the terminal, 120 columns where there is none."""
    from rich.console import Console

    return Console(highlight=False, width=None if Console().is_terminal else 120)


def means_table(systems: Mapping[str, Evaluation], title: str) -> Table:
    """Means, best in bold, then the counts that are not the same nothing for every system."""
    from rich.markup import escape
    from rich.table import Table

    measures = list(next(iter(systems.values())).mean)
    counted = [c for c in next(iter(systems.values())).counts if any(e.counts[c] for e in systems.values())]
    best = {m: max(round(evaluation.mean[m], 4) for evaluation in systems.values()) for m in measures}
    table = Table("system", title=escape(title), title_justify="left")
    for column in measures + counted:
        table.add_column(escape(column), justify="right")
    for name, evaluation in systems.items():
        means = [_mean(evaluation.mean[m], best[m], len(systems) > 1) for m in measures]
        table.add_row(escape(name), *means, *(_count(evaluation.counts[c]) for c in counted))
    return table


def differences_table(found: Sequence[Difference], baseline: str | None, correction: str) -> Table:
    """Each measure's differences with their tests, those that hold in bold."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    tests = list(found[0].p)
    against = f"difference from {baseline} by query" if baseline is not None else "differences by query"
    title = Text(f"{against}; p {family(found, correction)}", no_wrap=True, overflow="ignore")  # may be wider than it
    table = Table(title=title, title_justify="left")
    table.add_column("system", overflow="fold")
    for column in ("mean", "95% interval", *(P[test] for test in tests), "d_z", "resolves", "W/T/L"):
        table.add_column(column, justify="right", no_wrap=True)
    for measure in dict.fromkeys(one.measure for one in found):
        table.add_section()
        table.add_row(f"[bold]{escape(measure)}")
        for other in dict.fromkeys(one.against for one in found):
            if baseline is None:
                table.add_row(f"against {escape(other)}")
            for one in (one for one in found if (one.measure, one.against) == (measure, other)):
                table.add_row(f"  {escape(one.system)}", *_cells(one, tests))
    return table


def legend(found: Sequence[Difference]) -> str:
    """What the columns of the differences mean."""
    return (
        f"interval: Student's, of this difference alone; p: two-sided, bold below {ALPHA:g}; d_z: mean in standard "
        f"deviations; resolves: the least difference that a t-test of it alone, over {found[0].test.n} queries varying "
        f"like these, finds {POWER:.0%} of the time; W/T/L: queries won, tied, lost"
    )


def _cells(one: Difference, tests: Sequence[str]) -> list[str]:
    test = one.test
    record = f"{test.wins}/{test.ties}/{test.losses}"
    if test.interval is None or test.effect is None or test.resolvable is None:
        return [f"{test.difference:+.4f}", f"no test: {test.untested}", *[""] * (len(tests) + 2), record]
    figures = [f"{test.difference:+.4f}", "{:+.4f} {:+.4f}".format(*test.interval)]
    p = [_bold(f"{one.corrected[name]:.2g}", one.significant(name)) for name in tests]
    return [*figures, *p, f"{test.effect:+.2f}", f"{test.resolvable:.4f}", record]


def _mean(value: float, best: float, several: bool) -> str:
    return _bold(f"{value:.4f}", several and round(value, 4) == best)


def _bold(shown: str, whether: bool) -> str:
    return f"[bold]{shown}[/bold]" if whether else shown


def _count(value: float) -> str:
    return f"{value:.1%}" if isinstance(value, float) else str(value)
