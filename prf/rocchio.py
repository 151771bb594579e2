"""Rocchio over terms: the query moved towards the first documents, and away from the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import repeat

import numpy as np

from prf._vectors import TermFeedback, TermFilter, Vector, best, demand, directions, last, positive, total, unit_l2
from retrieval.types import Feedback, Queries

__all__ = ["Rocchio"]


class Rocchio:
    """q' = alpha q + beta mean(first) - gamma mean(last), each of unit length. Rocchio (1971) as Anserini has it.

    Documents have unit length before the mean is taken, which is cut to its `fb_terms` heaviest terms and normalised.
    Weights of 0 or less are dropped; a query without feedback keeps its own terms.
    """

    needs = ("terms",)
    writes = "terms"

    def __init__(
        self,
        fb_terms: int = 10,
        fb_docs: int = 10,
        alpha: float = 1.0,
        beta: float = 0.75,
        gamma: float = 0.15,
        use_negative: bool = False,
        bottom_fb_docs: int = 10,
        max_df: float | None = 0.1,
    ):
        """`gamma` and `bottom_fb_docs`, the last documents of the first pass, count with `use_negative` only."""
        if fb_terms < 1 or fb_docs < 1 or bottom_fb_docs < 1 or min(alpha, beta, gamma) < 0:
            raise ValueError(
                "Rocchio needs fb_terms, fb_docs and bottom_fb_docs of at least 1, no negative alpha, beta or gamma, "
                f"not {fb_terms}, {fb_docs}, {bottom_fb_docs} and {alpha}, {beta}, {gamma}"
            )
        self.fb_terms, self.fb_docs, self.bottom_fb_docs = fb_terms, fb_docs, bottom_fb_docs
        self.alpha, self.beta, self.gamma, self.use_negative = alpha, beta, gamma, use_negative
        self.max_df, self.keep = max_df, TermFilter(max_df)

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new `terms`. Raises ValueError without the terms of queries and documents."""
        terms, found = demand(self, queries, feedback)
        towards = self._means(found, best(found.run, self.fb_docs))
        away = self._means(found, last(found.run, self.bottom_fb_docs)) if self.use_negative else repeat({}, len(terms))
        return replace(queries, terms=[self._moved(*one) for one in zip(terms, towards, away, strict=True)])

    def _means(self, feedback: TermFeedback, rows: Sequence[np.ndarray]) -> Iterator[Vector]:
        """The mean of each query's documents; only its direction counts, so the sum does."""
        ones = [np.ones(len(row)) for row in rows]
        return directions(feedback, rows, ones, self.keep, each=None, size=self.fb_terms, order=2)

    def _moved(self, query: Vector, towards: Vector, away: Vector) -> Vector:
        own = unit_l2(query)
        return positive(total([(own, self.alpha), (towards, self.beta), (away, -self.gamma)])) or own
