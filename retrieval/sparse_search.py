"""Exact search with weighted terms, compiled: windows of documents, and MaxScore to leave out what cannot matter.

A score is the sum of weight times impact over the terms of a query. Each product is rounded to a grid so coarse that
no sum of a query loses a bit, so sums are the same in any order, and pruned search gives what exhaustive search gives;
the grid is 2^-51 of the highest score that is possible. Sums are rounded to float32 and ordered by `retrieval.order`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import njit

from retrieval.compiled import cores, tell_first_use

__all__ = ["Impacts", "Prepared", "Ties", "WeightedTerms", "prepared", "search", "unpack"]

WINDOW = 4096  # documents whose sums are held at a time: they fit the first cache
SHARES = 8  # lots of queries per thread
LAST = np.iinfo(np.int64).min
DEPTHS = np.array([10, 100, 1000])  # a term's impact at this rank is a score that as many documents reach


class Impacts(NamedTuple):
    """Postings of each term: term t is in docs[offsets[t]:offsets[t + 1]] with the impacts beside them."""

    offsets: np.ndarray  # int64 [terms + 1]
    docs: np.ndarray  # int32 [postings], ascending within a term
    impacts: np.ndarray  # any number type [postings], none negative
    highest: np.ndarray  # float64 [1 + len(DEPTHS), terms], the highest impact of each, and those at DEPTHS; 0: too few

    @classmethod
    def of(cls, offsets: np.ndarray, docs: np.ndarray, impacts: np.ndarray) -> Impacts:
        """With the highest impacts of each term found."""
        highest = np.zeros((1 + len(DEPTHS), len(offsets) - 1))
        find_highest(offsets, impacts, DEPTHS, highest)
        return cls(offsets, docs, impacts, highest)


class WeightedTerms(NamedTuple):
    """Query q asks for terms[bounds[q]:bounds[q + 1]], each once, with positive weights."""

    bounds: np.ndarray  # int64 [queries + 1]
    terms: np.ndarray  # int32
    weights: np.ndarray  # float64


class Ties(NamedTuple):
    """Which of several documents of equal score comes first: the one of the highest rank."""

    rank: np.ndarray  # int32 [documents], DocIds.rank or another order
    rows: np.ndarray  # int32 [documents], the row of each rank

    @classmethod
    def of(cls, rank: np.ndarray) -> Ties:
        """From the rank of each row."""
        rows = np.empty(len(rank), np.int32)
        rows[rank] = np.arange(len(rank), dtype=np.int32)
        return cls(np.ascontiguousarray(rank, np.int32), rows)


def search(
    index: Impacts, queries: WeightedTerms, k: int, ties: Ties, threads: int | None = None, prune: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Rows int32 and scores float32 [queries, k] of the documents with a positive score, best first, -1 pads."""
    count = len(queries.bounds) - 1
    keys = np.full((count, k), LAST, np.int64)
    threads = threads or cores()
    tell_first_use(search_some, "the search")
    asked = prepared(index, queries, k if prune else None)
    share = max(8, count // (SHARES * threads))

    def part(first: int) -> None:
        last = min(first + share, count)
        search_some(*index[:3], *asked, first, last, ties.rank, prune, keys)
        keys[first:last].sort(axis=1)

    starts = range(0, count if k else 0, share)
    if threads == 1 or len(starts) < 2:
        list(map(part, starts))
    else:
        list(_pool(threads, os.getpid()).map(part, starts))
    return unpack(keys, ties.rows)


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that stay, since a few queries take no longer than starting some; a forked process has its own."""
    return ThreadPoolExecutor(threads)


class Prepared(NamedTuple):
    """Queries as the search wants them: of each, the terms that matter least come first."""

    bounds: np.ndarray  # int64 [queries + 1]
    terms: np.ndarray  # int32
    weights: np.ndarray  # float64
    most: np.ndarray  # float64, what each term can give, on the grid
    magic: np.ndarray  # float64 [queries], added and taken away again it rounds to the grid of the query
    reached: np.ndarray  # float64 [queries], a score that at least k documents reach


def prepared(index: Impacts, queries: WeightedTerms, k: int | None) -> Prepared:
    """Queries for a search of depth k; None where no document is to be left out beforehand."""
    query = np.repeat(np.arange(len(queries.bounds) - 1), np.diff(queries.bounds))
    most = queries.weights * index.highest[0][queries.terms]
    total = np.bincount(query, most, len(queries.bounds) - 1)
    magic = 3 * 2.0 ** np.ceil(np.log2(np.maximum(total, np.finfo(np.float32).tiny)))
    most = (most + magic[query]) - magic[query]
    order = np.lexsort((most, query))
    terms, weights, most = queries.terms[order], queries.weights[order], most[order]
    reached = np.zeros(len(magic))
    if k is not None and k <= DEPTHS[-1]:
        given = weights * index.highest[1 + np.searchsorted(DEPTHS, k)][terms]
        np.maximum.at(reached, query, (given + magic[query]) - magic[query])
    return Prepared(queries.bounds, terms, weights, most, magic, reached)


@njit(cache=True, nogil=True)
def unpack(keys, row_of_rank):
    """Rows and scores of ascending keys, turned round."""
    rows, scores = np.empty(keys.shape, np.int32), np.empty(keys.shape, np.float32)
    bits = scores.view(np.int32)
    for q in range(keys.shape[0]):
        for i in range(keys.shape[1]):
            key = keys[q, keys.shape[1] - 1 - i]
            if key == LAST:
                rows[q, i], scores[q, i] = -1, -np.inf
            else:
                rows[q, i], bits[q, i] = row_of_rank[key & 0xFFFFFFFF], key >> 32
    return rows, scores


@njit(cache=True, nogil=True)
def search_some(offsets, docs, impacts, bounds, terms, weights, most, magic, reached, first, last, rank, prune, keys):
    """Fill the lines first to last of `keys` with the best keys of each query, in no order."""
    k = keys.shape[1]
    sums, found, partial = np.zeros(WINDOW), np.empty(WINDOW, np.int32), np.empty(WINDOW)
    held, score = np.empty(max(2 * k, 64), np.int64), np.empty(1, np.float32)
    for query in range(first, last):
        start, stop = bounds[query], bounds[query + 1]
        if start == stop:
            continue
        score[0] = reached[query]
        count = _search(
            *(offsets, docs, impacts, terms[start:stop], weights[start:stop], np.cumsum(most[start:stop])),
            *(magic[query], rank, prune, k, sums, found, partial, held, score, score.view(np.int32)),
        )
        _best(held, count, k)
        kept = min(count, k)
        keys[query, :kept] = held[:kept]


@njit(cache=True, nogil=True)
def _search(
    offsets, docs, impacts, terms, weights, upto, magic, rank, prune, k, sums, found, partial, held, score, bits
):
    """Put keys in `held`, the k best among them; how many.

    upto[i] is what the terms 0 to i can give together; at least k documents reach score[0], and `bits` are its bits.
    """
    cursors, ends = offsets[terms], offsets[terms + 1]
    starts = cursors.copy()
    count, lowest = 0, (np.int64(bits[0]) << 32) - 1  # no key up to `lowest` is among the k best
    floor = _below(score, bits)  # nor is a sum below `floor`; the terms before `essential` cannot reach it together
    essential = _essential(upto, floor)
    while True:
        base = _next(docs, cursors, ends, essential)
        if base < 0:
            return count
        first, seen = _fill(docs, impacts, weights, magic, starts, cursors, ends, essential, base, sums)
        need = floor - upto[first - 1] if first else floor
        if 4 * seen > WINDOW:
            candidates = _gather_all(need, sums, found, partial)
        else:
            candidates = _gather_few(docs, starts, cursors, first, base, need, sums, found, partial)
        for i in range(first - 1, -1, -1):
            candidates = _drop(found, partial, candidates, floor - upto[i])
            if candidates:
                starts[i] = _seek(docs, starts[i], ends[i], base)
                stop = _seek(docs, starts[i], ends[i], base + WINDOW)
                _complete(docs, impacts, starts[i], stop, base, weights[i], magic, candidates, sums, found, partial)
        before = lowest
        count, lowest = _keep(base, candidates, found, partial, rank, k, held, count, lowest, score, bits)
        if prune and lowest > before:
            bits[0] = lowest >> 32
            floor = _below(score, bits)
            essential = _essential(upto, floor)


@njit(cache=True, nogil=True)
def _fill(docs, impacts, weights, magic, starts, cursors, ends, essential, base, sums):
    """Add up the essential terms in the window, and others while they are short beside them.

    The first term that was added up, and how many postings there were.
    """
    seen = 0
    for i in range(essential, len(cursors)):
        starts[i], cursors[i] = cursors[i], _seek(docs, cursors[i], ends[i], base + WINDOW)
        seen += _add(docs, impacts, starts[i], cursors[i], base, weights[i], magic, sums)
    for i in range(essential - 1, -1, -1):
        starts[i] = _seek(docs, starts[i], ends[i], base)
        cursors[i] = _seek(docs, starts[i], ends[i], base + WINDOW)
        if cursors[i] - starts[i] > 2 * seen + 256:
            return i + 1, seen
        seen += _add(docs, impacts, starts[i], cursors[i], base, weights[i], magic, sums)
    return 0, seen


@njit(cache=True, nogil=True)
def _keep(base, candidates, found, partial, rank, k, held, count, lowest, score, bits):
    """Put the candidates with a key above `lowest` in `held`, cut to the best k whenever it is full."""
    for i in range(candidates):
        score[0] = partial[i]
        key = (np.int64(bits[0]) << 32) | rank[base + found[i]]
        if key > lowest:
            held[count] = key
            count += 1
            if count == len(held):
                _best(held, count, k)
                count, lowest = k, held[k - 1]
    return count, lowest


@njit(cache=True, nogil=True)
def _below(score, bits):
    """The float32 before a score: no sum below it is rounded to the score."""
    bits[0] = max(bits[0] - 1, 0)
    return np.float64(score[0])


@njit(cache=True, nogil=True)
def _essential(upto, floor):
    """How many terms cannot reach `floor` together; never all."""
    return min(np.searchsorted(upto, floor), len(upto) - 1)


@njit(cache=True, nogil=True)
def _next(docs, cursors, ends, essential):
    """The first document that an essential term still has, -1 for none."""
    base = np.int64(-1)
    for i in range(essential, len(cursors)):
        if cursors[i] < ends[i] and (base < 0 or docs[cursors[i]] < base):
            base = np.int64(docs[cursors[i]])
    return base


@njit(cache=True, nogil=True)
def _add(docs, impacts, start, stop, base, weight, magic, sums):
    """Add the products of a term's postings to the sums of the window; how many there are."""
    if start < stop and docs[stop - 1] - docs[start] == stop - start - 1:  # every document of a range, as in a vector
        place, given = sums[docs[start] - base :], impacts[start:stop]
        for i in range(len(given)):
            place[i] += (weight * given[i] + magic) - magic
        return stop - start
    for place in range(start, stop):
        sums[np.uint64(docs[place] - base)] += (weight * impacts[place] + magic) - magic
    return stop - start


@njit(cache=True, nogil=True)
def _gather_all(need, sums, found, partial):
    """Documents of the window whose sum is positive and not below `need`: places and sums. The sums are zero after."""
    count, least = 0, max(need, 1e-300)
    for first in range(0, WINDOW, 64):
        some = np.int64(0)
        for i in range(first, first + 64):
            some |= np.int64(sums[i] >= least)
        if some:
            for i in range(first, first + 64):
                found[count], partial[count] = i, sums[i]
                count += sums[i] >= least
        for i in range(first, first + 64):
            sums[i] = 0.0
    return count


@njit(cache=True, nogil=True)
def _gather_few(docs, starts, cursors, first, base, need, sums, found, partial):
    """The same by way of the postings that were added up, where these are few."""
    count, least = 0, max(need, 1e-300)
    for term in range(first, len(cursors)):
        for cursor in range(starts[term], cursors[term]):
            place = np.uint64(docs[cursor] - base)
            total = sums[place]
            sums[place] = 0.0
            if total >= least:
                found[count], partial[count] = place, total
                count += 1
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
def _complete(docs, impacts, start, stop, base, weight, magic, candidates, sums, found, partial):
    """Add the products of a term's postings in the window to the candidates' sums."""
    if stop - start < 8 * candidates:
        for i in range(candidates):
            sums[found[i]] = partial[i]
        for place in range(start, stop):
            doc = docs[place] - base
            if sums[doc] > 0:
                sums[doc] += (weight * impacts[place] + magic) - magic
        for i in range(candidates):
            partial[i], sums[found[i]] = sums[found[i]], 0.0
        return
    for i in range(candidates):
        place = _seek(docs, start, stop, base + found[i])
        if place < stop and docs[place] == base + found[i]:
            partial[i] += (weight * impacts[place] + magic) - magic


@njit(cache=True, nogil=True)
def _seek(docs, cursor, end, doc):
    """The first posting from `cursor` on whose document is not before `doc`: doubling steps, then halving ones."""
    if cursor >= end or docs[cursor] >= doc:
        return cursor
    end = min(end, cursor + doc - docs[cursor])  # no further: documents ascend by one at least
    if docs[end - 1] < doc:
        return end
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
def find_highest(offsets, impacts, depths, highest):
    """Fill float64 [1 + depths, terms]: the highest impact of each term, and those at depths it has postings for."""
    most = 0
    for term in range(len(offsets) - 1):
        most = max(most, offsets[term + 1] - offsets[term])
    held = np.empty(most, impacts.dtype)
    for term in range(len(offsets) - 1):
        count = offsets[term + 1] - offsets[term]
        for i in range(count):
            held[i] = impacts[offsets[term] + i]
            highest[0, term] = max(highest[0, term], held[i])
        for i in range(len(depths) - 1, -1, -1):
            if depths[i] <= count:
                _best(held, count, depths[i])
                highest[1 + i, term] = held[depths[i] - 1]
                count = depths[i]


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
