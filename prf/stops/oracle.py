"""An oracle: rounds end when the judgements say that the result is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.qrels_measure import Judge
from retrieval.types import Queries, Run

__all__ = ["Oracle"]


class Oracle:
    """Enough where the top of the last search reaches a measure on the judgements. ConvSim, Owoicho et al. (2023).

    It looks at what a method is measured by: a bound, and no method.
    """

    def __init__(self, qrels: Path, measure: str = "nDCG@3", threshold: float = 0.75):
        """`qrels` is a file of judgements, also below RETRIEVAL_DATA. Raises ValueError for an unknown measure."""
        self.judge, self.qrels, self.measure, self.threshold = Judge(qrels, measure), qrels, measure, threshold

    def stop(self, queries: Queries, rounds: Sequence[Run]) -> np.ndarray:
        """bool [queries]; one that is not judged has never enough. Raises ValueError where none is judged at all."""
        if len(rounds) == 1:  # later ones may go on with unjudged queries alone
            self.judge.refuse_unjudged(queries.ids)
        return self.judge.values(rounds[-1]) >= self.threshold

    def provenance(self) -> dict[str, Any]:
        """That it is an oracle, for the manifest."""
        return {**self.judge.provenance(), "threshold": self.threshold}
