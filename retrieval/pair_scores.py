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
SHARE = 256  # documents that a thread takes at least


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

    def fill(
        self, queries: np.ndarray, rows: np.ndarray, counts: np.ndarray, scores: np.ndarray, threads: Threads
    ) -> None:
        """Put the scores of query q, of float32 [queries, dimensions], with the first counts[q] of rows[q] in place.

        Float64 sums in different orders can differ by `margin`, as score; Higham (2002), 3.1, for two of them.
        """
        ends = np.zeros(len(self.tiles), np.int64)
        query, place = np.empty(counts.sum(), np.int32), np.empty(counts.sum(), np.int32)
        by_document(rows, counts, ends, query, place)
        norms, share = lengths(queries, threads), 2.0**-51 * (queries.shape[1] + 8)
        longest = self.norms.max(initial=0)
        margin = np.full(len(norms), share) if self.cosine else share * norms * longest
        divisor = norms if self.cosine else np.ones(len(norms))
        for docs, vectors, at in read_ahead(self._parts(np.flatnonzero(np.diff(ends, prepend=0)))):
            divisors = self.norms[docs] if self.cosine else np.ones(len(docs))
            asked = (queries, divisor, _inverse(divisor), margin, ends, query, place)
            there = (docs, vectors, at, divisors, _inverse(divisors))
            threads.share(partial(score_pairs, *asked, *there, scores), len(docs), SHARE)

    def _parts(self, docs: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Documents, vectors float32 [n, dimensions], and where in them those of the documents are."""
        if self.tiles.whole is not None:
            yield docs, self.tiles.whole, docs
            return
        step = max(1, CHUNK // self.tiles.shape[1])
        for first in range(0, len(docs), step):
            part = docs[first : first + step]
            yield part, self.tiles.rows(part), np.arange(len(part))


@njit(cache=True, nogil=True)
def by_document(rows, counts, ends, query, place):
    """Sort pairs by document: those of document d are query and place, in rows[query], up to ends[d]; a count first."""
    for q in range(len(counts)):
        for i in range(counts[q]):
            ends[rows[q, i]] += 1
    total = 0
    for doc in range(len(ends)):
        ends[doc], total = total, total + ends[doc]
    for q in range(len(counts)):
        for i in range(counts[q]):
            at = ends[rows[q, i]]
            query[at], place[at] = q, i
            ends[rows[q, i]] = at + 1


def _inverse(divisors: np.ndarray) -> np.ndarray:
    """1 / divisors, and 0 for 0: a zero vector has cosine 0 with everything."""
    return np.divide(1, divisors, out=np.zeros(len(divisors)), where=divisors > 0)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def score_pairs(
    queries, divisor, factor, margin, ends, query, place, docs, vectors, at, divisors, factors, scores, first, last
):
    """Fill in the scores of the pairs of docs[first:last], summed in the fixed order only where that might show."""
    width = queries.shape[1]
    vector = np.empty(width)
    for n in range(first, last):
        doc, row, unsure = docs[n], at[n], 0
        start, stop = ends[doc - 1] if doc else 0, ends[doc]
        for j in range(width):
            vector[j] = vectors[row, j]
        for i in range(start, stop):
            q, dot = query[i], 0.0
            for j in range(width):
                dot += vector[j] * np.float64(queries[q, j])
            dot *= factor[q] * factors[n]
            score = np.float32(dot - margin[q])
            unsure += score != np.float32(dot + margin[q])
            scores[q, place[i]] = score
        for i in range(start, stop if unsure else start):  # that is one document in ten thousand
            q = query[i]
            scores[q, place[i]] = _divided(fixed_dot(queries, q, vector), divisor[q] * divisors[n])


@njit(cache=True, nogil=True)
def _divided(dot, both):
    return dot / both if both else 0.0


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
