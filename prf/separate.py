"""Each text a query of its own."""

from __future__ import annotations

from dataclasses import replace

from prf._texts import check_depth, texts_of
from retrieval.types import Feedback, Queries

__all__ = ["Separate"]


class Separate:
    """Queries q + a1, ..., q + an, which the retriever `multi_query` searches apart and fuses: RAG-Fusion, GenQRFusion.

    A query without texts is searched alone.
    """

    needs = ("texts",)
    writes = "variants"

    def __init__(self, with_query: bool = True, original: bool = False, fb_docs: int | None = None):
        """`with_query` puts the query before each text; `original` adds the query alone; `fb_docs` None: all texts."""
        self.with_query, self.original, self.fb_docs = with_query, original, check_depth(self, fb_docs)

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with variants of weight 1. Raises ValueError without the texts of the documents."""
        every = texts_of(self, queries, feedback, self.fb_docs)
        variants = [self._variants(query, texts) for query, texts in zip(queries.texts, every, strict=True)]
        return replace(queries, variants=variants, terms=None, representations=None)

    def _variants(self, query: str, texts: list[str]) -> list[tuple[str, float]]:
        own = [query] if self.original or not texts else []
        return [(one, 1.0) for one in [*own, *(f"{query} {text}" if self.with_query else text for text in texts)]]
