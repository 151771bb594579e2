"""Average: the query's vector and those of the first documents, all of one weight."""

from __future__ import annotations

import numpy as np

from prf._means import demand_vectors, mean_of, moved
from prf._vectors import best
from retrieval.types import Feedback, Queries

__all__ = ["Average"]


class Average:
    """q' = mean(q, d1, ..., dk), not normalised again. Li et al. (2021), vector PRF; HyDE puts its texts so as well.

    A query without feedback keeps its vector, as all do with `fb_docs` 0.
    """

    needs = ("vectors",)
    writes = "representations"

    def __init__(self, fb_docs: int = 3):
        """`fb_docs` is k, the first documents of the first pass; where fewer were found, the mean is of those."""
        if fb_docs < 0:
            raise ValueError(f"fb_docs is {fb_docs}: Average takes 0 documents (the query stays as it is) or more")
        self.fb_docs = fb_docs

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new `representations`. Raises ValueError without vectors of queries and documents."""
        vectors, found = demand_vectors(self, queries, feedback)
        rows = best(found.run, self.fb_docs)
        documents = np.array([[len(one)] for one in rows], float).reshape(-1, 1)
        together = (vectors + documents * mean_of(found, rows)) / (1 + documents)
        return moved(queries, vectors, together, documents[:, 0] > 0)
