"""Coherence of the first documents' vectors."""

from __future__ import annotations

import numpy as np

from prf.predictors._lists import NOTHING, first_pass
from retrieval.order import PAD
from retrieval.types import Feedback, Queries

__all__ = ["DenseCoherence"]


class DenseCoherence:
    """The mean cosine over all pairs of the k first documents: what is found for a clear query is about one thing.

    A zero vector is at right angles to all.
    """

    needs = ("vectors",)

    def __init__(self, k: int = 10):
        """Raises ValueError for a k below 2."""
        if k < 2:
            raise ValueError(f"k is {k}; a pair is of 2 documents")
        self.k = k

    def predict(self, queries: Queries, feedback: Feedback | None) -> np.ndarray:
        """float64 [queries], -inf where fewer than two documents were found.

        Raises ValueError without a first pass of these queries and the vectors of its documents.
        """
        run = first_pass(self, queries, feedback)
        if feedback is None or feedback.vectors is None:
            raise ValueError("DenseCoherence needs the vectors of documents: name a dense retriever as the source")
        rows = run.rows[:, : self.k]
        distinct = np.unique(rows[rows != PAD]).astype(np.int32)
        vectors = np.asarray(feedback.vectors(distinct), np.float64)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
        return np.array([_mean_cosine(units[np.searchsorted(distinct, row[row != PAD])]) for row in rows], np.float64)


def _mean_cosine(units: np.ndarray) -> float:
    """|sum|^2 holds each pair twice, and each vector with itself."""
    n = len(units)
    if n < 2:
        return NOTHING
    total = units.sum(0)
    return float((total @ total - (units * units).sum()) / (n * (n - 1)))
