"""Weighted information gain."""

from __future__ import annotations

import math

import numpy as np

from prf.predictors._lists import NOTHING, first_pass, score_lists
from retrieval.types import Feedback, Queries

__all__ = ["WIG"]


class WIG:
    """(mean of the k best scores - score of the collection) / sqrt(words of the query). Zhou and Croft (2007).

    The mean over the whole first pass stands for the score of the collection, as in NQC; a query without words counts
    as one word. A list of k documents or fewer has no rest to gain on: it is predicted as if nothing had been found.
    """

    needs = ()

    def __init__(self, k: int = 5):
        """Raises ValueError for a k below 1."""
        if k < 1:
            raise ValueError(f"k is {k}; it is at least 1")
        self.k = k

    def predict(self, queries: Queries, feedback: Feedback | None) -> np.ndarray:
        """float64 [queries], -inf where no more than k documents were found.

        Raises ValueError without a first pass of these queries, and for one no deeper than k, where all gain is 0.
        """
        run = first_pass(self, queries, feedback)
        if len(queries) and run.rows.shape[1] <= self.k:
            raise ValueError(
                f"WIG compares the first {self.k} documents with the whole first pass, which has {run.rows.shape[1]}: "
                "give it a greater depth, or a smaller k"
            )
        pairs = zip(score_lists(run), queries.texts, strict=True)
        return np.array([self._of(scores, text) for scores, text in pairs], np.float64)

    def _of(self, scores: np.ndarray, text: str) -> float:
        if len(scores) <= self.k:
            return NOTHING
        return (scores[: self.k].mean() - scores.mean()) / math.sqrt(max(1, len(text.split())))
