"""Fusion by turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval.composed import content, provenance, reads
from retrieval.corpus import Corpus
from retrieval.fusing import Parts, interleaved
from retrieval.protocols import Retriever
from retrieval.types import Feedback, Queries, Run

__all__ = ["RoundRobin"]


class RoundRobin:
    """Fusion by turns: each retriever in the order given adds its next document that none has added.

    The score is 1 / rank.
    """

    def __init__(self, retrievers: list[Retriever], depth: int = 1000):
        """`depth` is how many documents of each retriever there are to add."""
        self.parts, self.retrievers, self.depth = Parts(retrievers, depth), retrievers, depth

    @property
    def reads(self) -> tuple[str, ...]:
        """What some retriever reads of a query."""
        return reads(self.retrievers)

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the retrievers."""
        self.parts.open(corpus, folder)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The first k in turn."""
        return interleaved(self, self.parts.retrieve(queries), k)

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the first retriever that has any, else the texts of the corpus."""
        return content(self.retrievers, self.parts.corpus, queries, run)

    def provenance(self) -> dict[str, Any]:
        """What the retrievers are, and the sums of what they count."""
        return provenance(self.parts.named())
