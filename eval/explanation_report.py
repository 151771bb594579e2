"""An explained score as a person reads it in a terminal: the terms, what feedback did, why others rank above."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from retrieval.explanation import Answer, Explanation, FeedbackPass, FieldLengths, QueryTerm, decimals

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["print_answer"]

READ = 10  # feedback documents that are listed
APART = 12  # terms that are listed where two documents are compared


def print_answer(answer: Answer, console: Console | None = None) -> None:
    """Print what made the score of a document, then each document above it beside it."""
    from rich.console import Console

    console = console or Console(highlight=False, width=None if Console().is_terminal else 120)
    explanation, asked = answer.explanation, answer.documents[0]
    _line(console, f"query {answer.query_id}: {answer.query}")
    _line(console, f"document {asked.id}: {asked.title}".rstrip(": "))
    console.print(_standing(answer), markup=False)
    if explanation.frequencies[0].any():
        console.print(_terms(explanation))
    for note in _notes(explanation):
        console.print(note, markup=False)
    for made in explanation.passes:
        console.print()
        console.print(f"feedback: {made.model} over the first pass of {made.source}, of which it read", markup=False)
        console.print(_read(made))
        for note in _beyond(made):
            console.print(note, markup=False)
        console.print(_feedback(made))
    for there in range(1, len(answer.documents)):
        console.print()
        console.print(_why(answer, there), markup=False)
        if np.any(explanation.gaps(0, there)):
            console.print(_compared(answer, there))


def _standing(answer: Answer) -> str:
    asked = answer.documents[0]
    if asked.rank is None:
        own = answer.explanation.total(0) > 0
        return "left out, for its id is that of the query" if own else "not found: its score is 0"
    deep = f", below the {answer.k} that the recipe asks for" if asked.rank > answer.k else ""
    return f"rank {asked.rank}{deep}, score {asked.score:.9g}, the sum of these terms (in float32):"


def _terms(explanation: Explanation) -> Table:
    """The terms that the document holds, those that give most first, and their sum."""
    weights = ("before", "after") if explanation.passes else ("query",)
    rarity = ("df", "idf") if any(term.idf is not None for term in explanation.terms) else ("df",)
    table = _table("term", *weights, "document", *rarity, "score")
    total, given = explanation.total(0), explanation.contributions[0]
    digits = decimals(total, 5)
    for i in sorted(np.flatnonzero(explanation.frequencies[0]).tolist(), key=lambda i: -given[i]):
        term = explanation.terms[i]
        before = [_weight(explanation.passes[0].before, term.term)] if explanation.passes else []
        rare = [str(term.df), "" if term.idf is None else f"{term.idf:.2f}"][: len(rarity)]
        shown = [f"{term.weight:.4g}", f"{explanation.frequencies[0, i]:.4g}", *rare, f"{given[i]:.{digits}f}"]
        _row(table, term.name, *before, *shown)
    table.add_section()
    _row(table, "sum", *[""] * (len(table.columns) - 2), f"{total:.{digits}f}")
    return table


def _notes(explanation: Explanation) -> list[str]:
    """What a table does not say: the terms that the document lacks, its length, the share of feedback."""
    lacking = [term for term, often in zip(explanation.terms, explanation.frequencies[0], strict=True) if not often]
    notes = [f"not in the document: {', '.join(map(_rarity, lacking))}"] if lacking else []
    notes += [_length(one) for one in explanation.lengths]
    if explanation.passes:
        new = [term.term not in explanation.passes[0].before for term in explanation.terms]
        given = explanation.contributions[0]
        added, total = given[np.array(new, bool)].sum(), explanation.total(0)
        digits = decimals(total, 5)
        notes.append(
            f"terms that feedback added give {added:.{digits}f}, those of the query {total - added:.{digits}f}"
        )
    return notes


def _rarity(term: QueryTerm) -> str:
    return f"{term.name} (df {term.df})"


def _length(one: FieldLengths) -> str:
    what = "the document" if one.field is None else f"{one.field} (weight {one.weight:g})"
    counted = "" if one.counted[0] == one.lengths[0] else f", which count as {one.counted[0]:g}"
    return f"{what} has {one.lengths[0]} terms{counted}; the mean is {one.mean:.1f}"


def _feedback(made: FeedbackPass) -> Table:
    """Each term's weight before and after, and the first documents that hold it."""
    table = _table("term", "before", "after")
    table.add_column("in those of rank (× how often)")
    words = sorted({**made.before, **made.after}, key=lambda term: -made.after.get(term, 0))
    for term in words:
        held = [(one.rank, one.holds[term]) for one in made.documents if one.rank and term in one.holds]
        where = " ".join(str(rank) if often == 1 else f"{rank}×{often:.3g}" for rank, often in held)
        weights = [_weight(weights, term) for weights in (made.before, made.after)]
        _row(table, term, *weights, where)
    return table


def _weight(weights: Mapping[str, float], term: str) -> str:
    return f"{weights[term]:.4g}" if term in weights else ""


def _read(made: FeedbackPass) -> Table:
    """The feedback documents and their scores in the first pass."""
    table = _table("document", "rank", "score")
    for one in _listed(made):
        _row(table, one.id, str(one.rank), f"{one.score:.{decimals(one.score or 0, 5)}f}")
    return table


def _listed(made: FeedbackPass) -> list:
    return [one for one in made.documents if one.rank is not None][:READ]


def _beyond(made: FeedbackPass) -> list[str]:
    first = sum(one.rank is not None for one in made.documents)
    counts = {"more of the first pass": first - READ, "that the first pass had not found": len(made.documents) - first}
    return [f"and {count} {what}" for what, count in counts.items() if count > 0]


def _why(answer: Answer, there: int) -> str:
    one, asked = answer.documents[there], answer.documents[0]
    gap = "" if answer.equal(there) else f" by {_gap(one.score, asked.score)}"
    return f"why {one.id} is above{gap}, at rank {one.rank}: {answer.reason(there)}"


def _gap(one: float | None, other: float | None) -> str:
    gap = (one or 0) - (other or 0)
    return f"{gap:.{decimals(gap, 3)}f}"


def _compared(answer: Answer, there: int) -> Table:
    """Two documents term by term, the largest differences first."""
    explanation = answer.explanation
    gaps, given, often = explanation.gaps(0, there), explanation.contributions, explanation.frequencies
    digits = decimals(float(gaps.sum()), 3)
    table = _table("term", "df", "here", "score", "there", "score", "difference")
    order = np.argsort(-np.abs(gaps), kind="stable")
    differing = order[: min(APART, np.count_nonzero(gaps))]
    for i in differing:
        pairs = [(f"{often[d, i]:.4g}", f"{given[d, i]:.{digits}f}") if often[d, i] else ("", "") for d in (0, there)]
        term = explanation.terms[i]
        _row(table, term.name, str(term.df), *pairs[0], *pairs[1], f"{gaps[i]:+.{digits}f}")
    rest = [i for i in order[len(differing) :] if given[0, i] or given[there, i]]
    if rest:
        sums = [f"{given[d, rest].sum():.{digits}f}" for d in (0, there)]
        _row(table, f"{len(rest)} more", "", "", sums[0], "", sums[1], f"{gaps[rest].sum():+.{digits}f}")
    table.add_section()
    sums = [f"{explanation.total(d):.{digits}f}" for d in (0, there)]
    _row(table, "sum", "", "", sums[0], "", sums[1], f"{gaps.sum():+.{digits}f}")
    return table


def _table(first: str, *numbers: str) -> Table:
    from rich.table import Table

    table = Table(first)
    for column in numbers:
        table.add_column(column, justify="right")
    return table


def _row(table: Table, *cells: str) -> None:
    from rich.markup import escape

    table.add_row(*map(escape, cells))


def _line(console: Console, text: str) -> None:
    """One line, cut where the terminal ends."""
    console.print(" ".join(text.split()), markup=False, no_wrap=True, overflow="ellipsis")
