"""A language model before a retriever: texts are written for the query, put to it, and searched with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.corpus import Corpus
from retrieval.explanation import Explanation
from retrieval.protocols import Reformulator, Retriever, Writer
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.generated import Generated
from retrieval.types import Feedback, Queries, Run

__all__ = ["Rewrite"]

ALL = 1_000_000  # texts of a query


class Rewrite:
    """Rewriting = writer x join x retriever: what is written, how it changes the query, what searches.

    `join` is any feedback model, over the written texts in place of found documents: append, adaptive_repeat,
    interleave, separate (before multi_query), rm3, rocchio, average_terms, average, vector_rocchio.
    """

    def __init__(
        self,
        writer: Writer,
        retriever: Retriever,
        join: Reformulator | None = None,
        source: Retriever | None = None,
        depth: int = 10,
        weight_by: Literal["bm25", "one"] = "one",
    ):
        """`join` None is that of the writer's paper. `source` finds the `depth` documents of a writer that reads some.

        It is `retriever` where it is None; depth 0 then leaves the plain retriever. `weight_by` is of `generated`.
        Raises ValueError for a join whose queries the retriever does not read, and for a writer that names none.
        """
        if join is None and not hasattr(writer, "join"):
            raise ValueError(f"{type(writer).__name__} says no way to put its texts to the query: name a `join`")
        self.writer, self.retriever, self.source = writer, retriever, source
        self.depth, self.weight_by = depth, weight_by
        self.join: Reformulator = writer.join() if join is None else join  # type: ignore[attr-defined]
        plain = depth == 0 and bool(writer.needs)
        written = Generated(writer, retriever, source, ALL if plain else depth, weight_by)
        self.feedback_retriever = FeedbackRetriever(written, self.join, retriever, 0 if plain else ALL)

    @property
    def reads(self) -> tuple[str, ...]:
        """The texts of a query."""
        return ("texts",)

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the retrievers."""
        self.feedback_retriever.open(corpus, folder)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best documents for the new queries."""
        return self.feedback_retriever.retrieve(queries, k)

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the retriever."""
        return self.feedback_retriever.feedback(queries, run)

    def explain(self, queries: Queries, rows: np.ndarray) -> Explanation:
        """What the terms of the new query give to these documents, and which texts they come from."""
        return self.feedback_retriever.explain(queries, rows)

    def provenance(self) -> dict[str, Any]:
        """What wrote, and what searched, for the manifest."""
        return self.feedback_retriever.provenance()
