"""Why two results differ, as a person reads it in a terminal."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from eval.tables import console
from retrieval.why import ABSENT, Why

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["print_why"]

SHOWN = 20  # figures that are listed
DIGEST = re.compile("[0-9a-f]{32,}")


def print_why(found: Why, to: Console | None = None) -> None:
    """Print the figures that differ, then what else does, the likeliest cause first."""
    to = to or console()
    to.print(f"A: {found.a}\nB: {found.b}", markup=False, soft_wrap=True)
    if found.results:
        to.print(_results(found))
        more = len(found.results) - SHOWN
        to.print(f"and {more} more figures" if more > 0 else "", end="\n" * (more > 0))
    if found.causes:
        to.print(_causes(found))
    for line in [*_verdict(found), *found.unknown]:
        to.print(line, markup=False, soft_wrap=True)


def _results(found: Why) -> Table:
    table = _table(f"{len(found.results)} of the {found.figures} figures that both have are not the same", "figure")
    table.add_column("B - A", justify="right", no_wrap=True)
    for one in found.results[:SHOWN]:
        table.add_row(_escaped(one.key), f"{one.a:.6g}", f"{one.b:.6g}", f"{one.b - one.a:+.6g}")
    return table


def _causes(found: Why) -> Table:
    table = _table("what is not the same, the likeliest cause first", "")
    for group, facts in found.causes.items():
        table.add_section()
        table.add_row(f"[bold]{group}")
        for one in facts:
            table.add_row(f"  {_escaped(one.key)}", *(_value(value) for value in (one.a, one.b)))
    return table


def _verdict(found: Why) -> list[str]:
    if found.figures == 0:
        return ["the results have no figure in common"]
    if not found.results:
        return [
            f"the results are the same in all {found.figures} figures"
            + "; none of this moved them" * bool(found.causes)
        ]
    if not found.causes:
        return [
            "nothing that the manifests hold differs: what is left is the machine (threads, the order of sums) or "
            "what they do not record"
        ]
    return []


def _table(title: str, first: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column(first, overflow="fold")
    for name in "AB":
        table.add_column(name, overflow="fold")
    return table


def _value(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _escaped(DIGEST.sub(lambda digest: digest[0][:12], shown)) if shown != ABSENT else f"[dim]{ABSENT}"


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
