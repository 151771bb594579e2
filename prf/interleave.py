"""Texts between repetitions of the query."""

from __future__ import annotations

from prf._texts import check_depth, reworded, texts_of
from retrieval.types import Feedback, Queries

__all__ = ["Interleave"]


class Interleave:
    """q' = q a1 q a2 ... q an, as LameR (Shen et al. 2023) has it. A query without texts stays as it is."""

    needs = ("texts",)
    writes = "texts"

    def __init__(self, separator: str = " ", fb_docs: int | None = None):
        """`fb_docs` None takes all texts."""
        self.separator, self.fb_docs = separator, check_depth(self, fb_docs)

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new texts. Raises ValueError without the texts of the documents."""
        every = texts_of(self, queries, feedback, self.fb_docs)
        joined = [
            self.separator.join(part for text in texts for part in (query, text)) or query
            for query, texts in zip(queries.texts, every, strict=True)
        ]
        return reworded(queries, joined)
