"""Fusion by scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval.composed import content, provenance, reads
from retrieval.corpus import Corpus
from retrieval.fusing import NORMALISED, Normalise, Parts, check_weights, summed
from retrieval.protocols import Retriever
from retrieval.types import Feedback, Queries, Run

__all__ = ["WeightedSum"]


class WeightedSum:
    """Fusion by the weighted sum of scores (CombSUM, Fox and Shaw 1993; hybrids of dense and sparse).

    Scores are normalised by the query's own hits among the first `depth`: `min_max` to 0 to 1, `z_score` to mean 0 and
    deviation 1, `sum` to a minimum of 0 and a sum of 1. A retriever gives 0 to a document that it does not find, which
    for `z_score` is the mean of those it does; with `normalise: null` scores are added as they are.
    """

    def __init__(
        self,
        retrievers: list[Retriever],
        weights: list[float] | None = None,
        normalise: Normalise | None = "min_max",
        depth: int = 1000,
    ):
        """Weights None are 1 each."""
        if normalise not in NORMALISED:
            raise ValueError(f"normalise is min_max, z_score, sum or None, not {normalise!r}")
        self.weights = check_weights(weights, retrievers)
        self.parts, self.retrievers = Parts(retrievers, depth), retrievers
        self.normalise, self.depth = normalise, depth

    @property
    def reads(self) -> tuple[str, ...]:
        """What some retriever reads of a query."""
        return reads(self.retrievers)

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the retrievers."""
        self.parts.open(corpus, folder)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best of all that some retriever has among its first `depth`."""
        runs = self.parts.retrieve(queries)
        normalised = NORMALISED[self.normalise]
        gives = [weight * normalised(run) for run, weight in zip(runs, self.weights, strict=True)]
        return summed(self, runs, gives, k)

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the first retriever that has any, else the texts of the corpus."""
        return content(self.retrievers, self.parts.corpus, queries, run)

    def provenance(self) -> dict[str, Any]:
        """What the retrievers are, and the sums of what they count."""
        return provenance(self.parts.named())
