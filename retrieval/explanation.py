"""What made a score, as plain data: what each term of a query gives to a document, and why another ranks above."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

__all__ = [
    "Answer",
    "Explanation",
    "FeedbackDocument",
    "FeedbackPass",
    "FieldLengths",
    "QueryTerm",
    "Ranked",
    "decimals",
    "inexplicable",
    "picked",
    "postings",
]


@dataclass(frozen=True)
class QueryTerm:
    """A term of the query that was searched; in an index with fields, in one of them."""

    term: str
    weight: float
    df: int  # documents that hold it
    idf: float | None = None  # None where no document holds it, or the retriever has no idf
    field: str | None = None  # None in an index without fields

    @property
    def name(self) -> str:
        """The term, after the field it is looked for in."""
        return self.term if self.field is None else f"{self.field}: {self.term}"


@dataclass(frozen=True)
class FieldLengths:
    """How long documents are, in terms, in one field."""

    field: str | None
    weight: float
    lengths: Sequence[int]  # of each document that is explained
    counted: Sequence[float]  # what the formula takes these for: Lucene keeps a length in one byte
    mean: float  # of the documents that have any term in the field


@dataclass(frozen=True)
class FeedbackDocument:
    """A document that a model of feedback read."""

    id: str
    rank: int | None  # in the first pass, from 1; None for one that it had not found
    score: float | None
    holds: Mapping[str, float]  # terms of the old and the new query -> how often (or how heavy)


@dataclass(frozen=True, eq=False)
class FeedbackPass:
    """What feedback made of a query."""

    source: str  # the name of the first run
    model: str
    before: Mapping[str, float]  # term -> weight
    after: Mapping[str, float]
    documents: Sequence[FeedbackDocument]  # by rank


@dataclass(frozen=True, eq=False)
class Explanation:
    """What each term of one query gives to each of some documents; a score is the sum of weight times impact."""

    terms: Sequence[QueryTerm]
    frequencies: np.ndarray  # float64 [documents, terms], how often a document holds a term (or how heavy it is there)
    impacts: np.ndarray  # float64 [documents, terms], as they stand in the index; 0 where a document lacks the term
    lengths: Sequence[FieldLengths] = ()
    passes: Sequence[FeedbackPass] = ()  # the first one first
    ties: Literal["trec_eval", "lucene"] = "trec_eval"  # as indexes.inverted has them

    @property
    def contributions(self) -> np.ndarray:
        """float64 [documents, terms], which sum to the scores."""
        return self.impacts * np.array([term.weight for term in self.terms], np.float64)

    def total(self, document: int) -> float:
        """The sum over the terms, rounded once."""
        return math.fsum(self.contributions[document].tolist())

    def gaps(self, here: int, there: int) -> np.ndarray:
        """float64 [terms], how much more each gives to `there` than to `here`."""
        return self.contributions[there] - self.contributions[here]

    def cause(self, term: int, here: int, there: int) -> str:
        """Why a term gives more to one of two documents than to the other."""
        asked, (less, more) = self.terms[term], self.frequencies[[here, there], term]
        if not less or not more:
            return f"only {'here' if less else 'there'} (df {asked.df})"
        lengths = self._lengths(asked.field, here, there)
        if not lengths:
            return f"weighs {more:.4g} there, {less:.4g} here"
        if less == more:
            return f"{less:.4g}× in both, {lengths}"
        decides = (more > less) == (self.impacts[there, term] > self.impacts[here, term])  # else it is the length
        return f"{more:.4g}× there, {less:.4g}× here" + ("" if decides else f", {lengths}")

    def _lengths(self, field: str | None, here: int, there: int) -> str:
        for one in self.lengths:
            if one.field == field:
                return f"{one.counted[there]:g} terms there, {one.counted[here]:g} here"
        return ""


@dataclass(frozen=True)
class Ranked:
    """A document and its place in a run."""

    id: str
    title: str
    rank: int | None = None  # from 1; None for one that was not found
    score: float | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """The explanation of one document for one query, and of those it is compared with."""

    query_id: str
    query: str
    documents: Sequence[Ranked]  # as `explanation` has them: the one in question, the one just above it, the first
    explanation: Explanation
    k: int  # the depth of the run that was asked about

    def equal(self, there: int) -> bool:
        """Whether another document has the score of the one in question, so that ids decide."""
        mine, other = self.documents[0], self.documents[there]
        if mine.score is None or self.explanation.ties == "trec_eval":
            return mine.score == other.score
        return np.float32(self.explanation.total(0)) == np.float32(self.explanation.total(there))  # scores are lowered

    def reason(self, there: int) -> str:
        """Why another document ranks above: the tie rule, or what tells most for it, against it, and the rest."""
        if self.equal(there):
            return f"equal scores: the {'higher' if self.explanation.ties == 'trec_eval' else 'lower'} id first"
        gaps = self.explanation.gaps(0, there)
        most, least = int(np.argmax(gaps)), int(np.argmin(gaps))
        digits = decimals(float(gaps.sum()), 3)
        parts = [f"{self._part(most, there)} {gaps[most]:+.{digits}f}"]
        if gaps[least] < 0:
            parts.append(f"against it {self._part(least, there)} {gaps[least]:+.{digits}f}")
        rest = np.delete(gaps, [most, least] if gaps[least] < 0 else most)
        if (count := np.count_nonzero(rest)) > 0:
            parts.append(f"{count} other {'term' if count == 1 else 'terms'} {rest.sum():+.{digits}f}")
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: the document in question term by term, and why others rank above."""
        explanation, mine = self.explanation, self.documents[0]
        given = zip(explanation.terms, explanation.frequencies[0], explanation.contributions[0], strict=True)
        above = [(place, one) for place, one in enumerate(self.documents) if place]
        return {
            "query": self.query_id,
            "document": mine.id,
            "rank": mine.rank,
            "score": mine.score,
            "sum": explanation.total(0),
            "terms": [
                {"term": term.name, "weight": term.weight, "frequency": float(often), "df": term.df, "idf": term.idf}
                | {"contribution": float(value)}
                for term, often, value in given
            ],
            "above": [
                {"document": one.id, "rank": one.rank, "score": one.score, "reason": self.reason(place)}
                for place, one in above
            ],
        }

    def _part(self, term: int, there: int) -> str:
        return f"{self.explanation.terms[term].name!r} {self.explanation.cause(term, 0, there)}"


def inexplicable(retriever: object) -> ValueError:
    """The error for a retriever that cannot explain."""
    return ValueError(
        f"{type(retriever).__name__} cannot explain a score term by term; bm25, sparse with index: inverted, and "
        "feedback over either can"
    )


def postings(offsets: np.ndarray, docs: np.ndarray, terms: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """int64 [documents, terms], where the posting of a document in the list of a term is; -1 where it has none.

    A term of number -1 has no list.
    """
    places, rows = np.full((len(rows), len(terms)), -1, np.int64), np.asarray(rows, docs.dtype)
    for column, term in enumerate(terms):
        listed = docs[offsets[term] : offsets[term + 1]] if term >= 0 else docs[:0]
        at = np.searchsorted(listed, rows)
        held = [i for i, place in enumerate(at) if place < len(listed) and listed[place] == rows[i]]
        places[held, column] = at[held] + offsets[term]
    return places


def picked(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """float64, the values at these places, 0 for place -1."""
    found = np.zeros(places.shape)
    found[places >= 0] = values[places[places >= 0]]
    return found


def decimals(value: float, digits: int) -> int:
    """How many decimals show so many digits of a value, 8 at most."""
    return 4 if value == 0 else min(8, max(0, digits - 1 - math.floor(math.log10(abs(value)))))
