"""RM3: the query mixed with a relevance model of the first documents."""

from __future__ import annotations

from dataclasses import replace

from prf._vectors import LETTERS_AND_DIGITS, TermFilter, Vector, best, demand, directions, positive, total, unit_l1
from retrieval.types import Feedback, Queries

__all__ = ["RM3"]


class RM3:
    """q' = w q + (1 - w) sum of score(d) tf(d) / |tf(d)|, all in L1. RM3 (Abdul-Jaleel et al. 2004) as Anserini has it.

    Each document is cut to its `fb_terms` heaviest terms before it is normalised, and their sum again. The weights of a
    query sum to 1; one without feedback keeps its own terms.
    """

    needs = ("terms",)
    writes = "terms"

    def __init__(
        self,
        fb_terms: int = 10,
        fb_docs: int = 10,
        original_query_weight: float = 0.5,
        filter_terms: bool = True,
        max_df: float | None = 0.1,
    ):
        """`filter_terms` keeps [a-z0-9]+ only; `max_df` drops terms in more than that share of the documents."""
        if fb_terms < 1 or fb_docs < 1 or not 0 <= original_query_weight <= 1:
            raise ValueError(
                f"RM3 needs fb_terms and fb_docs of at least 1 and original_query_weight in [0, 1], "
                f"not {fb_terms}, {fb_docs} and {original_query_weight}"
            )
        self.fb_terms, self.fb_docs, self.original_query_weight = fb_terms, fb_docs, original_query_weight
        self.filter_terms, self.max_df = filter_terms, max_df
        self.keep = TermFilter(max_df, LETTERS_AND_DIGITS if filter_terms else None)

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new `terms`. Raises ValueError without the terms of queries and documents."""
        terms, found = demand(self, queries, feedback)
        rows = best(found.run, self.fb_docs)
        scores = [line[: len(row)] for line, row in zip(found.run.scores, rows, strict=True)]
        models = directions(found, rows, scores, self.keep, each=self.fb_terms, size=self.fb_terms, order=1)
        return replace(queries, terms=[self._mixed(*one) for one in zip(terms, models, strict=True)])

    def _mixed(self, query: Vector, model: Vector) -> Vector:
        own = unit_l1(query)
        if not model:
            return own
        return positive(total([(own, self.original_query_weight), (model, 1 - self.original_query_weight)]))
