"""Reranking: a first pass, whose best documents a slower model puts into a new order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from retrieval.composed import content, found, name, provenance, reads
from retrieval.corpus import Corpus
from retrieval.order import PAD
from retrieval.protocols import ListReranker, Reranker, Retriever
from retrieval.reranking import pair_scores, run_of, spans
from retrieval.types import Feedback, Queries, Run

__all__ = ["Rerank"]


class Rerank:
    """The first `depth` documents in a reranker's order, those after them as they were, below all of these.

    A reranker that scores pairs gives the scores; of one that orders a list of n the first has score n, the last 1.
    It reads the text of the query, whatever else the query carries.
    """

    def __init__(self, retriever: Retriever, reranker: Reranker | ListReranker, depth: int = 100):
        """Raises ValueError for a depth below 1."""
        if depth < 1:
            raise ValueError(f"depth is {depth}; at least 1 document is reranked")
        self.retriever, self.reranker, self.depth = retriever, reranker, depth

    @property
    def reads(self) -> tuple[str, ...]:
        """What the first pass reads of a query."""
        return reads([self.retriever])

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the retriever."""
        self.corpus = corpus
        self.retriever.open(corpus, folder)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best. Raises ValueError for scores that are not finite, and for an order that is none."""
        first = found(self.retriever, queries, max(k, self.depth), self.corpus)
        lists = [rows[rows != PAD] for rows in first.rows]
        heads, rest = [rows[: self.depth] for rows in lists], [rows[self.depth :] for rows in lists]
        scored: list[tuple[np.ndarray, np.ndarray]] = []
        for span in spans(len(queries)):
            here = [heads[i] for i in span]
            scored += zip(here, self._scores([queries.texts[i] for i in span], here), strict=True)
        return run_of(queries.ids, first.docs, scored, rest, k, name(self.reranker, first))

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the retriever, else the texts of the corpus."""
        return content([self.retriever], self.corpus, queries, run)

    def provenance(self) -> dict[str, Any]:
        """What retriever and reranker are, and the sums of what they count."""
        return provenance({"retriever": self.retriever, "reranker": self.reranker})

    def _scores(self, texts: list[str], heads: list[np.ndarray]) -> list[np.ndarray]:
        """float32 per query, one score for each of its rows."""
        bounds = np.cumsum([0, *map(len, heads)])
        documents = self.corpus.texts(np.concatenate([np.empty(0, np.int32), *heads]))
        if isinstance(self.reranker, ListReranker):
            lists = [documents[start:stop] for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]
            return [_falling(order, len(one)) for order, one in zip(self._orders(texts, lists), lists, strict=True)]
        asked = np.repeat(np.arange(len(texts)), np.diff(bounds))
        pairs = [(texts[i], text) for i, text in zip(asked, documents, strict=True)]
        return np.split(pair_scores(self.reranker, pairs), bounds[1:-1])

    def _orders(self, texts: list[str], lists: list[list[str]]) -> list[Any]:
        orders = self.reranker.orders(texts, lists)  # type: ignore[union-attr]
        for order, one in zip(orders, lists, strict=True):
            if sorted(order) != list(range(len(one))):
                raise ValueError(f"{type(self.reranker).__name__} orders {len(one)} texts as {list(order)[:20]}")
        return orders


def _falling(order: Any, count: int) -> np.ndarray:
    """n for the place that comes first, 1 for the last."""
    scores = np.empty(count, np.float32)
    scores[np.asarray(order, int)] = np.arange(count, 0, -1)
    return scores
