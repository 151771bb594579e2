"""The one order (retrieval.order) in compiled code, for lines of different lengths."""

from __future__ import annotations

import numpy as np
from numba import njit

from retrieval.order import PAD
from retrieval.sparse_search import Ties
from retrieval.threads import Threads

__all__ = ["rank_lines"]

LAST = np.iinfo(np.int64).min
CELLS = 1 << 16  # keys that a thread sorts at a time


def rank_lines(
    rows: np.ndarray,
    scores: np.ndarray,
    counts: np.ndarray,
    ties: Ties,
    best: tuple[np.ndarray, np.ndarray],
    lines: np.ndarray,
    threads: Threads,
) -> None:
    """Put the best of the first counts[q] rows and float32 scores of line q into lines[q] of `best`, pads last."""
    width, bits = max(best[0].shape[1], int(counts.max(initial=0))), scores.view(np.int32)

    def part(first: int, last: int) -> None:
        keys = np.full((last - first, width), LAST)
        pack(rows[first:last], bits[first:last], counts[first:last], ties.rank, keys)
        keys.sort(axis=1)
        unpack(keys, ties.rows, lines[first:last], best[0], best[1])

    threads.share(part, len(lines), 1, max(1, CELLS // max(width, 1)))


@njit(cache=True, nogil=True)
def pack(rows, bits, counts, rank, keys):
    """Score and rank of each result in one number, as retrieval.order has it: a larger one is better."""
    for q in range(len(counts)):
        for i in range(counts[q]):
            keys[q, i] = np.int64(_turned(_same_zero(bits[q, i]))) << 32 | rank[rows[q, i]]


@njit(cache=True, nogil=True)
def unpack(keys, row_of_rank, lines, rows, scores):
    """Rows and scores of the keys at the end of each line, from the last on."""
    score = np.empty(1, np.float32)
    bits = score.view(np.int32)
    for q in range(len(lines)):
        for i in range(rows.shape[1]):
            key = keys[q, keys.shape[1] - 1 - i]
            bits[0] = _turned(key >> 32)
            rows[lines[q], i] = PAD if key == LAST else row_of_rank[key & 0xFFFFFFFF]
            scores[lines[q], i] = -np.inf if key == LAST else score[0]


@njit(cache=True, nogil=True)
def _turned(bits):
    """Bits of a float32 as a number that rises with it, and back: negative ones count backwards."""
    return bits if bits >= 0 else -(2**31) - 1 - bits


@njit(cache=True, nogil=True)
def _same_zero(bits):
    """Bits of 0 for those of negative zero."""
    return 0 if bits == -(2**31) else bits
