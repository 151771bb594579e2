"""Between a first pass and a reranker: which texts are scored, and where documents go that are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from retrieval.ids import DocIds
from retrieval.order import PAD
from retrieval.protocols import Reranker
from retrieval.types import Run

__all__ = ["QUERIES", "below", "pair_scores", "run_of", "spans"]

QUERIES = 256  # reranked at a time: what there are texts of in memory, and what a batch is put together from


def spans(queries: int) -> Iterator[np.ndarray]:
    """Positions of the queries that are reranked together."""
    for start in range(0, queries, QUERIES):
        yield np.arange(start, min(start + QUERIES, queries))


def pair_scores(reranker: Reranker, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """float32 [pairs]. Raises ValueError for another number of scores, and for one that is not finite."""
    scores = np.asarray(reranker.score(pairs), np.float32)
    if scores.shape != (len(pairs),):
        raise ValueError(f"{type(reranker).__name__} gives scores {scores.shape} for {len(pairs)} pairs")
    if not np.isfinite(scores).all():
        query, text = pairs[int(np.argmin(np.isfinite(scores)))]
        raise ValueError(f"{type(reranker).__name__} gives NaN or infinity for {query[:60]!r}, {text[:60]!r}")
    return scores


def below(scores: np.ndarray, count: int) -> np.ndarray:
    """float32 [count], falling by 1 from below the lowest of these scores, or by what float32 still tells apart."""
    lowest = float(scores.min(initial=np.inf)) if len(scores) else 0.0
    step = max(1.0, float(np.spacing(np.float32(2 * (abs(lowest) + count)))))
    return (lowest - step * np.arange(1, count + 1)).astype(np.float32)


def run_of(
    query_ids: Sequence[str],
    docs: DocIds,
    scored: Sequence[tuple[np.ndarray, np.ndarray]],
    rest: Sequence[np.ndarray],
    k: int,
    name: str,
) -> Run:
    """The k best of each query: rows with new scores, then the rest in the order given."""
    widest = max((len(rows) + len(left) for (rows, _), left in zip(scored, rest, strict=True)), default=0)
    rows = np.full((len(query_ids), widest), PAD, np.int32)
    scores = np.full(rows.shape, -np.inf, np.float32)
    for i, ((mine, given), left) in enumerate(zip(scored, rest, strict=True)):
        rows[i, : len(mine) + len(left)] = np.concatenate([mine, left])
        scores[i, : len(mine) + len(left)] = np.concatenate([given, below(given, len(left))])
    return Run.ordered(query_ids, docs, rows, scores, name).top(k)
