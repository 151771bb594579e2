"""A comparison as people look at it in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from eval.changes import Change, Shown
from eval.comparison import Comparison
from eval.tables import console, differences_table, legend, means_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["print_comparison"]


def print_comparison(comparison: Comparison, changes: Sequence[Change] = (), to: Console | None = None) -> None:
    """Print means, tested differences, what to be cautious about, and the queries that changed most."""
    to = to or console()
    queries = len(comparison.cells[0].evaluation.query_ids)
    to.print(means_table(comparison.systems, f"{comparison.task}: {queries} quer{'ies' if queries > 1 else 'y'}"))
    to.print(differences_table(comparison.differences, comparison.baseline, comparison.correction))
    if any(one.test.untested is None for one in comparison.differences):
        to.print(legend(comparison.differences))
    for line in comparison.cautions:
        to.print(f"\n[bold]CAUTION[/bold] {_escaped(line)}")
    for change in changes:
        to.print()
        to.print(_side_by_side(change))


def _side_by_side(change: Change) -> Table:
    """The best documents of both systems with their grades; dim where both have them."""
    from rich.table import Table

    asked = f"query {change.query_id}: {change.query}".rstrip(": ")
    figures = f"{change.measure} {change.value:.4f} and {change.other:.4f}"
    table = Table(title=_escaped(f"{asked} ({figures})"), title_justify="left", expand=True)
    table.add_column("", justify="right", no_wrap=True)
    for system in (change.system, change.against):
        table.add_column("grade", justify="right", no_wrap=True)
        table.add_column(_escaped(system), no_wrap=True, overflow="ellipsis", ratio=1)
    ours, theirs = ({one.document for one in top} for top in (change.top, change.other_top))
    for rank, (one, other) in enumerate(zip_longest(change.top, change.other_top), 1):
        table.add_row(str(rank), *_document(one, theirs), *_document(other, ours))
    return table


def _document(one: Shown | None, beside: set[str]) -> list[str]:
    if one is None:
        return ["", ""]
    shown = _escaped(f"{one.document}: {' '.join(one.text.split())}".rstrip(": "))
    return ["-" if one.grade is None else str(one.grade), f"[dim]{shown}" if one.document in beside else shown]


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
