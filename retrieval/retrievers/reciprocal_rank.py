"""Fusion by ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval.composed import content, provenance, reads
from retrieval.corpus import Corpus
from retrieval.fusing import Parts, by_rank, check_weights, summed
from retrieval.protocols import Retriever
from retrieval.types import Feedback, Queries, Run

__all__ = ["ReciprocalRank"]


class ReciprocalRank:
    """Reciprocal rank fusion: the sum of weight / (k_rrf + rank), ranks from 1. Cormack et al. (2009)."""

    def __init__(
        self, retrievers: list[Retriever], k_rrf: int = 60, weights: list[float] | None = None, depth: int = 1000
    ):
        """`depth` is how many documents of each retriever count; weights None are 1 each."""
        if k_rrf < 0:
            raise ValueError(f"k_rrf is {k_rrf}; it is 0 or more")
        self.weights = check_weights(weights, retrievers)
        self.parts, self.retrievers, self.k_rrf, self.depth = Parts(retrievers, depth), retrievers, k_rrf, depth

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
        gives = [by_rank(run, weight, self.k_rrf) for run, weight in zip(runs, self.weights, strict=True)]
        return summed(self, runs, gives, k)

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the first retriever that has any, else the texts of the corpus."""
        return content(self.retrievers, self.parts.corpus, queries, run)

    def provenance(self) -> dict[str, Any]:
        """What the retrievers are, and the sums of what they count."""
        return provenance(self.parts.named())
