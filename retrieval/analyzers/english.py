"""English text to terms, as Lucene's EnglishAnalyzer and with it Anserini have them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numba import njit

from retrieval import porter, vocabulary, word_break
from retrieval.compiled import chosen, cores, drop_stale
from retrieval.porter import stem
from retrieval.types import Terms
from retrieval.vocabulary import EMPTY, Vocabulary, add_one, slot_of, string_buffers, strings
from retrieval.word_break import LONGEST, decode, lower_case, tables, tokens

__all__ = ["English"]

CHUNK = 4096  # texts that a core takes at a time
LUCENE = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
).split()


class English:
    """Words by Unicode's rules, possessive 's off, lower case, no stop words, Porter's stems."""

    def __init__(
        self, stemmer: Literal["porter"] | None = "porter", stopwords: Literal["lucene"] | list[str] = "lucene"
    ):
        """`stopwords` is Lucene's list of 33 words, or one's own in lower case; [] keeps every word."""
        chosen("stemmer", stemmer or "porter", Literal["porter"])
        if isinstance(stopwords, str):
            chosen("stopwords", stopwords, Literal["lucene"])
        drop_stale(number, porter, vocabulary, word_break)
        self.stemmer = stemmer
        self.stopwords = LUCENE if stopwords == "lucene" else sorted(set(stopwords))
        odd = [word for word in self.stopwords if word != word.lower()]
        if odd:
            raise ValueError(f"stop words are compared in lower case, and {odd[0]!r} is not")

    def analyze(self, texts: pa.Array) -> Terms:
        """The terms of each text, on all cores."""
        if len(texts) <= CHUNK:
            return self._analyze(texts)
        with ThreadPoolExecutor(cores()) as pool:
            return joined(pool.map(self._analyze, (texts.slice(at, CHUNK) for at in range(0, len(texts), CHUNK))))

    def contract(self) -> Mapping[str, Any]:
        """What determines the terms."""
        return {"analyzer": "english", "stemmer": self.stemmer, "stopwords": list(self.stopwords)}

    def _analyze(self, texts: pa.Array) -> Terms:
        data, bounds = string_buffers(texts)
        starts, ends, counts = tokens(data, bounds, *tables())
        forms = min(len(starts), int(64 * len(starts) ** 0.5))  # rather many for such a text (Heaps' law)
        slots = 1 << max(8, (2 * forms).bit_length())
        while True:
            ids, size, terms, offsets = number(
                data, starts, ends, slots, lower_case(), self._stops.table, self.stemmer == "porter"
            )
            if size >= 0:
                break
            slots *= 4
        kept = np.concatenate([[0], np.cumsum(ids >= 0)])[np.concatenate([[0], np.cumsum(counts)])]
        return Terms(strings(terms, offsets), ids[ids >= 0], kept)

    @cached_property
    def _stops(self) -> Vocabulary:
        stops = Vocabulary()
        stops.add(pa.array(self.stopwords, pa.large_string()))
        return stops


def joined(parts: Any) -> Terms:
    """Terms of several lots of texts as those of one."""
    together, ids, counts = Vocabulary(), [], []
    for part in parts:
        place = together.add(part.terms)
        ids.append(place[part.ids])
        counts.append(np.diff(part.offsets))
    return Terms(together.terms, np.concatenate(ids), np.concatenate([[0], np.cumsum(np.concatenate(counts))]))


@njit(cache=True, nogil=True)
def number(text, starts, ends, slots, lower, stops, stemming):
    """An id per token, -1 for stop words; how many terms they number, -1 where `slots` are too few; bytes and offsets.

    Each form of a word is lowered and stemmed once, where it first comes.
    """
    room = slots // 2
    ids, term_of, known, count = np.empty(len(starts), np.int32), np.empty(room + 1, np.int32), 0, 0
    forms, form_data, form_offsets = _table(slots)
    table, data, offsets = _table(slots)
    units, word = np.empty(LONGEST + 2, np.uint32), np.empty(4 * LONGEST + 8, np.uint8)
    for token in range(len(starts)):
        form, more = add_one(forms, form_data, form_offsets, known, text, starts[token], ends[token])
        if more > known:
            known = more
            length = _normalise(text, starts[token], ends[token], lower, stops, stemming, units, word)
            term_of[form] = EMPTY
            if length:
                term_of[form], count = add_one(table, data, offsets, count, word, 0, length)
            if (
                known == room
                or len(form_data) - form_offsets[known] < len(word)
                or len(data) - offsets[count] < len(word)
            ):
                return ids, -1, data[:0], offsets[:1]
        ids[token] = term_of[form]
    return ids, count, data[: offsets[count]].copy(), offsets[: count + 1].copy()


@njit(cache=True, nogil=True)
def _table(slots):
    """An empty vocabulary."""
    offsets = np.zeros(slots // 2 + 1, np.int64)
    return np.full(slots, EMPTY, np.int32), np.empty(8 * slots + 8 * LONGEST, np.uint8), offsets


@njit(cache=True, nogil=True)
def _normalise(text, start, stop, lower, stops, stemming, units, word):
    """Write the term of a token to `word`; its bytes, 0 for a stop word."""
    count = 0
    while start < stop:
        point, size = decode(text, start)
        count = _append(units, count, np.uint32(lower[point]))
        start += size
    if count >= 2 and units[count - 1] == 0x73 and _is_apostrophe(units[count - 2]):
        count -= 2
    length = _encode(units, count, word)
    if stops[0][slot_of(stops[0], stops[1], stops[2], word, 0, length)] != EMPTY:
        return 0
    if stemming:
        length = _encode(units, stem(units, count), word)
    return length


@njit(cache=True, nogil=True)
def _is_apostrophe(unit):
    return unit == 0x27 or unit == 0x2019 or unit == 0xFF07


@njit(cache=True, nogil=True)
def _append(units, count, point):
    """Add a code point as UTF-16: what Lucene's stemmer counts in."""
    if point < 0x10000:
        units[count] = point
        return count + 1
    units[count] = 0xD800 + ((point - 0x10000) >> 10)
    units[count + 1] = 0xDC00 + ((point - 0x10000) & 0x3FF)
    return count + 2


@njit(cache=True, nogil=True)
def _encode(units, count, word):
    """UTF-16 to UTF-8; the bytes written."""
    size = i = 0
    while i < count:
        point = units[i]
        if 0xD800 <= point < 0xDC00:
            i += 1
            point = 0x10000 + ((point - 0xD800) << 10) + (units[i] - 0xDC00)
        i += 1
        if point < 0x80:
            word[size] = point
            size += 1
            continue
        tail = 1 + (point >= 0x800) + (point >= 0x10000)
        word[size] = ((0xFF00 >> (tail + 1)) & 0xFF) | (point >> (6 * tail))
        for j in range(tail):
            word[size + 1 + j] = 0x80 | ((point >> (6 * (tail - 1 - j))) & 0x3F)
        size += tail + 1
    return size
