"""What a term is worth in a document: BM25 and its variants (Kamphuis et al. 2020, Which BM25 do you mean?)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from retrieval.compiled import chosen

__all__ = ["BM25Weights", "Variant", "byte_length", "length_byte"]

Variant = Literal["lucene", "robertson", "atire", "bm25l", "bm25+"]
DELTA = {"bm25l": 0.5, "bm25+": 1.0}  # Lv and Zhai (2011)


@dataclass(frozen=True)
class BM25Weights:
    """The formula: idf times a saturating count of the term, in a document of a length."""

    k1: float = 0.9
    b: float = 0.4
    variant: Variant = "lucene"
    delta: float | None = None

    def __post_init__(self) -> None:
        chosen("variant", self.variant, Variant)
        if self.k1 < 0 or not 0 <= self.b <= 1:
            raise ValueError(f"BM25 needs k1 >= 0 and 0 <= b <= 1, not k1 {self.k1} and b {self.b}")
        if self.delta is not None and self.variant not in DELTA:
            raise ValueError(f"delta belongs to {' and '.join(DELTA)}; {self.variant} has none")

    def idf(self, frequencies: np.ndarray, documents: int) -> np.ndarray:
        """float64 [terms], from how many of the documents hold each. Robertson's is never below 0."""
        n, all_ = frequencies.astype(np.float64), float(documents)
        with np.errstate(divide="ignore"):  # a term that no document holds
            if self.variant == "lucene":
                return np.log(1 + (all_ - n + 0.5) / (n + 0.5)).astype(np.float32).astype(np.float64)
            if self.variant == "robertson":
                return np.maximum(np.log((all_ - n + 0.5) / (n + 0.5)), 0)
            if self.variant == "atire":
                return np.log(all_ / n)
            return np.log((all_ + 1) / (n if self.variant == "bm25+" else n + 0.5))

    def impacts(
        self,
        offsets: np.ndarray,
        docs: np.ndarray,
        counts: np.ndarray,
        lengths: np.ndarray,
        mean: float,
        idf: np.ndarray,
    ) -> np.ndarray:
        """float32 [postings] of terms with these idf, whose postings lie at `offsets` in docs and counts.

        `lucene` has Lucene's arithmetic: float32 throughout, and the length of a document in one byte.
        """
        found = np.empty(len(docs), np.float32)
        if self.variant == "lucene":
            k1, b, one = np.float32(self.k1), np.float32(self.b), np.float32(1)
            kept = byte_length(np.arange(256)).astype(np.float32)
            with np.errstate(divide="ignore"):  # of length 0, where b is 1: no document with a term has it
                norms = one / (k1 * ((one - b) + b * kept / np.float32(mean)))
            lucene(offsets, docs, counts, length_byte(lengths), norms.astype(np.float32), idf.astype(np.float32), found)
        else:
            norms = 1 - self.b + self.b * lengths / mean
            delta = DELTA.get(self.variant, 0.0) if self.delta is None else self.delta
            scale = 1.0 if self.variant == "robertson" else self.k1 + 1
            shift, floor = (delta, 0.0) if self.variant == "bm25l" else (0.0, delta)
            saturated(offsets, docs, counts, norms, idf, np.array([self.k1, scale, shift, floor]), found)
        return found


def length_byte(lengths: np.ndarray) -> np.ndarray:
    """uint8, a length as Lucene's norms keep it: exact below 40, then four significant bits (SmallFloat.intToByte4)."""
    found = np.clip(lengths, 0, 24).astype(np.int64)
    rest = np.maximum(lengths.astype(np.int64) - 24, 0)
    bits = np.where(rest > 0, np.floor(np.log2(np.maximum(rest, 1))).astype(np.int64) + 1, 0)
    shift = np.maximum(bits - 4, 0)
    coded = np.where(bits < 4, rest, ((rest >> shift) & 7) | ((shift + 1) << 3))
    return (found + coded).astype(np.uint8)


def byte_length(codes: np.ndarray) -> np.ndarray:
    """int64, the length that a byte stands for: the smallest that is kept in it (SmallFloat.byte4ToInt)."""
    rest = np.maximum(codes.astype(np.int64) - 24, 0)
    shift = np.maximum((rest >> 3) - 1, 0)
    value = np.where(rest < 8, rest, ((rest & 7) | 8) << shift)
    return np.where(codes < 24, codes, 24 + value)


@njit(cache=True, nogil=True)
def lucene(offsets, docs, counts, codes, norms, idf, found):
    """w - w / (1 + tf / (k1 (1 - b + b length / mean))), as Lucene's BM25Similarity rounds it."""
    one = np.float32(1)
    for term in range(len(idf)):
        weight = idf[term]
        for i in range(offsets[term], offsets[term + 1]):
            found[i] = weight - weight / (one + np.float32(counts[i]) * norms[codes[docs[i]]])


@njit(cache=True, nogil=True)
def saturated(offsets, docs, counts, norms, idf, parameters, found):
    """idf (scale (tf + shift n) / (tf + shift n + k1 n) + floor), n the length norm of the document."""
    k1, scale, shift, floor = parameters
    for term in range(len(idf)):
        for i in range(offsets[term], offsets[term + 1]):
            norm = norms[docs[i]]
            tf = counts[i] + shift * norm
            found[i] = idf[term] * (scale * tf / (tf + k1 * norm) + floor)
