"""The average of query and document term vectors, for feedback from generated documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prf._vectors import TermFilter, Vector, best, demand, prune, total, unit_l2, vectors
from retrieval.types import Feedback, Queries

__all__ = ["AverageTerms"]


class AverageTerms:
    """q' = mean(q, documents), each of unit length: HyDE's (Gao et al. 2023), over terms as Jedidi and Lin (2025).

    The mean is cut to its `fb_terms` heaviest terms and has unit length.
    """

    needs = ("terms",)
    writes = "terms"

    def __init__(self, fb_terms: int = 128, fb_docs: int = 8, max_df: float | None = 0.1):
        """`max_df` drops terms in more than that share of the documents from the documents, not from the query."""
        if fb_terms < 1 or fb_docs < 1:
            raise ValueError(f"AverageTerms needs fb_terms and fb_docs of at least 1, not {fb_terms} and {fb_docs}")
        self.fb_terms, self.fb_docs = fb_terms, fb_docs
        self.max_df, self.keep = max_df, TermFilter(max_df)

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new `terms`. Raises ValueError without the terms of queries and documents."""
        terms, found = demand(self, queries, feedback)
        documents = vectors(found, best(found.run, self.fb_docs), self.keep, unit_l2)
        return replace(queries, terms=[self._average(*one) for one in zip(terms, documents, strict=True)])

    def _average(self, query: Vector, documents: Sequence[Vector]) -> Vector:
        mean = total((one, 1.0) for one in [unit_l2(query), *documents])  # of another length, which does not matter
        return unit_l2(prune(mean, self.fb_terms))
