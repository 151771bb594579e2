"""Texts appended to the query."""

from __future__ import annotations

from prf._texts import check_depth, reworded, texts_of
from retrieval.types import Feedback, Queries

__all__ = ["Append"]


class Append:
    """q' = q, `repeat` times, then the texts: query2doc's (Wang et al. 2023) with 5, GenQREnsemble's with 1.

    A query without texts stays as it is.
    """

    needs = ("texts",)
    writes = "texts"

    def __init__(self, repeat: int = 1, separator: str = " ", before: bool = False, fb_docs: int | None = None):
        """`repeat` 0 leaves the texts alone; `before` puts them before the query; `fb_docs` None takes all of them."""
        if repeat < 0:
            raise ValueError(f"repeat is {repeat}; it is 0 or more")
        self.repeat, self.separator, self.before = repeat, separator, before
        self.fb_docs = check_depth(self, fb_docs)

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new texts. Raises ValueError without the texts of the documents."""
        every = texts_of(self, queries, feedback, self.fb_docs)
        joined = [self._joined(query, texts) for query, texts in zip(queries.texts, every, strict=True)]
        return reworded(queries, joined)

    def _joined(self, query: str, texts: list[str]) -> str:
        if not texts:
            return query
        asked = [query] * self.repeat
        return self.separator.join([*texts, *asked] if self.before else [*asked, *texts])
