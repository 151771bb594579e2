"""Products of pairs of vectors in float64, with one fixed order of summation, document after document.

The sum over the dimensions is by halving: vectors are padded with zeros to a power of two, and as long as there are
two halves, one is added to the other. So the score of a pair has the same bits whatever is asked beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from retrieval.threads import Threads, read_ahead
from retrieval.vector_tiles import VectorTiles

__all__ = ["PairScores", "lengths"]

CHUNK = 1 << 24  # float32 numbers of documents that are fetched at a time, where they aren't in memory
SHARE = 4096  # pairs that a thread scores at least


def lengths(tile: np.ndarray, threads: Threads) -> np.ndarray:
    """float64 Euclidean norms of float32 [n, dimensions]."""
    squares = np.empty(len(tile))
    threads.share(lambda start, stop: sum_squares(tile, start, stop, squares), len(tile), SHARE)
    return np.sqrt(squares)


@dataclass(frozen=True)
class PairScores:
    """Dot products with the vectors of a corpus; cosines where `norms`, float64 [documents], are given."""

    tiles: VectorTiles
    norms: np.ndarray | None

    def __call__(self, queries: np.ndarray, counts: np.ndarray, rows: np.ndarray, threads: Threads) -> np.ndarray:
        """float32 scores: query q, float32 [queries, dimensions], with the next counts[q] of the rows."""
        half = 1 << max(queries.shape[1] - 1, 1).bit_length() - 1
        asked = [np.ascontiguousarray(part) for part in (queries[:, :half], queries[:, half:])]
        query = np.repeat(np.arange(len(queries), dtype=np.int32), counts)
        scores = np.empty(len(rows))
        for vectors, pairs in read_ahead(self._parts(rows)):

            def score(start: int, stop: int, vectors=vectors, pairs=pairs) -> None:
                score_pairs(vectors, *asked, pairs, query, start, stop, scores)

            threads.share(score, len(pairs), SHARE)
        if self.norms is not None:
            both = lengths(queries, threads)[query] * self.norms[rows]
            scores /= np.where(both == 0, 1, both)  # a zero vector has cosine 0 with everything
        return scores.astype(np.float32)

    def _parts(self, rows: np.ndarray):
        """Vectors float32 [n, dimensions], and the pairs of them as document << 32 | place of the pair, ascending."""
        pairs = rows.astype(np.int64) << 32 | np.arange(len(rows))
        pairs.sort()
        if self.tiles.whole is not None:
            yield self.tiles.whole, pairs
            return
        docs = pairs >> 32
        steps = np.diff(docs, prepend=-1) != 0
        number = np.cumsum(steps) - 1  # of each pair's document among those that are needed
        needed = docs[steps]
        step = max(1, CHUNK // self.tiles.shape[1])
        for first in range(0, len(needed), step):
            start, stop = np.searchsorted(number, [first, first + step])
            local = (number[start:stop] - first) << 32 | (pairs[start:stop] & 0xFFFFFFFF)
            yield self.tiles.rows(needed[first : first + step]), local


@njit(cache=True, nogil=True)
def score_pairs(vectors, low, high, pairs, query, first, last, scores):
    """Fill in the scores of pairs[first:last]; `low` and `high` are the first half of each query, and the rest."""
    half, rest = low.shape[1], high.shape[1]
    doc_low, doc_high, products = np.zeros(half), np.zeros(rest), np.empty(half)
    row = np.int64(-1)
    for i in range(first, last):
        if pairs[i] >> 32 != row:
            row = pairs[i] >> 32
            for j in range(half):
                doc_low[j] = vectors[row, j]
            for j in range(rest):
                doc_high[j] = vectors[row, half + j]
        place = pairs[i] & 0xFFFFFFFF
        q = query[place]
        for j in range(rest):
            products[j] = doc_low[j] * np.float64(low[q, j]) + doc_high[j] * np.float64(high[q, j])
        for j in range(rest, half):
            products[j] = doc_low[j] * np.float64(low[q, j])
        scores[place] = _halved(products, half)


@njit(cache=True, nogil=True)
def sum_squares(vectors, first, last, sums):
    """Fill in the sum of squares of the vectors from first to last."""
    width = vectors.shape[1]
    half = 1
    while 2 * half < width:
        half *= 2
    products = np.empty(half)
    for row in range(first, last):
        for j in range(half):
            products[j] = np.float64(vectors[row, j]) * np.float64(vectors[row, j])
        for j in range(half, width):
            products[j - half] += np.float64(vectors[row, j]) * np.float64(vectors[row, j])
        sums[row] = _halved(products, half)


@njit(cache=True, nogil=True)
def _halved(values, width):
    """The sum of the first `width` values, a power of two, by adding one half to the other; three halvings at once."""
    while width >= 8:
        width //= 8
        a, b, c, d = values[:width], values[width:], values[2 * width :], values[3 * width :]
        e, f, g, h = values[4 * width :], values[5 * width :], values[6 * width :], values[7 * width :]
        for j in range(width):
            a[j] = ((a[j] + e[j]) + (c[j] + g[j])) + ((b[j] + f[j]) + (d[j] + h[j]))
    while width > 1:
        width //= 2
        for j in range(width):
            values[j] += values[width + j]
    return values[0] + 0.0  # no negative zero
