"""Selective feedback: a prediction says for which queries feedback is worth it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.composed import content, found, open_all, provenance, reads, refuse_lack
from retrieval.corpus import Corpus
from retrieval.order import PAD
from retrieval.protocols import Predictor, Retriever
from retrieval.types import Feedback, Queries, Run

__all__ = ["Selective"]


class Selective:
    """The list of a retriever with feedback where a predictor calls for it, else that of the plain one.

    Selective query expansion after Cronen-Townsend, Zhou and Croft (2004).
    """

    def __init__(
        self,
        plain: Retriever,
        with_feedback: Retriever,
        predictor: Predictor,
        threshold: float | None = None,
        share: float | None = None,
        when: Literal["above", "below"] = "above",
        depth: int = 1000,
        source: Retriever | None = None,
    ):
        """Feedback is for predictions of at least the `threshold` ("above": it needs a good first pass), or below it.

        Instead of a threshold, `share` gives feedback to that share of the queries retrieved together, those of the
        highest ("above") or lowest predictions; equals in the order of the queries. The predictor sees `depth`
        documents, and their content as `source` shows it, None as `plain` does. Raises ValueError for both or neither.
        """
        if (threshold is None) == (share is None):
            raise ValueError("selective feedback needs a `threshold` of predictions or a `share` of queries: give one")
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"share is {share}; it is within [0, 1]")
        if depth < 1 or when not in ("above", "below"):
            raise ValueError(f'depth is at least 1 and when "above" or "below", not {depth} and {when!r}')
        self.plain, self.with_feedback, self.predictor, self.source = plain, with_feedback, predictor, source
        self.threshold, self.share, self.when, self.depth = threshold, share, when, depth
        self.queries = self.applied = 0  # of all that were retrieved so far

    @property
    def reads(self) -> tuple[str, ...]:
        """What some part reads of a query."""
        return reads([self.plain, self.with_feedback])

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the retrievers."""
        self.corpus = corpus
        open_all([self.plain, self.with_feedback, *([self.source] if self.source else [])], corpus, folder)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best. Raises ValueError for a source that lacks what the predictor needs, and for NaN predicted."""
        run = found(self.plain, queries, max(k, self.depth), self.corpus)
        chosen = np.flatnonzero(self.chosen(self.predictions(queries, run.top(self.depth))))
        self.queries += len(queries)
        self.applied += len(chosen)
        named = replace(run.top(k), name=f"{run.name}+selective-{type(self.predictor).__name__.lower()}")
        if not len(chosen):
            return named
        moved = found(self.with_feedback, queries.take(chosen), k, self.corpus)
        return put(named, chosen, moved.rows, moved.scores)

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the plain retriever, else the texts of the corpus."""
        return content([self.plain], self.corpus, queries, run)

    def predictions(self, queries: Queries, run: Run) -> np.ndarray:
        """float64 [queries], higher where the run is expected to be better."""
        own, shown = queries, Feedback(run)
        if self.predictor.needs:
            own, shown = content([self.source or self.plain], self.corpus, queries, run)
        refuse_lack(self.predictor, shown, self.source or self.plain)
        predicted = np.asarray(self.predictor.predict(own, shown), np.float64)
        if predicted.shape != (len(queries),) or np.isnan(predicted).any():
            raise ValueError(f"{type(self.predictor).__name__} predicts {predicted[:5]} for {len(queries)} queries")
        return predicted

    def chosen(self, predictions: np.ndarray) -> np.ndarray:
        """bool [queries], where feedback is applied."""
        if self.threshold is not None:
            above = predictions >= self.threshold
            return above if self.when == "above" else ~above
        count = int(len(predictions) * (self.share or 0) + 0.5)
        ranked = np.argsort(-predictions if self.when == "above" else predictions, kind="stable")
        chosen = np.zeros(len(predictions), bool)
        chosen[ranked[:count]] = True
        return chosen

    def provenance(self) -> dict[str, Any]:
        """What the parts are, what they count, and how many of the queries got feedback."""
        parts = {"plain": self.plain, "with_feedback": self.with_feedback, "predictor": self.predictor}
        settings = {"threshold": self.threshold, "share": self.share, "when": self.when, "depth": self.depth}
        about = provenance(parts | ({"source": self.source} if self.source else {}))
        return about | settings | {"queries asked": self.queries, "queries with feedback": self.applied}


def put(run: Run, places: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> Run:
    """The run with other lists of the same documents in some places, in order; shorter lists end in pads."""
    shape = len(run.query_ids), max(run.rows.shape[1], rows.shape[1])
    every, scored = np.full(shape, PAD, np.int32), np.full(shape, -np.inf, np.float32)
    every[:, : run.rows.shape[1]], scored[:, : run.rows.shape[1]] = run.rows, run.scores
    every[places], scored[places] = PAD, -np.inf
    every[places, : rows.shape[1]], scored[places, : rows.shape[1]] = rows, scores
    return replace(run, rows=every, scores=scored)
