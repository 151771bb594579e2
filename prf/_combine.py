"""Sums of weighted documents, each cut to its heaviest terms, in compiled code."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["combine"]


@njit(cache=True, nogil=True)
def combine(offsets, ids, weights, passes, alphabet, bounds, places, factors, each, size, order):
    """Sum factors[i] times document places[i], i from bounds[q] to bounds[q + 1], for each query q.

    Documents are CSR arrays; only terms that pass count. `each` of 0 cuts no document. Offsets int64 [queries + 1], ids
    int32 and weights float64 of the sums, cut to `size` terms of positive weight and normalised.
    """
    queries, terms = len(bounds) - 1, len(passes)
    found, out_ids = np.zeros(queries + 1, np.int64), np.empty(queries * min(size, terms), np.int32)
    out_weights = np.empty(len(out_ids), np.float64)
    sums, seen, touched = np.zeros(terms), np.zeros(terms, np.bool_), np.empty(terms, np.int32)
    cut = min(each, terms) if each else terms
    heavy, light = np.empty(cut, np.int32), np.empty(cut)
    most, least = np.empty(min(size, terms), np.int32), np.empty(min(size, terms))
    for query in range(queries):
        count = 0
        for i in range(bounds[query], bounds[query + 1]):
            start, stop = offsets[places[i]], offsets[places[i] + 1]
            kept = _heaviest(ids[start:stop], weights[start:stop], passes, alphabet, each, heavy, light)
            norm = _norm(light, kept, order)
            for j in range(kept):
                term = heavy[j]
                if not seen[term]:
                    seen[term], touched[count] = True, term
                    count += 1
                sums[term] += light[j] / norm * factors[i]
        kept = _heaviest(touched[:count], sums[touched[:count]], seen, alphabet, size, most, least)
        norm = _norm(least, kept, order)
        for j in range(kept):
            out_ids[found[query] + j], out_weights[found[query] + j] = most[j], least[j] / norm
        found[query + 1] = found[query] + kept
        for j in range(count):
            sums[touched[j]], seen[touched[j]] = 0.0, False
    return found, out_ids[: found[-1]], out_weights[: found[-1]]


@njit(cache=True, nogil=True)
def _heaviest(ids, weights, passes, alphabet, size, best, weight_of):
    """Fill the `size` (0: all) heaviest positive entries that pass, the first of the alphabet among equals; count."""
    count = 0
    for i in range(len(ids)):
        if not passes[ids[i]] or weights[i] <= 0:
            continue
        if size and count == size and not _before(weights[i], ids[i], weight_of[count - 1], best[count - 1], alphabet):
            continue
        place = count if not size or count < size else count - 1
        count = place + 1
        if size:  # kept in order, the lightest last
            while place > 0 and _before(weights[i], ids[i], weight_of[place - 1], best[place - 1], alphabet):
                best[place], weight_of[place] = best[place - 1], weight_of[place - 1]
                place -= 1
        best[place], weight_of[place] = ids[i], weights[i]
    return count


@njit(cache=True, nogil=True)
def _before(weight, term, other, other_term, alphabet):
    return weight > other or (weight == other and alphabet[term] < alphabet[other_term])


@njit(cache=True, nogil=True)
def _norm(weights, count, order):
    total = 0.0
    for i in range(count):
        total += abs(weights[i]) if order == 1 else weights[i] * weights[i]
    return (total if order == 1 else np.sqrt(total)) or 1.0
