"""Exact search with weighted terms, compiled: windows of documents, and MaxScore to leave out what cannot matter.

A score is the sum of weight times impact over the terms of a query. Each product is rounded to a grid so coarse that
no sum of a query loses a bit, so sums are the same in any order, and pruned search gives what exhaustive search gives;
the grid is 2^-51 of the highest score that is possible. Sums are rounded to float32 and ordered by `retrieval.order`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numba import njit

__all__ = ["Impacts", "WeightedTerms", "search"]

WINDOW = 2048  # documents whose sums are held at a time: they fit the first cache
SHARE = 32  # queries that a thread takes at a time
LAST = np.iinfo(np.int64).min


class Impacts(NamedTuple):
    """Postings of each term: term t is in docs[offsets[t]:offsets[t + 1]] with the impacts beside them."""

    offsets: np.ndarray  # int64 [terms + 1]
    docs: np.ndarray  # int32 [postings], ascending within a term
    impacts: np.ndarray  # any number type [postings], none negative
    highest: np.ndarray  # float64 [terms], the highest impact of each

    @classmethod
    def of(cls, offsets: np.ndarray, docs: np.ndarray, impacts: np.ndarray) -> Impacts:
        """With the highest impact of each term found; 0 for a term without documents."""
        highest = np.zeros(len(offsets) - 1)
        held = np.flatnonzero(np.diff(offsets))
        if len(held):
            highest[held] = np.maximum.reduceat(impacts, offsets[held])
        return cls(offsets, docs, impacts, highest)


class WeightedTerms(NamedTuple):
    """Query q asks for terms[bounds[q]:bounds[q + 1]], each once, with positive weights."""

    bounds: np.ndarray  # int64 [queries + 1]
    terms: np.ndarray  # int32
    weights: np.ndarray  # float64


def search(
    index: Impacts, queries: WeightedTerms, k: int, rank: np.ndarray, threads: int | None = None, prune: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Rows int32 and scores float32 [queries, k] of the documents with a positive score, best first, -1 pads.

    `rank` int32 [documents], DocIds.rank, decides between equal scores: the higher comes first.
    """
    count = len(queries.bounds) - 1
    keys = np.full((count, k), LAST, np.int64)
    threads = threads or len(os.sched_getaffinity(0))

    def part(first: int) -> None:
        last = min(first + SHARE, count)
        search_some(*index, *queries, first, last, rank, prune, keys)
        keys[first:last].sort(axis=1)

    starts = range(0, count if k else 0, SHARE)
    if threads == 1 or len(starts) < 2:
        for first in starts:
            part(first)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, starts))
    return unpack(keys, rows_by_rank(rank))


@njit(cache=True, nogil=True)
def rows_by_rank(rank):
    """int32 [documents], the row of each rank."""
    rows = np.empty(len(rank), np.int32)
    for row in range(len(rank)):
        rows[rank[row]] = row
    return rows


@njit(cache=True, nogil=True)
def unpack(keys, rows_by_rank):
    """Rows and scores of ascending keys, turned round."""
    rows, scores = np.empty(keys.shape, np.int32), np.empty(keys.shape, np.float32)
    bits = scores.view(np.int32)
    for q in range(keys.shape[0]):
        for i in range(keys.shape[1]):
            key = keys[q, keys.shape[1] - 1 - i]
            if key == LAST:
                rows[q, i], scores[q, i] = -1, -np.inf
            else:
                rows[q, i], bits[q, i] = rows_by_rank[key & 0xFFFFFFFF], key >> 32
    return rows, scores


@njit(cache=True, nogil=True)
def search_some(offsets, docs, impacts, highest, bounds, terms, weights, first, last, rank, prune, keys):
    """Fill the lines first to last of `keys` with the best keys of each query, in no order."""
    k = keys.shape[1]
    room = (np.zeros(WINDOW), np.empty(WINDOW, np.int32), np.empty(WINDOW), np.empty(max(2 * k, 64), np.int64))
    for query in range(first, last):
        start, stop = bounds[query], bounds[query + 1]
        bound = weights[start:stop] * highest[terms[start:stop]]
        total = bound.sum()
        if total <= 0:
            continue
        magic = 3 * 2.0 ** np.ceil(np.log2(total))  # adding and taking it away again rounds to the grid
        bound = (bound + magic) - magic
        order = np.argsort(bound)  # the terms that matter least come first
        few, heavy = terms[start:stop][order], weights[start:stop][order]
        count = _search(offsets, docs, impacts, few, heavy, np.cumsum(bound[order]), magic, rank, prune, k, *room)
        held = room[3]
        _best(held, count, k)
        kept = min(count, k)
        keys[query, :kept] = held[:kept]


@njit(cache=True, nogil=True)
def _search(offsets, docs, impacts, terms, weights, upto, magic, rank, prune, k, sums, found, partial, held):
    """Put keys in `held`, the k best among them; how many. upto[i] is what the terms 0 to i can give together."""
    cursors, ends = offsets[terms], offsets[terms + 1]
    starts = cursors.copy()
    score = np.empty(1, np.float32)
    bits = score.view(np.int32)
    count, lowest = 0, np.int64(0)
    essential, floor = 0, 0.0  # the terms before `essential` cannot lift a document to `floor` by themselves
    while True:
        base = _next(docs, cursors, ends, essential)
        if base < 0:
            return count
        seen = 0
        for i in range(essential, len(terms)):
            starts[i] = cursors[i]
            cursors[i] = _add(docs, impacts, cursors[i], ends[i], base, weights[i], magic, sums)
            seen += cursors[i] - starts[i]
        need = floor - upto[essential - 1] if essential else floor
        candidates = _gather(docs, starts, cursors, essential, base, seen, need, sums, found, partial)
        for i in range(essential - 1, -1, -1):
            candidates = _drop(found, partial, candidates, floor - upto[i])
            if candidates:
                cursors[i] = _complete(
                    docs, impacts, cursors[i], ends[i], base, weights[i], magic, candidates, sums, found, partial
                )
        for i in range(candidates):
            score[0] = partial[i]
            key = (np.int64(bits[0]) << 32) | rank[base + found[i]]
            if key > lowest:
                held[count] = key
                count += 1
                if count == len(held):
                    _best(held, count, k)
                    count, lowest = k, held[k - 1]
                    if prune:
                        bits[0] = (lowest >> 32) - 1  # a sum below this float cannot be rounded to the lowest score
                        floor = np.float64(score[0])
                        while essential < len(terms) - 1 and upto[essential] < floor:
                            essential += 1


@njit(cache=True, nogil=True)
def _next(docs, cursors, ends, essential):
    """The first document that an essential term still has, -1 for none."""
    base = np.int64(-1)
    for i in range(essential, len(cursors)):
        if cursors[i] < ends[i] and (base < 0 or docs[cursors[i]] < base):
            base = np.int64(docs[cursors[i]])
    return base


@njit(cache=True, nogil=True)
def _add(docs, impacts, cursor, end, base, weight, magic, sums):
    """Add a term's products to the sums of the window; where its postings go on after it."""
    stop = _seek(docs, cursor, end, base + WINDOW)
    for place in range(cursor, stop):
        sums[np.uint64(docs[place] - base)] += (weight * impacts[place] + magic) - magic
    return stop


@njit(cache=True, nogil=True)
def _gather(docs, starts, cursors, essential, base, seen, need, sums, found, partial):
    """Documents of the window whose sum is positive and not below `need`: places and sums. The sums are zero after."""
    count = 0
    if 8 * seen > WINDOW:
        least = max(need, 1e-300)
        for first in range(0, WINDOW, 16):
            any_ = False
            for i in range(first, first + 16):
                any_ |= sums[i] >= least
            if any_:
                for i in range(first, first + 16):
                    found[count], partial[count] = i, sums[i]
                    count += sums[i] >= least
        sums[:] = 0.0
        return count
    for term in range(essential, len(cursors)):
        for cursor in range(starts[term], cursors[term]):
            place = docs[cursor] - base
            if sums[place] > 0:
                found[count], partial[count] = place, sums[place]
                count += sums[place] >= need
                sums[place] = 0.0
    return count


@njit(cache=True, nogil=True)
def _drop(found, partial, candidates, need):
    """Keep the candidates with a sum of at least `need`."""
    kept = 0
    for i in range(candidates):
        found[kept], partial[kept] = found[i], partial[i]
        kept += partial[i] >= need
    return kept


@njit(cache=True, nogil=True)
def _complete(docs, impacts, cursor, end, base, weight, magic, candidates, sums, found, partial):
    """Add a term's products to the candidates' sums; where its postings in the window begin."""
    start = _seek(docs, cursor, end, base)
    stop = _seek(docs, start, end, base + WINDOW)
    if stop - start < 8 * candidates:
        for i in range(candidates):
            sums[found[i]] = partial[i]
        for place in range(start, stop):
            doc = docs[place] - base
            if sums[doc] > 0:
                sums[doc] += (weight * impacts[place] + magic) - magic
        for i in range(candidates):
            partial[i], sums[found[i]] = sums[found[i]], 0.0
        return start
    for i in range(candidates):
        place = _seek(docs, start, stop, base + found[i])
        if place < stop and docs[place] == base + found[i]:
            partial[i] += (weight * impacts[place] + magic) - magic
    return start


@njit(cache=True, nogil=True)
def _seek(docs, cursor, end, doc):
    """The first posting from `cursor` on whose document is not before `doc`: doubling steps, then halving ones."""
    step = 1
    while cursor + step < end and docs[cursor + step] < doc:
        cursor += step
        step *= 2
    end = min(end, cursor + step)
    while cursor < end:
        middle = (cursor + end) // 2
        if docs[middle] < doc:
            cursor = middle + 1
        else:
            end = middle
    return cursor


@njit(cache=True, nogil=True)
def _best(held, count, k):
    """Bring the k largest of held[:count] to its front, the k-th itself to held[k - 1] (Hoare 1961)."""
    low, high = 0, count - 1
    while low < high and k <= count:
        pivot = held[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while held[i] > pivot:
                i += 1
            while held[j] < pivot:
                j -= 1
            if i <= j:
                held[i], held[j] = held[j], held[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            return
