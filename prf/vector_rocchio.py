"""Rocchio over vectors: the query's vector moved towards the first documents, and away from the last."""

from __future__ import annotations

import numpy as np

from prf._means import demand_vectors, mean_of, moved
from prf._vectors import best, last
from retrieval.types import Feedback, Queries

__all__ = ["VectorRocchio"]


class VectorRocchio:
    """q' = alpha q + beta mean(first) - gamma mean(last), not normalised again. Rocchio (1971); Li et al. (2021).

    The defaults are what the paper recommends. Pyserini's command line has alpha 0.9, beta 0.1, gamma 0.1, fb_docs 3
    and bottom_docs 0. A query that nothing moves, for want of documents or of weight, keeps its vector to the last bit:
    it is not scaled by alpha either.
    """

    needs = ("vectors",)
    writes = "representations"

    def __init__(
        self, alpha: float = 0.4, beta: float = 0.6, gamma: float = 0.0, fb_docs: int = 5, bottom_docs: int = 0
    ):
        """`gamma` weighs the last `bottom_docs` documents of the first pass, whose depth should keep them apart."""
        if not all(one >= 0 for one in (alpha, beta, gamma, fb_docs, bottom_docs)):  # NaN is refused too
            raise ValueError(
                "VectorRocchio takes alpha, beta, gamma, fb_docs and bottom_docs of 0 or more, "
                f"not {alpha}, {beta}, {gamma}, {fb_docs} and {bottom_docs}"
            )
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.fb_docs, self.bottom_docs = fb_docs, bottom_docs

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new `representations`. Raises ValueError without vectors of queries and documents."""
        vectors, found = demand_vectors(self, queries, feedback)
        moves, to = np.zeros(len(vectors), bool), self.alpha * vectors
        for weight, rows in (
            (self.beta, best(found.run, self.fb_docs)),
            (-self.gamma, last(found.run, self.bottom_docs)),
        ):
            if weight:
                to += weight * mean_of(found, rows)
                moves |= np.array([len(one) > 0 for one in rows], bool)
        return moved(queries, vectors, to, moves)
