"""What predictors share: the scores of each query's list, and what a list without documents predicts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from retrieval.order import PAD
from retrieval.types import Feedback, Queries, Run

__all__ = ["NOTHING", "first_pass", "score_lists"]

NOTHING = -np.inf  # predicted where nothing was found: below all that was


def first_pass(predictor: object, queries: Queries, feedback: Feedback | None) -> Run:
    """The run that is judged. Raises ValueError where there is none, or one of other queries."""
    name = type(predictor).__name__
    if feedback is None:
        raise ValueError(f"{name} judges what a first pass found: give it the feedback of one")
    if list(feedback.run.query_ids) != list(queries.ids):
        raise ValueError(f"{name} was given {len(queries)} queries and the first pass of others")
    return feedback.run


def score_lists(run: Run) -> Iterator[np.ndarray]:
    """The scores of each query's documents, float64, best first."""
    for rows, scores in zip(run.rows, run.scores, strict=True):
        yield scores[rows != PAD].astype(np.float64)
