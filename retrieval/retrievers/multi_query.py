"""Several wordings of a query, searched apart and fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.composed import content, provenance
from retrieval.corpus import Corpus
from retrieval.fusing import NORMALISED, Normalise, by_rank, interleaved, summed
from retrieval.order import PAD
from retrieval.protocols import Retriever, TextReader
from retrieval.remembered import retrieved
from retrieval.types import Feedback, Queries, Run

__all__ = ["MultiQuery"]


class MultiQuery:
    """The lists of a query's variants as one: RAG-Fusion's and GenQRFusion's by reciprocal ranks, or their scores' sum.

    Queries without variants are searched as they are.
    """

    reads = ("variants", "terms", "representations", "texts")

    def __init__(
        self,
        retriever: Retriever,
        fusion: Literal["reciprocal_rank", "weighted_sum", "round_robin"] = "reciprocal_rank",
        k_rrf: int = 60,
        normalise: Normalise | None = None,
        depth: int = 1000,
    ):
        """`k_rrf` is of reciprocal_rank (ranks from 1), `normalise` of weighted_sum: min_max, z_score, sum or None.

        `depth` is how many documents of each variant count. A variant's weight multiplies what it gives.
        """
        if fusion not in ("reciprocal_rank", "weighted_sum", "round_robin"):
            raise ValueError(f"fusion is reciprocal_rank, weighted_sum or round_robin, not {fusion!r}")
        if k_rrf < 0 or depth < 1 or normalise not in NORMALISED:
            raise ValueError(
                f"k_rrf is 0 or more, depth at least 1 and normalise min_max, z_score, sum or None, "
                f"not {k_rrf}, {depth} and {normalise!r}"
            )
        self.retriever, self.fusion, self.k_rrf, self.normalise, self.depth = retriever, fusion, k_rrf, normalise, depth

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the retriever."""
        self.corpus = corpus
        self.retriever.open(corpus, folder)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best of what the variants find; all variants are searched in one call."""
        if queries.variants is None:
            return retrieved(self.retriever, queries, k)
        runs, weights = self._runs(queries, queries.variants)
        if not runs:
            return self.retriever.retrieve(queries, k).top(0)
        if self.fusion == "round_robin":
            found = interleaved(self, runs, k)
        else:
            gives = [weight[:, None] * self._gives(run) for run, weight in zip(runs, weights, strict=True)]
            found = summed(self, runs, gives, k)
        return replace(found, name=f"{runs[0].name}+{self.fusion}")

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the retriever, else the texts of the corpus."""
        return content([self.retriever], self.corpus, queries, run)

    def read(self, queries: Queries, run: Run, texts: Sequence[str]) -> tuple[Queries, Feedback]:
        """As the retriever reads them. Raises ValueError for one that cannot."""
        if not isinstance(self.retriever, TextReader):
            raise ValueError(f"{type(self.retriever).__name__} cannot read written texts; bm25, sparse and dense can")
        return self.retriever.read(queries, run, texts)

    def provenance(self) -> dict[str, Any]:
        """What the retriever is, for the manifest."""
        about = {"fusion": self.fusion, "k_rrf": self.k_rrf, "normalise": self.normalise, "depth": self.depth}
        return about | provenance({"retriever": self.retriever})

    def _gives(self, run: Run) -> np.ndarray:
        return by_rank(run, 1.0, self.k_rrf) if self.fusion == "reciprocal_rank" else NORMALISED[self.normalise](run)

    def _runs(
        self, queries: Queries, variants: Sequence[Sequence[tuple[str, float]]]
    ) -> tuple[list[Run], list[np.ndarray]]:
        """Run i of every query's variant i, empty where there is none, and the variants' weights, float64 [queries]."""
        owner = np.repeat(np.arange(len(queries)), [len(one) for one in variants])
        asked = Queries(
            [f"{queries.ids[at]}#{n}" for at, one in enumerate(variants) for n in range(len(one))],
            [text for one in variants for text, _ in one],
            None if queries.instructions is None else [queries.instructions[at] for at in owner.tolist()],
        )
        every = self.retriever.retrieve(asked, self.depth)
        place = np.concatenate([np.zeros(0, int), *(np.arange(len(one)) for one in variants)]).astype(int)
        weight = np.array([weight for one in variants for _, weight in one])
        runs, weights = [], []
        for number in range(max(map(len, variants), default=0)):
            here = np.flatnonzero(place == number)
            rows = np.full((len(queries), every.rows.shape[1]), PAD, np.int32)
            scores = np.full(rows.shape, -np.inf, np.float32)
            rows[owner[here]], scores[owner[here]] = every.rows[here], every.scores[here]
            weights.append(np.zeros(len(queries)))
            weights[-1][owner[here]] = weight[here]
            runs.append(Run(queries.ids, every.docs, rows, scores, every.name))
        return runs, weights
