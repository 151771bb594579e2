"""Which queries a page carries with rankings and texts, within a budget of bytes: those that changed most, first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from eval.cells import Cell, Texts
from eval.texts import TOP

__all__ = ["embedded", "size_of"]

RELEVANT = 20  # documents of the best grades that a query shows besides the top of each ranking
LONGEST = 500  # characters of a document
LONGEST_QUERY = 2000


def embedded(
    tasks: Mapping[str, Sequence[Cell]], baseline: str | None, texts: Mapping[str, Texts], budget: int
) -> dict[str, dict[str, Any]]:
    """For each task `documents`, their ids and texts, and `queries`: place, text, documents, grades, ranks by system.

    Documents of a query are the top of every ranking and the relevant ones of the best grades; `relevant` counts all.
    Ranks count from 1, 0 where a system does not return the document. Texts of a document are kept once a task.
    """
    made = {name: _Task(cells, texts.get(name)) for name, cells in tasks.items()}
    for name, place in _most_changed(tasks, baseline):
        if budget <= 0:
            break
        budget -= made[name].add(place)
    return {name: {"documents": task.documents, "queries": task.queries} for name, task in made.items()}


def size_of(value: Any) -> int:
    """Bytes of a value as the page writes it."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def _most_changed(tasks: Mapping[str, Sequence[Cell]], baseline: str | None) -> Iterator[tuple[str, int]]:
    """(task, place of a query), each once: in turn of every system the query whose first measure changed most."""
    orders = [(name, order) for name, cells in tasks.items() for order in _orders(cells, baseline)]
    seen: set[tuple[str, int]] = set()
    for turn in range(max(len(order) for _, order in orders)):
        for name, order in orders:
            one = (name, int(order[turn])) if turn < len(order) else None
            if one and one not in seen:
                seen.add(one)
                yield one


def _orders(cells: Sequence[Cell], baseline: str | None) -> list[np.ndarray]:
    """Places of queries for each system but the baseline, the largest difference first; the worst first where alone."""
    reference = next((cell for cell in cells if cell.system == baseline), cells[0])
    first = _values(reference)
    if len(cells) == 1:
        return [np.argsort(first, kind="stable")]
    gaps = [np.abs(_values(cell) - first) for cell in cells if cell is not reference]
    return [np.argsort(-gap, kind="stable") for gap in gaps]


def _values(cell: Cell) -> np.ndarray:
    return next(iter(cell.evaluation.values.values()))


class _Task:
    """The queries of a task that are kept, and the texts of their documents."""

    def __init__(self, cells: Sequence[Cell], texts: Texts | None):
        self.cells, self.texts = cells, texts
        self.query_ids = cells[0].evaluation.query_ids
        self.grades = cells[0].qrels.to_dict()
        self.places = [{query: place for place, query in enumerate(cell.run.query_ids)} for cell in cells]
        self.number: dict[str, int] = {}
        self.documents: dict[str, list[str]] = {"ids": [], "texts": []}
        self.queries: list[dict[str, Any]] = []

    def add(self, place: int) -> int:
        """Keep a query; the bytes that it takes."""
        query = self.query_ids[place]
        grades = self.grades.get(query, {})
        lists = [self._ranked(number, query) for number in range(len(self.cells))]
        relevant = sorted((doc for doc in grades if grades[doc] > 0), key=lambda doc: (-grades[doc], doc))
        shown = list(dict.fromkeys([*(doc for ranked in lists for doc in ranked[:TOP]), *relevant[:RELEVANT]]))
        ranks = [{doc: rank for rank, doc in enumerate(ranked, 1)} for ranked in lists]
        before = len(self.number)
        kept = {
            "place": place,
            "text": _cut(self.texts.queries.get(query, ""), LONGEST_QUERY) if self.texts else "",
            "relevant": len(relevant),
            "documents": [self._document(doc) for doc in shown],
            "grades": [grades.get(doc) for doc in shown],
            "ranks": [[rank.get(doc, 0) for doc in shown] for rank in ranks],
        }
        self.queries.append(kept)
        return size_of(kept) + sum(size_of([self.documents[key][before:]]) for key in ("ids", "texts"))

    def _ranked(self, number: int, query: str) -> list[str]:
        """The documents that a system returns for a query, best first."""
        run, place = self.cells[number].run, self.places[number].get(query)
        if place is None:
            return []
        return run.docs.take(run.rows[place][run.rows[place] >= 0])

    def _document(self, name: str) -> int:
        """Its number on the page."""
        if name not in self.number:
            self.number[name] = len(self.number)
            self.documents["ids"].append(name)
            self.documents["texts"].append(_cut(self.texts.document(name), LONGEST) if self.texts else "")
        return self.number[name]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest].rstrip()} …"
