"""What flows between components: Queries, Run, Qrels, Feedback, Representations, Generation.

Documents are rows of a corpus until they leave: see `DocIds`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from retrieval.ids import DocIds
from retrieval.order import PAD, is_ordered, order

__all__ = [
    "Dense",
    "Feedback",
    "Generation",
    "Hybrid",
    "Pooling",
    "Qrels",
    "Queries",
    "Representations",
    "Run",
    "Sparse",
    "TermStatistics",
    "TermVectors",
    "Terms",
    "Tokens",
]

Pooling = Literal["cls", "mean", "last", "weighted_mean"]  # how token states become one vector


@dataclass(frozen=True, eq=False)
class Queries:
    """Queries, and the other forms a reformulator may give them; a retriever uses the form it understands."""

    ids: Sequence[str]
    texts: Sequence[str]
    instructions: Sequence[str] | None = None  # per query, for encoders that take one
    variants: Sequence[Sequence[tuple[str, float]]] | None = None  # several weighted texts per query
    terms: Sequence[Mapping[str, float]] | None = None  # weighted terms per query
    representations: Representations | None = None  # of one encoder, row i of query i

    def __post_init__(self) -> None:
        for name in ("texts", "instructions", "variants", "terms", "representations"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.ids):
                raise ValueError(f"{len(self.ids)} query ids and {len(value)} {name}: one is needed per query")
        _refuse_twice(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, positions: Sequence[int] | np.ndarray) -> Queries:
        """The queries at these positions, in that order, with everything they carry."""

        def pick(values: Sequence | None) -> list | None:
            return None if values is None else [values[int(i)] for i in positions]

        chosen = None if self.representations is None else self.representations.take(positions)
        return Queries(
            pick(self.ids) or [],
            pick(self.texts) or [],
            pick(self.instructions),
            pick(self.variants),
            pick(self.terms),
            chosen,
        )


@dataclass(frozen=True, eq=False)
class Run:
    """The ranked documents of each query, best first: score descending, then document id descending.

    Lists shorter than k end in row -1 with score -inf. Raises ValueError for NaN and for any other order;
    `Run.ordered` brings unordered results into it.
    """

    query_ids: Sequence[str]
    docs: DocIds
    rows: np.ndarray  # int32 [queries, k], rows of `docs`
    scores: np.ndarray  # float32 [queries, k]
    name: str = "run"  # the last column of a TREC file

    def __post_init__(self) -> None:
        if self.rows.shape != self.scores.shape or len(self.rows) != len(self.query_ids):
            raise ValueError(f"{len(self.query_ids)} queries, rows {self.rows.shape} and scores {self.scores.shape}")
        if self.rows.dtype != np.int32 or self.scores.dtype != np.float32:
            raise ValueError(f"rows are int32 and scores float32, not {self.rows.dtype} and {self.scores.dtype}")
        _refuse_twice(self.query_ids)
        _refuse_nan(self.query_ids, self.scores)
        if not is_ordered(self.rows, self.scores, self.docs.rank):
            raise ValueError("results are not ordered by score, then document id, descending; use Run.ordered")

    @classmethod
    def ordered(
        cls, query_ids: Sequence[str], docs: DocIds, rows: np.ndarray, scores: np.ndarray, name: str = "run"
    ) -> Run:
        """A run from results in any order; row -1 marks a missing one."""
        _refuse_nan(query_ids, np.where(rows == PAD, 0, scores))
        return cls(query_ids, docs, *order(rows, scores, docs.rank), name=name)

    def top(self, k: int) -> Run:
        """The run cut off at rank k."""
        return replace(self, rows=self.rows[:, :k], scores=self.scores[:, :k])

    def without_self_hits(self) -> Run:
        """The run without documents whose id is the query's own (ArguAna, Quora)."""
        own = self.docs.rows(self.query_ids)
        hit = (self.rows == own[:, None]) & (own[:, None] >= 0)
        return Run.ordered(self.query_ids, self.docs, np.where(hit, PAD, self.rows), self.scores, self.name)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """The run under external ids, as other tools read it; queries without results are kept, empty."""
        return {
            query: dict(zip(self.docs.take(rows[rows >= 0]), map(float, scores[rows >= 0]), strict=True))
            for query, rows, scores in zip(self.query_ids, self.rows, self.scores, strict=True)
        }


@dataclass(frozen=True, eq=False)
class Qrels:
    """Judgements, one per (query, document); a query belongs to it when it has any judgement, of whatever grade.

    Those of a model carry its name, and so do the figures that are made of them: they are never mixed with people's.
    """

    query_ids: Sequence[str]
    query: np.ndarray  # int32 [judgements], position in query_ids, ascending
    doc_ids: pa.Array  # string [judgements]
    grades: np.ndarray  # int32 [judgements]
    judge: str | None = None  # the model that judged; None is people

    @classmethod
    def from_dict(cls, judged: Mapping[str, Mapping[str, int]], judge: str | None = None) -> Qrels:
        """From query id -> document id -> grade. A query that maps to nothing is kept: it scores 0."""
        query = np.repeat(np.arange(len(judged), dtype=np.int32), [len(docs) for docs in judged.values()])
        docs = [doc for grades in judged.values() for doc in grades]
        grades = [grade for grades in judged.values() for grade in grades.values()]
        return cls(tuple(judged), query, pa.array(docs, pa.string()), np.array(grades, np.int32), judge)

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Query id -> document id -> grade."""
        judged: dict[str, dict[str, int]] = {query: {} for query in self.query_ids}
        for query, doc, grade in zip(self.query, self.doc_ids.to_pylist(), self.grades.tolist(), strict=True):
            judged[self.query_ids[query]][doc] = grade
        return judged

    def __len__(self) -> int:
        return len(self.grades)


@dataclass(frozen=True, eq=False)
class Dense:
    """One vector per text."""

    vectors: np.ndarray  # float32 [n, dimensions]
    truncated: int = 0  # texts that were longer than the encoder takes

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, positions: Sequence[int] | np.ndarray) -> Dense:
        """The rows at these positions."""
        return Dense(self.vectors[np.asarray(positions, int)])


@dataclass(frozen=True, eq=False)
class Sparse:
    """One weighted bag of vocabulary entries per text."""

    matrix: object  # scipy.sparse.csr_array, float32 [n, vocabulary]
    truncated: int = 0  # texts that were longer than the encoder takes

    def __len__(self) -> int:
        return self.matrix.shape[0]  # type: ignore[attr-defined]

    def take(self, positions: Sequence[int] | np.ndarray) -> Sparse:
        """The rows at these positions."""
        return Sparse(self.matrix[np.asarray(positions, int)])  # type: ignore[index]


@dataclass(frozen=True, eq=False)
class Tokens:
    """Several vectors per text, packed: text i has vectors[offsets[i]:offsets[i + 1]]."""

    vectors: np.ndarray  # float32 [all tokens, dimensions]
    offsets: np.ndarray  # int64 [n + 1]
    truncated: int = 0  # texts that were longer than the encoder takes

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, positions: Sequence[int] | np.ndarray) -> Tokens:
        """The texts at these positions."""
        parts = [self.vectors[self.offsets[i] : self.offsets[i + 1]] for i in positions]
        offsets = np.cumsum([0, *map(len, parts)])
        return Tokens(np.concatenate([self.vectors[:0], *parts]), offsets)


@dataclass(frozen=True, eq=False)
class Hybrid:
    """A vector and a weighted bag per text, from one pass of an encoder that makes both."""

    dense: Dense
    sparse: Sparse

    def __len__(self) -> int:
        return len(self.dense)

    @property
    def truncated(self) -> int:
        """Texts that were longer than the encoder takes."""
        return self.dense.truncated

    def take(self, positions: Sequence[int] | np.ndarray) -> Hybrid:
        """The texts at these positions."""
        return Hybrid(self.dense.take(positions), self.sparse.take(positions))


Representations = Dense | Sparse | Tokens | Hybrid


@dataclass(frozen=True, eq=False)
class Terms:
    """Analysed texts, packed: text i is the terms ids[offsets[i]:offsets[i + 1]], in the order of the text."""

    terms: pa.Array  # large_string, each term once
    ids: np.ndarray  # int32 [all tokens], places in `terms`
    offsets: np.ndarray  # int64 [n + 1]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def counts(self, rows: Sequence[int] | np.ndarray) -> list[Mapping[str, float]]:
        """How often each term stands in each of these texts."""
        words = self.terms.to_pylist()
        spans = [self.ids[self.offsets[row] : self.offsets[row + 1]].tolist() for row in rows]
        return [Counter(words[i] for i in span) for span in spans]

    def lists(self) -> list[list[str]]:
        """The terms of each text as strings."""
        words = self.terms.to_pylist()
        return [
            [words[i] for i in self.ids[start:stop]]
            for start, stop in zip(self.offsets[:-1], self.offsets[1:], strict=True)
        ]


@dataclass(frozen=True, eq=False)
class TermVectors(Sequence[Mapping[str, float]]):
    """Texts as weighted terms, packed: text i has ids[offsets[i]:offsets[i + 1]]; item i is its term -> weight."""

    terms: pa.Array  # large_string, each term once
    ids: np.ndarray  # int32 [all entries], places in `terms`, each once per text
    weights: np.ndarray  # float64 [all entries]
    offsets: np.ndarray  # int64 [n + 1]

    @classmethod
    def of(cls, texts: Sequence[Mapping[str, float]]) -> TermVectors:
        """From term -> weight of each text."""
        if isinstance(texts, TermVectors):
            return texts
        place: dict[str, int] = {}
        ids = [place.setdefault(term, len(place)) for text in texts for term in text]
        weights = [weight for text in texts for weight in text.values()]
        offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        return cls(pa.array(list(place), pa.large_string()), np.array(ids, np.int32), np.array(weights, float), offsets)

    def dicts(self) -> list[Mapping[str, float]]:
        """All texts at once, which is faster than one by one."""
        words = self.terms.to_pylist()
        return [
            {words[i]: weight for i, weight in zip(self.ids[a:b].tolist(), self.weights[a:b].tolist(), strict=True)}
            for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True)
        ]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i):  # type: ignore[no-untyped-def, override]
        """Term -> weight of text i; a list of them for a slice."""
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(f"text {i} of {len(self)}")
        span = slice(self.offsets[i % len(self)], self.offsets[i % len(self) + 1])
        return dict(
            zip(self.terms.take(pa.array(self.ids[span])).to_pylist(), self.weights[span].tolist(), strict=True)
        )


@dataclass(frozen=True, eq=False)
class TermStatistics:
    """What a collection knows of terms; each function takes n terms and answers in order."""

    documents: int  # those with at least one term
    frequencies: Callable[[Sequence[str]], np.ndarray]  # -> int64 [n], documents that hold it; 0 where none does
    idf: Callable[
        [Sequence[str]], np.ndarray
    ]  # -> float64 [n], the weight its retriever gives a term of its own accord
    shares: Callable[[Sequence[str]], np.ndarray] | None = None  # -> float64 [n], of all terms of the collection


@dataclass(frozen=True, eq=False)
class Feedback:
    """A first pass and a handle on the content of its documents, fetched only when asked for.

    Each handle takes int32 rows [n] of `run.docs` and answers for just those, in order; None where the source has no
    such content. The documents may be texts that a model wrote: then `run.docs` is a table of their own.
    """

    run: Run
    texts: Callable[[np.ndarray], list[str]] | None = None
    terms: Callable[[np.ndarray], Sequence[Mapping[str, float]]] | None = None  # term -> how often, or how heavy
    vectors: Callable[[np.ndarray], np.ndarray] | None = None  # -> float32 [n, dimensions]
    tokens: Callable[[np.ndarray], tuple[Tokens, Sequence[str]]] | None = None  # -> vectors, and the token of each
    statistics: TermStatistics | None = None  # of the collection that is searched, where there are terms or tokens


@dataclass(frozen=True)
class Generation:
    """What a language model answered to one request; `failure` says why there is no usable text."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    finish_reason: str | None = None
    logprobs: Sequence[float] | None = None
    failure: str | None = None


def _refuse_twice(query_ids: Sequence[str]) -> None:
    if len(set(query_ids)) != len(query_ids):
        twice = Counter(query_ids).most_common(1)[0][0]
        raise ValueError(f"query id {twice!r} is given twice")


def _refuse_nan(query_ids: Sequence[str], scores: np.ndarray) -> None:
    broken = np.isnan(scores).any(axis=1)
    if broken.any():
        raise ValueError(f"query {query_ids[int(broken.argmax())]!r}: a score is NaN ({broken.sum()} queries have one)")
