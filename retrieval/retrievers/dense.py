"""Dense retrieval: encode the query, search the index."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from retrieval.corpus import Corpus
from retrieval.protocols import Encoder, Index
from retrieval.shards import key, plain
from retrieval.types import Feedback, Queries, Run
from retrieval.vectors import VectorStore, encode_corpus

__all__ = ["DenseRetriever"]


class DenseRetriever:
    """Single-vector retrieval; queries that already carry vectors are searched as they are."""

    reads = ("representations", "texts")

    def __init__(self, encoder: Encoder, index: Index, vectors: Path | None = None):
        """`vectors` is a folder that retrieval.encode wrote; None encodes into the cache, once."""
        self.encoder, self.index, self.vectors = encoder, index, vectors
        self.truncated_queries = 0  # of all that were encoded so far

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Encode the corpus, or open its vectors. Raises ValueError for vectors of another corpus or encoder."""
        contract = plain(self.encoder.contract())
        self.corpus = corpus
        if self.vectors:
            self.store = VectorStore(self.vectors).expect(corpus, contract)
        else:
            self.store = encode_corpus(corpus, self.encoder, folder / "vectors" / key(corpus, contract))
        self.index = copy.copy(self.index)  # a recipe may share one between retrievers; each searches its own vectors
        self.index.build(self.store, corpus.ids.rank)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The min(k, documents) with the highest scores per query."""
        return Run(queries.ids, self.corpus.ids, *self.index.search(self._encoded(queries).representations, k), "dense")  # type: ignore[arg-type]

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """The queries with their vectors, and a handle on texts and vectors of what was found."""
        return self._encoded(queries), Feedback(run, texts=self.corpus.texts, vectors=self.store.rows)

    def provenance(self) -> dict[str, Any]:
        """What the vectors are, for the manifest."""
        return {
            "vectors": str(self.store.folder),
            "encoder": dict(self.store.contract),
            "documents": len(self.store),
            "truncated documents": self.store.truncated,
            "truncated queries": self.truncated_queries,
        }

    def _encoded(self, queries: Queries) -> Queries:
        if queries.representations is not None:
            return queries
        found = self.encoder.encode_queries(queries.texts)
        self.truncated_queries += getattr(found, "truncated", 0)
        return replace(queries, representations=found)
