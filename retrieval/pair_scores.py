"""Scores of pairs of vectors, document after document: float64 sums in one fixed order, rounded to float32.

The order of summation is by halving: vectors are padded with zeros to a power of two, and one half of the products is
added to the other until one is left. So a pair has the same score whatever is asked beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

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
    threads.share(partial(sum_squares, tile, squares), len(tile), SHARE)
    return np.sqrt(squares)


@dataclass(frozen=True)
class PairScores:
    """Dot products with the vectors of a corpus, or cosines."""

    tiles: VectorTiles
    norms: np.ndarray  # float64 [documents]
    cosine: bool

    def __call__(self, queries: np.ndarray, counts: np.ndarray, rows: np.ndarray, threads: Threads) -> np.ndarray:
        """float32 scores: query q, of float32 [queries, dimensions], with the next counts[q] of the rows."""
        query = np.repeat(np.arange(len(queries), dtype=np.int32), counts)
        norms, scores = lengths(queries, threads), np.empty(len(rows), np.float32)
        longest = 1.0 if self.cosine else self.norms.max(initial=0)
        for vectors, needed, pairs in read_ahead(self._parts(rows)):
            asked = (queries, norms, self.cosine, longest, query, pairs, vectors, self.norms[needed], scores)
            threads.share(partial(score_pairs, *asked), len(pairs), SHARE)
        return scores

    def _parts(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, slice | np.ndarray, np.ndarray]]:
        """Vectors float32 [n, dimensions], their rows, and pairs: place in them << 32 | place in `rows`, ascending."""
        pairs = rows.astype(np.int64) << 32 | np.arange(len(rows))
        pairs.sort()
        if self.tiles.whole is not None:
            yield self.tiles.whole, slice(None), pairs
            return
        docs = pairs >> 32
        fresh = np.diff(docs, prepend=-1) != 0
        needed, number = docs[fresh], np.cumsum(fresh) - 1
        step = max(1, CHUNK // self.tiles.shape[1])
        for first in range(0, len(needed), step):
            some = slice(*np.searchsorted(number, [first, first + step]))
            part = needed[first : first + step]
            yield self.tiles.rows(part), part, (number[some] - first) << 32 | (pairs[some] & 0xFFFFFFFF)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def score_pairs(queries, asked, cosine, longest, query, pairs, vectors, norms, scores, first, last):
    """Fill in the scores of pairs[first:last].

    float64 sums in another order can differ by `margin` (Higham 2002). Only where that might show in float32, which is
    one pair in a hundred thousand, is there need of the fixed order.
    """
    width = queries.shape[1]
    doc, row = np.empty(width), np.int64(-1)
    for i in range(first, last):
        if pairs[i] >> 32 != row:
            row = pairs[i] >> 32
            for j in range(width):
                doc[j] = vectors[row, j]
        place = pairs[i] & 0xFFFFFFFF
        q, dot = query[place], 0.0
        for j in range(width):
            dot += doc[j] * np.float64(queries[q, j])
        margin = 2.0**-51 * (width + 8) * asked[q] * (norms[row] if cosine else longest)
        both = asked[q] * norms[row] if cosine else 1.0
        scores[place] = _rounded(dot, margin, both, queries, q, doc)


@njit(cache=True, nogil=True)
def _rounded(dot, margin, both, queries, q, doc):
    """The score as float32; a zero vector has cosine 0 with everything. There is no negative zero."""
    if both == 0:
        return np.float32(0)
    low, high = np.float32((dot - margin) / both), np.float32((dot + margin) / both)
    return (low if low == high else np.float32(fixed_dot(queries, q, doc) / both)) + np.float32(0)


@njit(cache=True, nogil=True)
def fixed_dot(queries, q, doc):
    """The sum of products by halving. Each product of two float32 numbers is exact in float64."""
    products = np.zeros(_padded(len(doc)))
    for j in range(len(doc)):
        products[j] = np.float64(queries[q, j]) * np.float64(doc[j])
    return _halved(products)


@njit(cache=True, nogil=True)
def sum_squares(vectors, sums, first, last):
    """Fill in the sum of squares of the vectors from first to last, in the same order."""
    width = vectors.shape[1]
    products = np.zeros(_padded(width))
    for row in range(first, last):
        for j in range(width):
            products[j] = np.float64(vectors[row, j]) * np.float64(vectors[row, j])
        products[width:] = 0
        sums[row] = _halved(products)


@njit(cache=True, nogil=True)
def _padded(width):
    """The power of two from `width` on."""
    padded = 1
    while padded < width:
        padded *= 2
    return padded


@njit(cache=True, nogil=True)
def _halved(values):
    """The sum of a power of two of values, of which one half is added to the other until one is left."""
    width = len(values)
    while width > 1:
        width //= 2
        low, high = values[:width], values[width:]
        for j in range(width):
            low[j] += high[j]
    return values[0]
