"""Written texts as feedback documents: what a language model wrote for a query instead of what a first pass found."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from retrieval.composed import provenance
from retrieval.corpus import Corpus
from retrieval.ids import DocIds
from retrieval.order import PAD
from retrieval.protocols import FeedbackSource, Retriever, TextReader, Writer
from retrieval.remembered import retrieved
from retrieval.types import Feedback, Queries, Run

__all__ = ["Generated"]

log = logging.getLogger(__name__)


class Generated:
    """A feedback source whose documents a writer wrote, as GRF (Mackie et al. 2023) and Jedidi and Lin (2025) use them.

    They are a table of their own, `<query>#<number>`, read as `retriever` reads documents: it gives their terms or
    vectors, and the statistics of its collection.
    """

    def __init__(
        self,
        writer: Writer,
        retriever: Retriever,
        source: Retriever | None = None,
        depth: int = 10,
        weight_by: Literal["bm25", "one"] = "one",
        k1: float = 0.9,
        b: float = 0.4,
    ):
        """`source` finds the `depth` documents of a writer that needs some; None is `retriever`.

        A text scores 1 by "one", in the order of writing, and by "bm25" what it would score for the query, each of
        whose terms counts once. Raises ValueError for a retriever that cannot read texts from outside its corpus, and
        for a source that does not show what the writer needs.
        """
        if weight_by not in ("bm25", "one"):
            raise ValueError(f'weight_by is "bm25" or "one", not {weight_by!r}')
        if not isinstance(retriever, TextReader):
            raise ValueError(f"{type(retriever).__name__} cannot read written texts; bm25, sparse and dense can")
        if weight_by == "bm25" and not hasattr(retriever, "analyzer"):
            raise ValueError(f"{type(retriever).__name__} has no analyzer to weigh texts with; use weight_by: one")
        self.source: Retriever = source or retriever
        if writer.needs and (depth < 1 or not isinstance(self.source, FeedbackSource)):
            raise ValueError(
                f"{type(writer).__name__} needs the {' and '.join(writer.needs)} of documents: "
                f"give a depth of at least 1, not {depth}, and a source that shows them, such as bm25"
            )
        shown = getattr(writer, "documents_read", 0)
        if writer.needs and shown > depth:
            raise ValueError(f"{type(writer).__name__} reads {shown} documents and depth is {depth}: raise the depth")
        self.writer, self.depth, self.weight_by, self.k1, self.b = writer, depth, weight_by, k1, b
        self.retriever: Any = retriever
        self.empty_texts = self.queries_without_texts = 0  # of all that were written so far

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the retriever, and the source where the writer needs one."""
        self.retriever.open(corpus, folder)
        if self.writer.needs and self.source is not self.retriever:
            self.source.open(corpus, folder)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best texts of each query; a query without texts is warned of and finds nothing."""
        written = self.writer.write(queries, self._first_pass(queries))
        kept = [[text for text in texts if text.strip()] for texts in written]
        self.empty_texts += sum(map(len, written)) - sum(map(len, kept))
        without = sum(not texts for texts in kept)
        self.queries_without_texts += without
        if without:
            name = type(self.writer).__name__
            log.warning("%d of %d queries have no text from %s and stay as they are", without, len(queries), name)
        self.texts = [text for texts in kept for text in texts]
        ids = pa.array([f"{query}#{n}" for query, one in zip(queries.ids, kept, strict=True) for n in range(len(one))])
        named = DocIds.of(ids)
        # of equal texts the one written first comes first
        self.docs = DocIds(named.values, named.fingerprint, np.arange(len(named), dtype=np.int32)[::-1].copy())
        first = np.cumsum([0, *map(len, kept)], dtype=np.int64)
        rows = np.full((len(queries), max(map(len, kept), default=0)), PAD, np.int32)
        for place in range(len(queries)):
            rows[place, : len(kept[place])] = np.arange(first[place], first[place + 1])
        return Run.ordered(queries.ids, self.docs, rows, self._scores(queries, rows), self._name()).top(k)

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """The queries as the retriever searches with them, and the texts as it reads them."""
        if run.docs is not self.docs:
            raise ValueError("this run is not of the texts that were written last")
        return self.retriever.read(queries, run, self.texts)

    def provenance(self) -> dict[str, Any]:
        """What wrote the texts, and what reads them, for the manifest."""
        parts = {"writer": self.writer, "retriever": self.retriever}
        if self.writer.needs and self.source is not self.retriever:
            parts["source"] = self.source
        return provenance(parts) | {
            "empty texts": self.empty_texts,
            "queries without texts": self.queries_without_texts,
        }

    def _name(self) -> str:
        return type(self.writer).__name__.lower()

    def _first_pass(self, queries: Queries) -> Feedback | None:
        if not self.writer.needs:
            return None
        source: Any = self.source
        _, feedback = source.feedback(queries, retrieved(source, queries, self.depth))
        lacking = [need for need in self.writer.needs if getattr(feedback, need) is None]
        if lacking:
            raise ValueError(f"{type(source).__name__} does not give the {lacking[0]} that {self._name()} needs")
        return feedback

    def _scores(self, queries: Queries, rows: np.ndarray) -> np.ndarray:
        """The score of each text, float32 [queries, texts]; -inf for pads."""
        scores = np.where(rows == PAD, -np.inf, 1.0).astype(np.float32)
        if self.weight_by == "bm25":
            for place, weights in enumerate(self._weights(queries, rows)):
                scores[place, : len(weights)] = weights
        return scores

    def _weights(self, queries: Queries, rows: np.ndarray) -> Iterator[Sequence[float]]:
        run = Run(queries.ids, self.docs, rows, np.where(rows == PAD, -np.inf, 1.0).astype(np.float32))
        own, feedback = self.retriever.read(queries, run, self.texts)
        idf = self._idf(list(dict.fromkeys(term for one in own.terms for term in one)))
        for query, places in zip(own.terms, rows, strict=True):
            yield [self._bm25(query, counts, idf) for counts in feedback.terms(places[places != PAD])]

    def _idf(self, terms: Sequence[str]) -> dict[str, float]:
        df, n = self.retriever.statistics.frequencies(terms), self.retriever.statistics.documents
        return dict(zip(terms, np.log1p((n - df + 0.5) / (df + 0.5)).tolist(), strict=True))

    def _bm25(self, query: Mapping[str, float], counts: Mapping[str, float], idf: Mapping[str, float]) -> float:
        length = sum(counts.values()) / self.retriever.mean_length
        norm = self.k1 * (1 - self.b + self.b * length)
        return math.fsum(idf[term] * counts[term] / (counts[term] + norm) for term in query if term in counts)
