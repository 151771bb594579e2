"""Which documents may be among the k best: those whose product is no further below the k-th than errors can reach."""

from __future__ import annotations

from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numba import njit, uint64

from retrieval.compiled import tell_first_use
from retrieval.threads import Threads

__all__ = ["BLOCK", "Candidates"]

FEW = 8  # queries that a thread takes at least
BLOCK = 64  # products that are compared at a time
SPARE = 16  # a threshold is good enough when no more than k / SPARE documents too many reach it


class Candidates:
    """The candidates of some queries so far. Several threads may add what they multiplied.

    Each query has room for `capacity` of them. When that is used up, the k-th best product becomes its limit, less
    `slack`, twice what a product can be wrong by. A query whose room this doesn't free is given up: `full` says so.
    """

    def __init__(self, slack: np.ndarray, k: int, capacity: int, threads: Threads):
        """`slack` is float32 [queries]; `capacity` is k + k / SPARE + BLOCK or more."""
        count = len(slack)
        self.slack, self.k, self.threads = slack, k, threads
        self.limits = np.full(count, -np.inf, np.float32)  # no product below is a candidate
        self.counts, self.full = np.zeros(count, np.int64), np.zeros(count, np.bool_)
        self.products, self.rows = np.empty((count, capacity), np.float32), np.empty((count, capacity), np.int32)
        step = max(FEW, -(-count // (4 * threads.count)))
        self._parts = [(start, min(start + step, count), Lock()) for start in range(0, count, step)]
        tell_first_use(gather, "exact search")

    def gather(self, first: int, products: np.ndarray) -> None:
        """Take from float32 [queries, documents], of documents `first` and on."""
        turn = first // max(products.shape[1], 1) % len(self._parts)  # not all threads begin with the same queries
        for start, stop, lock in self._parts[turn:] + self._parts[:turn]:
            with lock:
                gather(products, first, start, stop, *self._held())

    def add(self, first: int, queries: np.ndarray, docs: np.ndarray, products: np.ndarray) -> None:
        """Take these products, of ascending queries and documents counted from `first` on."""
        for start, stop, lock in self._parts:
            some = slice(*np.searchsorted(queries, [start, stop]))
            with lock:
                add(queries[some], docs[some], products[some], first, *self._held())

    def cut(self) -> None:
        """Leave to each query what its k-th best product allows: the first counts[q] of rows[q], none where full."""
        self.threads.share(partial(cut, *self._held()), len(self.counts), FEW)

    def _held(self) -> tuple[Any, ...]:
        return (self.limits, self.counts, self.full, self.products, self.rows, self.k, self.slack)


@njit(cache=True, nogil=True)
def gather(matrix, first, start, stop, limits, counts, full, products, rows, k, slack):
    """Append what reaches its query's limit, for the queries from start to stop.

    Places are unsigned, as numba would look after negative ones; some is int32 throughout, or there is no vector code.
    """
    width, block = uint64(matrix.shape[1]), uint64(BLOCK)
    for q in range(uint64(start), uint64(stop)):
        limits[q] = max(limits[q], _first_limit(matrix, q, limits[q], k, slack[q]))
        limit, count = limits[q], uint64(counts[q])
        for at in range(uint64(0), width, block):
            end, some = min(at + block, width), np.int32(0)
            for j in range(at, end):
                some = np.int32(some | np.int32(matrix[q, j] >= limit))
            if not some:
                continue
            if count + block > uint64(products.shape[1]):
                counts[q] = count
                _make_room(q, limits, counts, full, products, rows, k, slack)
                limit, count = limits[q], uint64(counts[q])
                if full[q]:
                    break
            for j in range(at, end):  # without branches, since these would be guessed wrong too often
                product = matrix[q, j]
                products[q, count] = product
                rows[q, count] = np.int32(first + np.int64(j))
                count += uint64(product >= limit)
        counts[q] = count


@njit(cache=True, nogil=True)
def _first_limit(matrix, q, limit, k, slack):
    """The limit that the first products set, of so many documents that k are among them."""
    if limit == -np.inf and matrix.shape[1] > k:
        return _threshold(matrix, q, matrix.shape[1], k, k + k // SPARE) - slack
    return limit


@njit(cache=True, nogil=True)
def add(queries, docs, found, first, limits, counts, full, products, rows, k, slack):
    """Append single products that reach their query's limit."""
    for i in range(len(queries)):
        q = queries[i]
        if counts[q] == products.shape[1]:
            _make_room(q, limits, counts, full, products, rows, k, slack)
        if found[i] >= limits[q]:
            products[q, counts[q]] = found[i]
            rows[q, counts[q]] = first + docs[i]
            counts[q] += 1


@njit(cache=True, nogil=True)
def cut(limits, counts, full, products, rows, k, slack, start, stop):
    """Leave to each query what its k-th best product allows."""
    for q in range(start, stop):
        if not full[q]:
            _compact(q, k, limits, counts, products, rows, k, slack)


@njit(cache=True, nogil=True)
def _make_room(q, limits, counts, full, products, rows, k, slack):
    """Drop what cannot be among the k best any more, or give the query up where that is too little."""
    _compact(q, k + k // SPARE, limits, counts, products, rows, k, slack)
    if 4 * counts[q] > 3 * products.shape[1]:
        full[q], counts[q], limits[q] = True, 0, np.inf


@njit(cache=True, nogil=True)
def _compact(q, enough, limits, counts, products, rows, k, slack):
    """Raise the limit to what at least k products reach, and not many more than `enough`; drop those below."""
    limits[q] = max(limits[q], _threshold(products, q, counts[q], k, enough) - slack[q])
    limit, kept = limits[q], 0
    for i in range(counts[q]):
        product, row = products[q, i], rows[q, i]
        products[q, kept], rows[q, kept] = product, row
        kept += product >= limit
    counts[q] = kept


@njit(cache=True, nogil=True)
def _threshold(products, q, count, k, enough):
    """A number that at least k of the products reach, found by bisection; at most `enough` if ties allow."""
    low, high = _extremes(products, q, count)
    reach = count
    while reach > enough and low < high:
        middle = np.float32(0.5) * low + np.float32(0.5) * high
        middle = middle if low < middle else high  # between neighbours there is nothing
        above = np.int32(0)
        for i in range(count):
            above = np.int32(above + np.int32(products[q, i] >= middle))
        if above >= k:
            low, reach = middle, above
        elif middle < high:
            high = middle
        else:
            return low
    return low


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _extremes(products, q, count):
    """The least and the greatest of the products, of which none is NaN."""
    low = high = products[q, 0]
    for i in range(count):
        product = products[q, i]
        low = product if product < low else low
        high = product if product > high else high
    return low, high
