"""Texts that say nearly the same: their sets of word n-grams (shingles, Broder 1997) have a high Jaccard similarity.

Words are Unicode's in lower case, so case and punctuation play no part. The search is exact: two sets with similarity t
or more share one of the n - ceil(t n) + 1 rarest of the n members of each (prefix filtering, Chaudhuri et al. 2006), so
only texts that share a rare shingle are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit

from retrieval.analyzers.english import English

__all__ = ["NearTexts", "Shingles", "shingles"]

FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing
SLACK = 1e-9  # of a share of a count, whose last bits are off


@dataclass(frozen=True, eq=False)
class Shingles:
    """Texts as sets of hashed word n-grams, packed: text i has codes[offsets[i]:offsets[i + 1]]."""

    codes: np.ndarray  # uint64, of each text ascending, each once
    offsets: np.ndarray  # int64 [texts + 1]
    whole: np.ndarray  # uint64 [texts], of all its words in order; 0 for a text without words

    def __len__(self) -> int:
        return len(self.whole)


def shingles(texts: Sequence[str], words: int = 3) -> Shingles:
    """The runs of so many words of each text; a shorter text is one run, and one without words has none.

    Raises ValueError for words below 1.
    """
    if words < 1:
        raise ValueError(f"shingles of {words} words; 1 is the least")
    terms = English(stemmer=None, stopwords=[]).analyze(pa.array(texts, pa.large_string()))
    hashes = np.array([_hash(term) for term in terms.terms.to_pylist()], np.uint64)
    return Shingles(*_shingles(hashes[terms.ids], np.asarray(terms.offsets, np.int64), words, FACTOR))


class NearTexts:
    """Texts that others are compared with. Two without words are not alike."""

    def __init__(self, texts: Shingles, threshold: float = 0.8):
        """`threshold` is the similarity from which two texts are near duplicates. Raises ValueError off (0, 1]."""
        if not 0 < threshold <= 1:
            raise ValueError(f"near duplicates from a Jaccard similarity of {threshold}: it is above 0 and at most 1")
        self.texts, self.threshold = texts, threshold
        self._known, places, counts = np.unique(texts.codes, return_inverse=True, return_counts=True)
        self._rank = np.empty(len(counts), np.int64)  # of each code, rarest first
        self._rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
        text, rank = _prefixes(self._rank[places], texts.offsets, threshold)
        order = np.argsort(rank, kind="stable")
        self._postings = text[order]
        self._starts = np.searchsorted(rank[order], np.arange(len(counts) + 1))

    def find(self, texts: Shingles) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Place of a text, place of one here that it resembles, and how much: int64, int64, float64 [pairs].

        Ascending by the first, then the second.
        """
        ranks = np.full(len(texts.codes), -1, np.int64)  # what no text here has is rarest
        if len(self._known):
            places = np.searchsorted(self._known, texts.codes).clip(max=len(self._known) - 1)
            ranks = np.where(self._known[places] == texts.codes, self._rank[places], ranks)
        text, rank = _prefixes(ranks, texts.offsets, self.threshold)
        there = (texts.codes, texts.offsets, self.texts.codes, self.texts.offsets)
        left, right, shares = _near(text, rank, self._starts, self._postings, *there, self.threshold - SLACK)
        order = np.lexsort((right, left))
        return left[order], right[order], shares[order]


def _hash(term: str) -> int:
    return int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "little")


def _prefixes(ranks: np.ndarray, offsets: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Text and rank of the rarest codes of each text, as many as one of a similar text must be among."""
    sizes = np.diff(offsets)
    text = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((ranks, text))
    kept = sizes - np.ceil(threshold * sizes - SLACK).astype(np.int64) + 1
    first = np.arange(len(ranks)) - np.repeat(offsets[:-1], sizes) < np.repeat(kept, sizes)
    return text[first], ranks[order][first]


@njit(cache=True, nogil=True)
def _shingles(words, offsets, width, factor):
    """Codes ascending and each once per text, where each text's begin, and the code of all its words."""
    codes = np.empty(len(words), np.uint64)
    starts, whole = np.zeros(len(offsets), np.int64), np.zeros(len(offsets) - 1, np.uint64)
    end = 0
    for text in range(len(whole)):
        first, last = offsets[text], offsets[text + 1]
        whole[text] = _code(words, first, last, factor)
        count = max(last - first - width + 1, min(last - first, 1))
        for i in range(count):
            codes[end + i] = _code(words, first + i, min(first + i + width, last), factor)
        found = np.sort(codes[end : end + count])
        for i in range(count):
            if i == 0 or found[i] != found[i - 1]:
                codes[end] = found[i]
                end += 1
        starts[text + 1] = end
    return codes[:end].copy(), starts, whole


@njit(cache=True, nogil=True)
def _code(words, first, last, factor):
    code = np.uint64(0)
    for i in range(first, last):
        code = (code + words[i]) * factor
    return code


@njit(cache=True, nogil=True)
def _near(text, rank, starts, postings, codes, offsets, others, other_offsets, threshold):
    """Pairs of texts that share a code of their prefixes and are as similar as asked; in no order."""
    seen = np.full(len(other_offsets) - 1, -1, np.int64)
    left, right, shares = np.empty(1024, np.int64), np.empty(1024, np.int64), np.empty(1024, np.float64)
    count = 0
    for i in range(len(text)):
        if rank[i] < 0:
            continue
        for other in postings[starts[rank[i]] : starts[rank[i] + 1]]:
            if seen[other] == text[i]:
                continue
            seen[other] = text[i]
            mine = codes[offsets[text[i]] : offsets[text[i] + 1]]
            share = _jaccard(mine, others[other_offsets[other] : other_offsets[other + 1]])
            if share < threshold:
                continue
            if count == len(left):
                left, right = np.append(left, np.empty_like(left)), np.append(right, np.empty_like(right))
                shares = np.append(shares, np.empty_like(shares))
            left[count], right[count], shares[count] = text[i], other, share
            count += 1
    return left[:count].copy(), right[:count].copy(), shares[:count].copy()


@njit(cache=True, nogil=True)
def _jaccard(one, other):
    """Of two ascending arrays, neither of them empty."""
    i = j = both = 0
    while i < len(one) and j < len(other):
        if one[i] == other[j]:
            both += 1
            i += 1
            j += 1
        elif one[i] < other[j]:
            i += 1
        else:
            j += 1
    return both / (len(one) + len(other) - both)
