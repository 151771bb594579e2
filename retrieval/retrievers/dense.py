"""Vector retrieval: encode the query, search the index. One vector a text, or several (late interaction)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from retrieval.composed import picking
from retrieval.corpus import Corpus
from retrieval.encoding import dense, encode_corpus, encoded_queries, open_store
from retrieval.number_formats import Number
from retrieval.protocols import COUNTED, Encoder, Index, SavedIndex
from retrieval.shards import key
from retrieval.token_feedback import TokenFeedback
from retrieval.token_vectors import TokenStore
from retrieval.types import Feedback, Queries, Run
from retrieval.vectors import VectorStore

__all__ = ["DenseRetriever"]


class DenseRetriever:
    """Retrieval with vectors of texts or tokens; queries that already carry vectors are searched as they are."""

    reads = ("representations", "texts")

    def __init__(self, encoder: Encoder, index: Index, vectors: Path | None = None, dtype: Number | None = None):
        """`vectors` is a folder that retrieval.encode wrote; None encodes into the cache, once.

        `dtype` is that of the stored vectors; None means float32, or whatever `vectors` holds.
        """
        self.encoder, self.index, self.vectors, self.dtype = encoder, index, vectors, dtype
        self.truncated_queries = self.truncated_texts = 0  # of all that were encoded so far

    @property
    def nested(self) -> bool:
        """Whether its index finds the same however much is asked for."""
        return getattr(self.index, "nested", False)

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Encode the corpus, or open its vectors. Raises ValueError for those of another corpus, encoder or dtype."""
        contract = self.encoder.contract()
        name = key(corpus, contract, self.dtype or "float32")
        place = self.vectors or folder / "vectors" / name
        if not self.vectors:
            encode_corpus(corpus, self.encoder, place, self.dtype or "float32")
        store = open_store(place)
        if not isinstance(store, VectorStore | TokenStore):
            raise ValueError(f"{place} holds sparse vectors, which the retriever `sparse` searches")
        self.corpus, self.store = corpus, store.expect(corpus, contract, self.dtype)
        self.tokens = None
        if isinstance(store, TokenStore) and hasattr(self.encoder, "token_ids"):
            self.tokens = TokenFeedback(corpus, store, self.encoder, folder / "tokens" / name)
        self.index = copy.copy(self.index)  # a recipe may share one between retrievers; each searches its own vectors
        if isinstance(self.index, SavedIndex):
            self.index.open(self.store, corpus.ids.rank, folder / "indexes" / key(corpus, contract, store.dtype))
        else:
            self.index.build(self.store, corpus.ids.rank)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The min(k, documents) with the highest scores per query."""
        found: Any = self.encoded(queries).representations
        return Run(queries.ids, self.corpus.ids, *self.index.search(found, k), "dense")

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """The queries with their vectors, and a handle on texts and vectors, or token vectors, of what was found."""
        own, shown = self.encoded(queries), Feedback(run, texts=self.corpus.texts)
        if isinstance(self.store, VectorStore):
            return own, replace(shown, vectors=self.store.rows)
        if self.tokens is None:
            return own, shown
        return own, replace(shown, tokens=self.tokens.of, statistics=self.tokens.statistics)

    def read(self, queries: Queries, run: Run, texts: Sequence[str]) -> tuple[Queries, Feedback]:
        """The queries with their vectors, and these texts, encoded as documents when their vectors are asked for."""

        @cache
        def encoded() -> Any:
            made = dense(self.encoder.encode_docs(texts))
            self.truncated_texts += getattr(made, "truncated", 0)
            return made

        vectors = (lambda rows: encoded().vectors[rows]) if isinstance(self.store, VectorStore) else None
        return self.encoded(queries), Feedback(run, texts=picking(texts), vectors=vectors)

    def encoded(self, queries: Queries) -> Queries:
        """The queries with their vectors. Raises ValueError for instructions that the encoder does not take."""
        if queries.representations is not None:
            return queries
        found = dense(encoded_queries(self.encoder, queries))
        self.truncated_queries += getattr(found, "truncated", 0)
        return replace(queries, representations=found)

    def provenance(self) -> dict[str, Any]:
        """What the vectors and the index are, for the manifest; of one that was never opened, what encodes."""
        if not hasattr(self, "store"):
            return {"encoder": dict(self.encoder.contract())}
        about = {
            "vectors": str(self.store.folder),
            "encoder": dict(self.encoder.contract()),
            "stored as": self.store.dtype,
            "documents": len(self.store),
            "truncated documents": self.store.truncated,
            "truncated queries": self.truncated_queries,
            "truncated written texts": self.truncated_texts,
            "zero vectors": self.store.zero,
        }
        index = self.index.provenance() if hasattr(self.index, "provenance") else {}
        counts = {what: count for what, count in index.items() if what.startswith(COUNTED)}
        return about | counts | ({"index": index} if index else {})
