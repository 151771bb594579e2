"""Normalised query commitment."""

from __future__ import annotations

import numpy as np

from prf.predictors._lists import NOTHING, first_pass, score_lists
from retrieval.types import Feedback, Queries

__all__ = ["NQC"]

SMALLEST = 1e-9  # what is divided by at least


class NQC:
    """The standard deviation of the k best scores over |score of the collection|. Shtok et al. (2012).

    Few retrievers have a score of the collection as a document: the mean over the whole first pass stands for it, so a
    deep one, such as 1000, comes closest. One document has no deviation: it is predicted as if none had been found.
    """

    needs = ()

    def __init__(self, k: int = 100):
        """Raises ValueError for a k below 2."""
        if k < 2:
            raise ValueError(f"k is {k}; scores vary among at least 2 documents")
        self.k = k

    def predict(self, queries: Queries, feedback: Feedback | None) -> np.ndarray:
        """float64 [queries], -inf below two documents. Raises ValueError without a first pass of these queries."""
        run = first_pass(self, queries, feedback)
        return np.array([self._of(scores) if len(scores) > 1 else NOTHING for scores in score_lists(run)], np.float64)

    def _of(self, scores: np.ndarray) -> float:
        return scores[: self.k].std() / max(abs(scores.mean()), SMALLEST)
