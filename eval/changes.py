"""The queries on which two systems differ most, with what each put on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.cells import Cell, Texts
from eval.comparison import Comparison
from eval.significance import SAME, gaps

__all__ = ["Change", "Shown", "changes"]


@dataclass(frozen=True)
class Shown:
    """A document as a ranking shows it."""

    document: str
    grade: int | None  # None where nobody judged it for the query
    text: str


@dataclass(frozen=True)
class Change:
    """A query that one system answers otherwise than another."""

    query_id: str
    query: str
    system: str
    against: str
    measure: str
    value: float
    other: float  # the value of `against`
    top: Sequence[Shown]  # what `system` has on top
    other_top: Sequence[Shown]


def changes(comparison: Comparison, texts: Texts, number: int, depth: int = 5) -> list[Change]:
    """For each pair of systems the queries that the first measure changed most on, the largest change first.

    Queries that did not change are never among them; equal changes keep the order of the judgements.
    """
    cells = {cell.system: cell for cell in comparison.cells}
    measure = next(iter(comparison.differences)).measure
    pairs = [(one.system, one.against) for one in comparison.differences if one.measure == measure]
    place = {name: {query: n for n, query in enumerate(cell.run.query_ids)} for name, cell in cells.items()}
    judged = comparison.cells[0].qrels.to_dict()
    found = []
    for system, against in pairs:
        a, b = cells[system], cells[against]
        between = gaps(a.evaluation, b.evaluation, measure)
        for n in np.argsort(-np.abs(between), kind="stable")[:number].tolist():
            if abs(between[n]) < SAME:
                break
            query = a.evaluation.query_ids[n]
            value = float(a.evaluation.values[measure][n])
            tops = [_top(cells[one], place[one].get(query), judged[query], texts, depth) for one in (system, against)]
            found.append(
                Change(
                    query,
                    texts.queries.get(query, ""),
                    system,
                    against,
                    measure,
                    value,
                    value - float(between[n]),
                    *tops,
                )
            )
    return found


def _top(cell: Cell, number: int | None, judged: Mapping[str, int], texts: Texts, depth: int) -> list[Shown]:
    """The best documents of a query, none where the run lacks it."""
    if number is None:
        return []
    rows = cell.run.rows[number, :depth]
    return [Shown(name, judged.get(name), texts.document(name)) for name in cell.run.docs.take(rows[rows >= 0])]
