"""The one order of results: score descending, then document id descending, as trec_eval has it.

Score and tie key are packed into one integer, so that a single comparison decides and nothing depends on the
sorting algorithm.
"""

from __future__ import annotations

import numpy as np

__all__ = ["PAD", "is_ordered", "order", "top_k"]

PAD = -1  # the row of a missing result
_LAST = np.iinfo(np.int64).min


def keys(rows: np.ndarray, scores: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """int64 [...]: larger is better. `rank` is DocIds.rank, int32 [documents]; pads come last."""
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32).astype(np.int64)  # + 0 makes -0.0 equal 0.0
    ascending = np.where(bits < 0, np.int64(-(2**31)) - bits - 1, bits)  # negative floats count backwards
    if not len(rank):
        return np.full(rows.shape, _LAST)
    return np.where(rows == PAD, _LAST, (ascending << 32) | rank[rows])


def order(
    rows: np.ndarray, scores: np.ndarray, rank: np.ndarray, k: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k best (all if None) of each line, best first: int32 rows and float32 scores, pads (-1, -inf) last."""
    key = keys(rows, scores, rank)
    if k is not None and k < key.shape[1]:
        kept = np.argpartition(key, key.shape[1] - k, axis=1)[:, key.shape[1] - k :]
        rows, scores, key = (np.take_along_axis(array, kept, axis=1) for array in (rows, scores, key))
    best = np.argsort(key, axis=1)[:, ::-1]
    rows = np.take_along_axis(rows, best, axis=1).astype(np.int32)
    scores = np.take_along_axis(scores, best, axis=1).astype(np.float32)
    return rows, np.where(rows == PAD, np.float32(-np.inf), scores)


def top_k(scores: np.ndarray, rank: np.ndarray, k: int, above: float = -np.inf) -> tuple[np.ndarray, np.ndarray]:
    """The k best documents from float32 scores [queries, documents]; only scores above `above` are results."""
    rows = np.broadcast_to(np.arange(scores.shape[1], dtype=np.int32), scores.shape)
    return order(np.where(scores > above, rows, PAD), scores, rank, k)


def is_ordered(rows: np.ndarray, scores: np.ndarray, rank: np.ndarray) -> bool:
    """Whether every line is in the one order, each document once among neighbours, pads last with -inf."""
    pads = rows == PAD
    tied = np.flatnonzero(~((scores[:, 1:] < scores[:, :-1]) | pads[:, 1:]).all(axis=1))  # few lines need their keys
    key = keys(rows[tied], scores[tied], rank)
    falling = (key[:, 1:] < key[:, :-1]) | pads[tied, 1:]
    return bool(falling.all() and np.isneginf(scores[pads]).all())
