"""Rounds end by how much of what a search finds was found by the one before; no judgement is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from retrieval.order import PAD
from retrieval.types import Queries, Run

__all__ = ["Overlap"]


class Overlap:
    """Enough where the overlap of a search's top with the top before passes a threshold.

    "above" ends what has settled, "below" what has drifted away. A query that finds nothing has had enough.
    """

    def __init__(self, threshold: float = 0.8, when: Literal["above", "below"] = "above"):
        """`threshold` is a share of the documents; "above" includes it."""
        if not 0 <= threshold <= 1 or when not in ("above", "below"):
            raise ValueError(f'threshold is within [0, 1] and when "above" or "below", not {threshold} and {when!r}')
        self.threshold, self.when = threshold, when

    def stop(self, queries: Queries, rounds: Sequence[Run]) -> np.ndarray:
        """bool [queries]; after the first round only queries that found nothing."""
        now = [row[row != PAD] for row in rounds[-1].rows]
        nothing = np.array([not len(row) for row in now], bool)
        if len(rounds) < 2:
            return nothing
        again = [np.isin(row, old).sum() for row, old in zip(now, rounds[-2].rows, strict=True)]
        share = np.array(again) / np.array([max(1, len(row)) for row in now])
        return nothing | (share >= self.threshold if self.when == "above" else share < self.threshold)
