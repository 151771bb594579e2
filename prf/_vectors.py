"""What term feedback shares: the term vectors of feedback documents, and filter, prune, normalise and add for them."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prf._combine import combine
from retrieval.types import Feedback, Queries, Run, TermStatistics, TermVectors

__all__ = [
    "LETTERS_AND_DIGITS",
    "TermFeedback",
    "TermFilter",
    "Vector",
    "best",
    "demand",
    "directions",
    "fetched",
    "last",
    "positive",
    "prune",
    "total",
    "unit_l1",
    "unit_l2",
    "vectors",
]

Vector = Mapping[str, float]  # term -> weight

LETTERS_AND_DIGITS = re.compile("[a-z0-9]+")
LENGTHS = range(2, 21)  # characters of a term that may expand a query
BLOCK = 4096  # documents whose terms are held at a time
WELLFORMED, PASSES = 1, 2

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TermFeedback:
    """A Feedback that has terms."""

    run: Run
    terms: Callable[[np.ndarray], Sequence[Vector]]
    statistics: TermStatistics


@dataclass(frozen=True)
class TermFilter:
    """Anserini's rule for a term that may expand a query: 2 to 20 characters, in at most `max_df` of the documents.

    A term that no document of the collection holds never may: generated text has such.
    """

    max_df: float | None = 0.1  # None for off
    pattern: re.Pattern[str] | None = None  # the whole term must match it; None for off

    def __post_init__(self) -> None:
        if self.max_df is not None and not 0 < self.max_df <= 1:
            raise ValueError(f"max_df is {self.max_df}; it is a share of the documents in (0, 1], or None for off")

    def passing(self, terms: pa.Array, statistics: TermStatistics) -> np.ndarray:
        """int8 [terms]: PASSES, WELLFORMED where only max_df keeps the term out, or 0."""
        length = np.asarray(pc.utf8_length(terms))
        fits = (length >= LENGTHS.start) & (length < LENGTHS.stop)
        if self.pattern is not None:
            fits &= np.asarray(pc.match_substring_regex(terms, f"^(?:{self.pattern.pattern})$"), bool)
        found = fits.astype(np.int8) * WELLFORMED
        words = terms.filter(pa.array(fits)).to_pylist()
        passes = self.selective(words, statistics)
        found[np.flatnonzero(fits)] += np.array([word in passes for word in words], np.int8)
        return found

    def wellformed(self, term: str) -> bool:
        """Whether length and pattern let the term pass."""
        return len(term) in LENGTHS and (self.pattern is None or self.pattern.fullmatch(term) is not None)

    def selective(self, terms: Sequence[str], statistics: TermStatistics) -> set[str]:
        """Those of the terms that are in some documents of the collection, and in at most `max_df` of them."""
        found = np.asarray(statistics.frequencies(terms))
        share = found.astype(np.float32) / np.float32(max(statistics.documents, 1))  # float32: Anserini's comparison
        allowed = (found > 0) & (share <= np.float32(1 if self.max_df is None else self.max_df))
        return {term for term, passes in zip(terms, allowed.tolist(), strict=True) if passes}


def demand(model: object, queries: Queries, feedback: Feedback | None) -> tuple[Sequence[Vector], TermFeedback]:
    """The terms of the queries, and their feedback. Raises ValueError where either is missing or of other queries."""
    name = type(model).__name__
    if feedback is None or feedback.terms is None or feedback.statistics is None or queries.terms is None:
        raise ValueError(f"{name} needs the terms of queries and documents; bm25 gives both: name it as the source")
    if list(feedback.run.query_ids) != list(queries.ids):
        raise ValueError(f"{name} was given {len(queries)} queries and the feedback of others; take it from their run")
    return queries.terms, TermFeedback(feedback.run, feedback.terms, feedback.statistics)


def best(run: Run, depth: int) -> list[np.ndarray]:
    """Rows of the first `depth` documents of each query, or of as many as there are."""
    return [rows[rows >= 0] for rows in run.rows[:, :depth]]


def last(run: Run, depth: int) -> list[np.ndarray]:
    """Rows of the last `depth` documents of each query, the last one first."""
    return [rows[rows >= 0][::-1][:depth] for rows in run.rows]


def fetched(feedback: TermFeedback, rows: Sequence[np.ndarray]) -> Iterator[tuple[TermVectors, list[list[int]]]]:
    """For some queries at a time: the terms of their documents, each document once, and each query's places there."""
    step = max(1, BLOCK // max(1, *map(len, rows), 1))
    for at in range(0, len(rows), step):
        block = rows[at : at + step]
        distinct, places = np.unique(np.concatenate(block), return_inverse=True)
        parts = np.split(places, np.cumsum([len(part) for part in block])[:-1])
        yield TermVectors.of(feedback.terms(distinct.astype(np.int32))), [part.tolist() for part in parts]


def vectors(
    feedback: TermFeedback, rows: Sequence[np.ndarray], keep: TermFilter, prepare: Callable[[Vector], Vector]
) -> Iterator[list[Vector]]:
    """The documents of each query as `prepare` makes them of their filtered terms."""
    emptied = 0
    for documents, places in fetched(feedback, rows):
        kept = keep.passing(documents.terms, feedback.statistics)
        words = documents.terms.to_pylist()
        prepared = []
        for start, stop in zip(documents.offsets[:-1], documents.offsets[1:], strict=True):
            entries = zip(documents.ids[start:stop].tolist(), documents.weights[start:stop].tolist(), strict=True)
            prepared.append(prepare({words[i]: weight for i, weight in entries if kept[i] == PASSES}))
        emptied += _emptied(documents, kept, places)
        for place in places:
            yield [prepared[i] for i in place]
    _warn_of(emptied, len(rows), keep)


def directions(
    feedback: TermFeedback,
    rows: Sequence[np.ndarray],
    factors: Sequence[np.ndarray],
    keep: TermFilter,
    *,
    each: int | None,
    size: int,
    order: Literal[1, 2],
) -> Iterator[Vector]:
    """The sum of each query's documents times their factors, cut to its `size` heaviest terms, its norm 1.

    Before they are added up the documents are cut to `each` terms (None: to none) and normalised; norms are L1 or L2,
    by `order`. Among equals the first in the alphabet is kept; terms of weight 0 or less are not.
    """
    emptied, at = 0, 0
    for documents, places in fetched(feedback, rows):
        kept = keep.passing(documents.terms, feedback.statistics)
        emptied += _emptied(documents, kept, places)
        alphabet = np.empty(len(kept), np.int32)
        alphabet[np.asarray(pc.sort_indices(documents.terms))] = np.arange(len(kept))
        bounds = np.cumsum([0, *map(len, places)])
        place, factor = (
            np.concatenate([np.zeros(0), *lists]).astype(dtype)
            for lists, dtype in ((places, np.int64), (factors[at : at + len(places)], np.float64))
        )
        cut = documents.offsets, documents.ids, documents.weights
        found, ids, weights = combine(*cut, kept == PASSES, alphabet, bounds, place, factor, each or 0, size, order)
        words = documents.terms.take(pa.array(ids)).to_pylist()
        heavy = weights.tolist()
        for start, stop in zip(found[:-1].tolist(), found[1:].tolist(), strict=True):
            yield dict(zip(words[start:stop], heavy[start:stop], strict=True))
        at += len(places)
    _warn_of(emptied, len(rows), keep)


def _emptied(documents: TermVectors, kept: np.ndarray, places: Sequence[Sequence[int]]) -> int:
    """How many queries have documents with terms, all of which max_df removes."""
    lines = np.repeat(np.arange(len(documents)), np.diff(documents.offsets))
    some, passing = (
        np.bincount(lines[kept[documents.ids] >= least], minlength=len(documents)) > 0 for least in (WELLFORMED, PASSES)
    )
    return sum(bool(some[place].any() and not passing[place].any()) for place in map(np.asarray, places) if len(place))


def _warn_of(emptied: int, queries: int, keep: TermFilter) -> None:
    if emptied:
        log.warning(
            "%d of %d queries are not expanded: max_df %s removes every term of their feedback documents, "
            "as it does in small collections; raise it, or set it to None",
            *(emptied, queries, keep.max_df),
        )


def prune(vector: Vector, size: int) -> Vector:
    """The `size` heaviest terms; among equals those first in the alphabet."""
    if len(vector) <= size:
        return vector
    least = sorted(vector.values(), reverse=True)[size - 1]
    candidates = [item for item in vector.items() if item[1] >= least]  # a third of the time of sorting all items
    return dict(sorted(candidates, key=lambda item: (-item[1], item[0]))[:size])


def unit_l1(vector: Vector) -> Vector:
    """The vector with absolute weights that sum to 1; an empty one where they sum to 0."""
    return _divided(vector, math.fsum(map(abs, vector.values())))


def unit_l2(vector: Vector) -> Vector:
    """The vector of length 1; an empty one where the length is 0."""
    return _divided(vector, math.hypot(*vector.values()))


def total(weighted: Iterable[tuple[Vector, float]]) -> Vector:
    """The sum of weighted vectors."""
    summed: dict[str, float] = {}
    for vector, weight in weighted:
        for term, value in vector.items():
            summed[term] = summed.get(term, 0.0) + weight * value
    return summed


def positive(vector: Vector) -> Vector:
    """The vector without weights of 0 or less, which would find documents and not raise them."""
    return {term: weight for term, weight in vector.items() if weight > 0}


def _divided(vector: Vector, norm: float) -> Vector:
    return {term: weight / norm for term, weight in vector.items()} if norm else {}
