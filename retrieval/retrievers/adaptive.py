"""Adaptive reranking: documents near to good ones are reranked too, also where the first pass did not find them."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.composed import content, found, name, open_all, provenance, reads
from retrieval.corpus import Corpus
from retrieval.neighbours import Neighbours
from retrieval.order import PAD
from retrieval.protocols import Reranker, Retriever
from retrieval.reranking import pair_scores, run_of, spans
from retrieval.types import Feedback, Queries, Run

__all__ = ["Adaptive"]


class Adaptive:
    """Graph-based adaptive reranking, GAR. MacAvaney et al. (2022).

    Batches come in turn from the first pass and from the neighbours of what was scored, those of the best scored first,
    until `budget` documents are scored; what the first pass found beyond follows below.
    """

    def __init__(
        self,
        retriever: Retriever,
        reranker: Reranker,
        graph: Retriever,
        budget: int = 1000,
        batch: int = 16,
        neighbours: int = 16,
    ):
        """`graph` finds the `neighbours` of each document, once per corpus."""
        if min(budget, batch, neighbours) < 1:
            raise ValueError(f"budget {budget}, batch {batch} and neighbours {neighbours} are each at least 1")
        self.retriever, self.reranker, self.graph = retriever, reranker, graph
        self.budget, self.batch, self.neighbours = budget, batch, neighbours
        self.from_first_pass = self.from_graph = 0  # documents scored so far

    @property
    def reads(self) -> tuple[str, ...]:
        """What the first pass reads of a query."""
        return reads([self.retriever])

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the retrievers; build the graph, or open the one made before."""
        self.corpus = corpus
        open_all([self.retriever, self.graph], corpus, folder)
        self.near = Neighbours.build(corpus, self.graph, self.neighbours, folder / "graphs")

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best. Raises ValueError for scores that are not finite."""
        first = found(self.retriever, queries, max(k, self.budget), self.corpus)
        scored: list[tuple[np.ndarray, np.ndarray]] = []
        rest: list[np.ndarray] = []
        for span in spans(len(queries)):
            searches = [Search(rows[rows != PAD].tolist(), self.budget, self.batch) for rows in first.rows[span]]
            self._search(searches, [queries.texts[i] for i in span])
            scored += [search.found() for search in searches]
            rest += [search.unscored() for search in searches]
        return run_of(queries.ids, first.docs, scored, rest, k, f"{name(self.reranker, first)}+adaptive")

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the retriever, else the texts of the corpus."""
        return content([self.retriever], self.corpus, queries, run)

    def provenance(self) -> dict[str, Any]:
        """What the parts are, the sums of what they count, and where the documents came from that were scored."""
        parts = {"retriever": self.retriever, "reranker": self.reranker, "graph": self.graph}
        counts = {"scored from the first pass": self.from_first_pass, "scored from the graph": self.from_graph}
        return provenance(parts) | counts

    def _search(self, searches: Sequence[Search], texts: Sequence[str]) -> None:
        """All queries a batch at a time, so that the reranker has many pairs at once."""
        while True:
            asked = [(search, text, search.propose()) for search, text in zip(searches, texts, strict=True)]
            asked = [one for one in asked if one[2]]
            if not asked:
                break
            rows = np.concatenate([np.array(batch, np.int32) for _, _, batch in asked])
            questions = [text for _, text, batch in asked for _ in batch]
            scores = pair_scores(self.reranker, list(zip(questions, self.corpus.texts(rows), strict=True)))
            near, start = self.near.of(rows).tolist(), 0
            for search, _, batch in asked:
                stop = start + len(batch)
                search.learn(scores[start:stop].tolist(), near[start:stop])
                start = stop
        came = [one % 2 for search in searches for one in search.iterations.values()]
        self.from_graph += sum(came)
        self.from_first_pass += len(came) - sum(came)


class Search:
    """The search of one query: what was scored, and what may be next.

    Among neighbours whose best source has the same score the one that was met first comes first, and of one document's
    neighbours the nearest.
    """

    def __init__(self, rows: Sequence[int], budget: int, batch: int):
        self.rows, self.budget, self.batch = rows, budget, batch
        self.scores: dict[int, float] = {}
        self.iterations: dict[int, int] = {}  # even: from the first pass, odd: from the graph
        self.iteration, self.at, self.met = 0, 0, 0
        self.proposed: list[int] = []
        self.frontier: list[tuple[float, int, int]] = []  # heap of (-score of the source, when met, row)
        self.known: dict[int, tuple[float, int]] = {}  # the frontier's documents as they stand in it now

    def propose(self) -> list[int]:
        """The next documents to score, to be answered by `learn`; empty at the end."""
        size = min(self.batch, self.budget - len(self.scores))
        self.proposed = self._next(size)
        if not self.proposed and size:
            self.iteration += 1
            self.proposed = self._next(size)
        return self.proposed

    def learn(self, scores: Sequence[float], near: Sequence[Sequence[int]]) -> None:
        """Scores and neighbours (int [documents][k], -1 pads) of what was proposed."""
        for row, score in zip(self.proposed, scores, strict=True):
            self.scores[row], self.iterations[row] = score, self.iteration
        for place in sorted(range(len(scores)), key=lambda i: -scores[i]):
            for row in near[place]:
                self._meet(row, scores[place])
        self.iteration += 1

    def found(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 and scores float32 of what was scored, in the order of scoring."""
        return np.array(list(self.scores), np.int32), np.array(list(self.scores.values()), np.float32)

    def unscored(self) -> np.ndarray:
        """int32 rows of the first pass that were not scored, in its order."""
        return np.array([row for row in self.rows if row not in self.scores], np.int32)

    def _next(self, size: int) -> list[int]:
        return self._from_graph(size) if self.iteration % 2 else self._from_first_pass(size)

    def _from_first_pass(self, size: int) -> list[int]:
        taken: list[int] = []
        while len(taken) < size and self.at < len(self.rows):
            if self.rows[self.at] not in self.scores:
                taken.append(self.rows[self.at])
            self.at += 1
        return taken

    def _from_graph(self, size: int) -> list[int]:
        taken: list[int] = []
        while len(taken) < size and self.frontier:
            priority, when, row = heapq.heappop(self.frontier)
            if row not in self.scores and self.known.get(row) == (priority, when):  # else it has moved up since
                taken.append(row)
                del self.known[row]
        return taken

    def _meet(self, row: int, score: float) -> None:
        if row == PAD or row in self.scores:
            return
        self.met += 1
        priority, when = self.known.get(row, (np.inf, self.met))
        if -score < priority:
            self.known[row] = (-score, when)
            heapq.heappush(self.frontier, (-score, when, row))
