"""The top score as a prediction."""

from __future__ import annotations

import numpy as np

from prf.predictors._lists import NOTHING, first_pass, score_lists
from retrieval.types import Feedback, Queries

__all__ = ["Score"]


class Score:
    """The score of the first document, or how far it lies above the one at rank `gap_to`, the last of a shorter list.

    Queries are compared by it as they are: it means something where scores have one scale, such as cosines.
    """

    needs = ()

    def __init__(self, gap_to: int | None = None):
        """Raises ValueError for a `gap_to` below 2."""
        if gap_to is not None and gap_to < 2:
            raise ValueError(f"gap_to is {gap_to}; it is a rank of at least 2, or None for the score itself")
        self.gap_to = gap_to

    def predict(self, queries: Queries, feedback: Feedback | None) -> np.ndarray:
        """float64 [queries], -inf where nothing was found, or, for a gap, only one document.

        Raises ValueError without a first pass of these queries.
        """
        run = first_pass(self, queries, feedback)
        least = 1 if self.gap_to is None else 2
        lists = score_lists(run)
        return np.array([self._of(scores) if len(scores) >= least else NOTHING for scores in lists], np.float64)

    def _of(self, scores: np.ndarray) -> float:
        return scores[0] if self.gap_to is None else scores[0] - scores[: self.gap_to][-1]
