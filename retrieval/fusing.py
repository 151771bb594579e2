"""Runs of the same queries to one: what each gives to a document is added up, for all queries at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.composed import found, name, open_all, refuse_foreign
from retrieval.corpus import Corpus
from retrieval.order import PAD, order
from retrieval.protocols import Retriever
from retrieval.types import Queries, Run

__all__ = ["NORMALISED", "Normalise", "Parts", "by_rank", "check_weights", "interleaved", "summed"]

Normalise = Literal["min_max", "z_score", "sum"]
SMALLEST = 1e-9  # what scores are divided by at least
BLOCK = 64  # queries added up at a time: what the cache holds


class Parts:
    """The retrievers that are fused, and how deep each is read."""

    def __init__(self, retrievers: Sequence[Retriever], depth: int):
        if len(retrievers) < 1:
            raise ValueError("fusion needs at least 1 retriever")
        if depth < 1:
            raise ValueError(f"depth is {depth}; each retriever gives at least 1 document")
        self.retrievers, self.depth = list(retrievers), depth

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open them, each once."""
        self.corpus = corpus
        open_all(self.retrievers, corpus, folder)

    def retrieve(self, queries: Queries) -> list[Run]:
        """The run of each. Raises ValueError for one over other documents, and for queries that not all understand."""
        refuse_foreign(self.retrievers, queries)
        return [found(one, queries, self.depth, self.corpus) for one in self.retrievers]

    def named(self) -> dict[str, Any]:
        """Each by its place in a recipe."""
        return {f"retrievers.{i}": one for i, one in enumerate(self.retrievers)}


def check_weights(weights: Sequence[float] | None, retrievers: Sequence[Retriever]) -> list[float]:
    """One weight per retriever, 1 where none are given. Raises ValueError for another number of them, and for NaN."""
    given = [1.0] * len(retrievers) if weights is None else list(weights)
    if len(given) != len(retrievers):
        raise ValueError(f"{len(given)} weights for {len(retrievers)} retrievers: give each one")
    if not np.isfinite(given).all():
        raise ValueError(f"weights are numbers, not {given}")
    return given


def summed(made_by: object, runs: Sequence[Run], gives: Sequence[np.ndarray], k: int) -> Run:
    """The k documents with the highest sums of what each run gives them, float64 [queries, documents of the run].

    A run gives 0 to a document that it lacks. Sums are formed in the order of the runs.
    """
    rank, width = runs[0].docs.rank, min(k, sum(run.rows.shape[1] for run in runs))
    rows = np.empty((len(runs[0].query_ids), width), np.int32)
    scores = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), BLOCK):
        here = slice(start, start + BLOCK)
        found = _added([run.rows[here] for run in runs], [one[here] for one in gives])
        rows[here], scores[here] = order(*found, rank, width)
    widest = int(np.count_nonzero(rows != PAD, axis=1).max(initial=0))
    return Run(runs[0].query_ids, runs[0].docs, rows, scores, name(made_by, *runs)).top(widest)


def _added(rows: Sequence[np.ndarray], gives: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Each row of a query once, int32, and the sum of what it is given, float32; pads elsewhere."""
    every = np.concatenate(rows, axis=1).astype(np.int64)
    bits = max(every.shape[1] - 1, 1).bit_length()
    keys = np.sort((every << bits) | np.arange(every.shape[1]), axis=1)  # equal rows meet, in the order of the runs
    every, places = (keys >> bits).astype(np.int32), keys & ((1 << bits) - 1)
    given = np.take_along_axis(np.concatenate(gives, axis=1), places, axis=1)
    first = np.ones(every.shape, bool)
    first[:, 1:] = every[:, 1:] != every[:, :-1]
    scores = np.full(every.shape, -np.inf, np.float32)
    if every.size:
        scores[first] = np.add.reduceat(given.ravel(), np.flatnonzero(first))
    return np.where(first, every, PAD), scores


def by_rank(run: Run, weight: float, k: int) -> np.ndarray:
    """float64 [queries, documents]: weight / (k + rank), ranks from 1."""
    return np.broadcast_to(weight / (k + 1.0 + np.arange(run.rows.shape[1])), run.rows.shape)


def interleaved(made_by: object, runs: Sequence[Run], k: int) -> Run:
    """The runs in turn, each giving its next document that is not taken yet; the score is 1 / rank."""
    rows = np.full((len(runs[0].query_ids), k), PAD, np.int32)
    for query, line in enumerate(rows):
        taken = _in_turn([run.rows[query][run.rows[query] != PAD].tolist() for run in runs], k)
        line[: len(taken)] = taken
    scores = np.broadcast_to((1 / np.arange(1, k + 1)).astype(np.float32), rows.shape)
    widest = int(np.count_nonzero(rows != PAD, axis=1).max(initial=0))
    return Run.ordered(runs[0].query_ids, runs[0].docs, rows, scores, name(made_by, *runs)).top(widest)


def _in_turn(lists: Sequence[Sequence[int]], k: int) -> list[int]:
    taken: dict[int, None] = {}
    at = [0] * len(lists)
    turns = [place for place, one in enumerate(lists) if one]
    while turns and len(taken) < k:
        for place in tuple(turns):
            one, i = lists[place], at[place]
            while i < len(one) and one[i] in taken:
                i += 1
            if i == len(one):
                turns.remove(place)
            else:
                taken[one[i]] = None
            at[place] = i + 1
    return list(taken)[:k]


def _hits(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Scores in float64, 0 for pads, and where there are any."""
    held = run.rows != PAD
    return np.where(held, run.scores, 0).astype(np.float64), held


def _min_max(run: Run) -> np.ndarray:
    scores, held = _hits(run)
    lowest = np.min(scores, axis=1, keepdims=True, where=held, initial=np.inf)
    highest = np.max(scores, axis=1, keepdims=True, where=held, initial=-np.inf)
    with np.errstate(invalid="ignore"):  # a query without hits has infinity - infinity, and no use for it
        return np.where(held, (scores - lowest) / np.maximum(highest - lowest, SMALLEST), 0)


def _z_score(run: Run) -> np.ndarray:
    scores, held = _hits(run)
    count = np.maximum(held.sum(1, keepdims=True), 1)
    apart = np.where(held, scores - scores.sum(1, keepdims=True) / count, 0)
    return apart / np.maximum(np.sqrt((apart**2).sum(1, keepdims=True) / count), SMALLEST)


def _sum(run: Run) -> np.ndarray:
    scores, held = _hits(run)
    lowest = np.min(scores, axis=1, keepdims=True, where=held, initial=np.inf)
    above = np.where(held, scores - lowest, 0)
    return above / np.maximum(above.sum(1, keepdims=True), SMALLEST)


def _as_they_are(run: Run) -> np.ndarray:
    return _hits(run)[0]


# float64 [queries, documents] from a run, by each query's own hits; pads are 0
NORMALISED: dict[Normalise | None, Callable[[Run], np.ndarray]] = {
    "min_max": _min_max,
    "z_score": _z_score,
    "sum": _sum,
    None: _as_they_are,
}
