"""Learned sparse retrieval: encode the query, search the inverted index."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.composed import picking
from retrieval.corpus import Corpus
from retrieval.encoding import encode_corpus, sparse
from retrieval.explanation import Explanation, QueryTerm, inexplicable, picked, postings
from retrieval.indexes.inverted import Inverted
from retrieval.protocols import Encoder, Index
from retrieval.shards import key
from retrieval.sparse_vectors import Quantised, SparseStore, broken_weight, quantised, refuse_broken
from retrieval.types import Feedback, Queries, Run, Sparse, TermStatistics

__all__ = ["SparseRetriever"]


class SparseRetriever:
    """Retrieval with weighted vocabulary entries, and a source of such terms for feedback.

    Queries are searched by their terms, which a reformulator writes, where they have them; else by their sparse
    representations; else by what the encoder makes of their texts.
    """

    reads = ("terms", "representations", "texts")

    def __init__(self, encoder: Encoder, index: Index, vectors: Path | None = None, quantise: float | None = None):
        """The encoder gives Sparse and has a `vocabulary()`, the token of each column.

        `vectors` is a folder that retrieval.encode wrote; None encodes into the cache, once. `quantise` multiplies the
        encoder's weights and rounds them to integers, as Lucene's impact indexes have them (100 for SPLADE); weights
        that feedback gave a query stay as they are.
        """
        if quantise is not None and not quantise > 0:
            raise ValueError(f"quantise is what weights are multiplied with before they are rounded, not {quantise}")
        self.encoder, self.index, self.vectors, self.quantise = encoder, index, vectors, quantise
        self.truncated_queries = self.truncated_texts = 0  # of all that were encoded so far
        self.unknown_terms = 0  # of all terms that were searched so far

    @property
    def nested(self) -> bool:
        """Whether its index finds the same however much is asked for."""
        return getattr(self.index, "nested", False)

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Encode the corpus, or open its vectors. Raises ValueError for vectors of another corpus or encoder."""
        contract = self.encoder.contract()
        self.corpus = corpus
        place = self.vectors or folder / "vectors" / key(corpus, contract)
        if not self.vectors:
            encode_corpus(corpus, self.encoder, place)
        self.store = SparseStore(place).expect(corpus, contract)
        self.vocabulary: Sequence[str] = self.encoder.vocabulary()  # type: ignore[attr-defined]
        self.id_of = {term: i for i, term in enumerate(self.vocabulary)}
        self.index = copy.copy(self.index)  # a recipe may share one between retrievers; each searches its own vectors
        self.index.build(Quantised(self.store, self.quantise) if self.quantise else self.store, corpus.ids.rank)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best documents that share a term with the query.

        A term that is not in the vocabulary is left out and counted. Raises ValueError that names query and term for a
        weight that is negative or not finite.
        """
        return Run(queries.ids, self.corpus.ids, *self.index.search(self._sparse(queries), k), "sparse")

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """The queries with their terms, and a handle on texts and terms of what was found; each term's idf is 1."""
        terms = self._named(self._sparse(queries).matrix) if queries.terms is None else queries.terms
        statistics = TermStatistics(
            len(self.store) - self.store.empty, self._frequencies, lambda asked: np.ones(len(asked))
        )
        found = Feedback(
            run,
            texts=self.corpus.texts,
            terms=lambda rows: self._named(self.store.rows(rows)),
            statistics=statistics,
        )
        return replace(queries, terms=terms, representations=None), found

    def read(self, queries: Queries, run: Run, texts: Sequence[str]) -> tuple[Queries, Feedback]:
        """The queries with their terms, and these texts with the terms that the encoder gives them as documents."""
        own, found = self.feedback(queries, run)

        @cache
        def encoded() -> Any:
            made: Any = sparse(self.encoder.encode_docs(texts))
            self.truncated_texts += made.truncated
            return made.matrix

        return own, replace(found, texts=picking(texts), terms=lambda rows: self._named(encoded()[rows]))

    def explain(self, queries: Queries, rows: np.ndarray) -> Explanation:
        """The weight of each vocabulary entry in the one query, times that in these documents, as they are searched.

        Raises ValueError for another index than inverted.
        """
        if not isinstance(self.index, Inverted):
            raise inexplicable(self)
        asked: Any = self._sparse(queries).matrix
        offsets, docs, impacts, _ = self.index.impacts
        unknown = [term for term in (queries.terms or [{}])[0] if term not in self.id_of]
        terms = [
            QueryTerm(self.vocabulary[i], float(weight), int(offsets[i + 1] - offsets[i]))
            for i, weight in zip(asked.indices, asked.data, strict=True)
        ] + [QueryTerm(term, queries.terms[0][term], 0) for term in unknown]  # type: ignore[index]
        numbers = np.concatenate([asked.indices, np.full(len(unknown), -1)]).astype(np.int64)
        weights = picked(impacts, postings(offsets, docs, numbers, rows))
        return Explanation(terms, weights, weights, ties=self.index.ties)

    def provenance(self) -> dict[str, Any]:
        """What the vectors are, for the manifest; of one that was never opened, what encodes."""
        if not hasattr(self, "store"):
            return {"encoder": dict(self.encoder.contract())}
        return {
            "vectors": str(self.store.folder),
            "encoder": dict(self.encoder.contract()),
            "documents": len(self.store),
            "entries": self.store.entries,
            "truncated documents": self.store.truncated,
            "truncated queries": self.truncated_queries,
            "truncated written texts": self.truncated_texts,
            "unknown terms": self.unknown_terms,
        }

    def _sparse(self, queries: Queries) -> Sparse:
        if queries.terms is not None:
            return self._from_terms(queries.ids, queries.terms)
        found: Any = queries.representations
        if found is None:
            found = sparse(self.encoder.encode_queries(queries.texts))
            self.truncated_queries += found.truncated
        if not isinstance(found, Sparse):
            raise TypeError(f"sparse searches sparse vectors, not {type(found).__name__}")
        wide = found.matrix.shape[1]  # type: ignore[attr-defined]
        if wide != len(self.vocabulary):
            raise ValueError(f"queries are {wide} wide, the vocabulary {len(self.vocabulary)}: not of the same encoder")
        refuse_broken(found.matrix, "query", queries.ids, self.vocabulary)
        return Sparse(quantised(found.matrix, self.quantise)) if self.quantise else found  # type: ignore[arg-type]

    def _from_terms(self, query_ids: Sequence[str], terms: Sequence[Mapping[str, float]]) -> Sparse:
        from scipy.sparse import csr_array

        for query, one in zip(query_ids, terms, strict=True):
            broken = next((term for term, weight in one.items() if not 0 <= weight < np.inf), None)
            if broken is not None:
                raise ValueError(broken_weight("query", query, f"term {broken!r}", one[broken]))
        known = [sorted((self.id_of[term], one[term]) for term in one if term in self.id_of) for one in terms]
        self.unknown_terms += sum(map(len, terms)) - sum(map(len, known))
        ids = np.array([i for one in known for i, _ in one], np.int32)
        weights = np.array([weight for one in known for _, weight in one], np.float32)
        offsets = np.cumsum([0, *map(len, known)], dtype=np.int32)
        matrix = csr_array((weights, ids, offsets), shape=(len(terms), len(self.vocabulary)))
        matrix.eliminate_zeros()
        return Sparse(matrix)

    def _named(self, matrix: Any) -> list[Mapping[str, float]]:
        """The terms of each row and their weights."""
        words, ids, weights, offsets = self.vocabulary, matrix.indices, matrix.data, matrix.indptr
        return [
            {words[i]: float(weight) for i, weight in zip(ids[start:stop], weights[start:stop], strict=True)}
            for start, stop in zip(offsets[:-1], offsets[1:], strict=True)
        ]

    def _frequencies(self, terms: Sequence[str]) -> np.ndarray:
        ids = np.array([self.id_of.get(term, -1) for term in terms], np.int64)
        return np.where(ids < 0, 0, self.store.frequencies[ids])
