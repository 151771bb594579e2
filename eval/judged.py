"""The judged results of a run, which are few, and the judgements: all that measures look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.order import PAD
from retrieval.types import Qrels, Run

__all__ = ["Judged", "counts", "judged_results", "places"]

TOP = 10  # results per query in which unjudged ones are counted


@dataclass(frozen=True, eq=False)
class Judged:
    """The results of a run that are judged for their query, and the judgements of all queries."""

    query: np.ndarray  # int [hits], place among the judged queries; those of a query stand together, best first
    rank: np.ndarray  # int [hits], from 1
    grade: np.ndarray  # int [hits]
    retrieved: np.ndarray  # int [queries], results of any kind
    wanted: np.ndarray  # int [judgements], place among the queries, ascending
    wanted_grade: np.ndarray  # int [judgements], falling within each query

    def relevant(self, level: int) -> np.ndarray:
        """float64 [queries], judgements of at least this grade."""
        return self.count(self.wanted[self.wanted_grade >= level])

    def count(self, query: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """float64 [queries], how often each query occurs, or the sum of its weights in the order given."""
        return np.bincount(query, weights, len(self.retrieved)).astype(np.float64)


def places(run: Run, qrels: Qrels) -> np.ndarray:
    """int [run's queries], each query's place in the qrels, -1 for one that is not judged.

    Raises ValueError with counts and examples where none is.
    """
    place = {query: number for number, query in enumerate(qrels.query_ids)}
    found = np.array([place.get(query, -1) for query in run.query_ids], np.int64)
    if not (found >= 0).any():
        raise ValueError(
            f"none of the {len(found)} queries of run {run.name!r} ({_such_as(run.query_ids)}) is among the "
            f"{len(place)} judged ({_such_as(qrels.query_ids)}): are these qrels of another collection or split?"
        )
    return found


def _such_as(ids: Sequence[str]) -> str:
    return f"such as {', '.join(map(repr, ids[:3]))}" if len(ids) else "empty"


def judged_results(run: Run, qrels: Qrels, places: np.ndarray, rows: np.ndarray) -> Judged:
    """Find them: mark the documents judged for any query, then look at the few results that are marked.

    `rows` are those of `run.docs` of the judged documents, -1 for one that it lacks. Raises ValueError where a judged
    document is there twice for a query.
    """
    asked = np.flatnonzero(places >= 0)
    lists = run.rows if len(asked) == len(places) else run.rows[asked]
    marked = np.zeros(len(run.docs) + 1, bool)  # one more, which PAD falls on
    marked[rows[rows >= 0]] = True
    number, rank = np.nonzero(np.take(marked, lists, mode="wrap"))  # twice as fast as marked[lists]
    query, row = places[asked][number], lists[number, rank]
    keys = np.where(rows < 0, np.iinfo(np.int64).max, qrels.query.astype(np.int64) << 32 | rows)
    ascending = np.argsort(keys)
    keys = np.append(keys[ascending], np.iinfo(np.int64).max)
    at = np.searchsorted(keys, query << 32 | row)
    hit = keys[at] == query << 32 | row
    _refuse_twice(run, qrels, keys[at[hit]])
    retrieved = np.zeros(len(qrels.query_ids), np.int64)
    retrieved[places[asked]] = np.count_nonzero(lists != PAD, axis=1)
    best = np.lexsort((-qrels.grades, qrels.query))
    return Judged(
        query[hit], rank[hit] + 1, qrels.grades[ascending[at[hit]]], retrieved, qrels.query[best], qrels.grades[best]
    )


def _refuse_twice(run: Run, qrels: Qrels, keys: np.ndarray) -> None:
    """`keys` are query << 32 | row of the judged results."""
    found, times = np.unique(keys, return_counts=True)
    if (times > 1).any():
        first = int(found[times.argmax()])
        raise ValueError(
            f"run {run.name!r} has document {run.docs[first & 0xFFFFFFFF]!r} {times.max()} times for query "
            f"{qrels.query_ids[first >> 32]!r}, and {np.count_nonzero(times > 1)} such results: keep the best of each"
        )


def counts(judged: Judged, places: np.ndarray) -> dict[str, int | float]:
    """What a reader of the figures must know; shares are floats."""
    shown = int(np.minimum(judged.retrieved, TOP).sum())
    unjudged = shown - int(np.count_nonzero(judged.rank <= TOP))
    in_run = int(np.count_nonzero(places >= 0))
    return {
        "judged queries": len(judged.retrieved),
        "missing from the run": len(judged.retrieved) - in_run,
        "without results": in_run - int(np.count_nonzero(judged.retrieved)),
        "without relevant documents": int(np.count_nonzero(judged.relevant(1) == 0)),
        f"unjudged in the top {TOP}": unjudged / shown if shown else 0.0,
    }
