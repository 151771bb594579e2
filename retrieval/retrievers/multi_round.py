"""Rounds of retrieval: what is found changes the query, which is asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.composed import content, found, provenance, reads, refuse_lack, refuse_unread
from retrieval.corpus import Corpus
from retrieval.order import PAD
from retrieval.protocols import Reformulator, Retriever, Stop
from retrieval.reranking import run_of
from retrieval.run_file import write_run
from retrieval.types import Feedback, Queries, Run

__all__ = ["MultiRound"]


class MultiRound:
    """Each round asks with the query that a feedback model makes of the last one and of what it newly found.

    The rounds of Ada-Retrieval (Li et al. 2024) and ConvSim (Owoicho et al. 2023) for any model. The first round keeps
    its scores, later documents fall by 1 each below them: the order is that of the rounds. After `retrieve`, `runs`
    holds the list as it stood after each round.
    """

    def __init__(
        self,
        retriever: Retriever,
        update: Reformulator,
        per_round_k: int = 20,
        rounds: int = 5,
        exclude_seen: bool = True,
        stop: Stop | None = None,
        save: Path | None = None,
    ):
        """Each round adds `per_round_k` documents. `stop` ends the rounds of a query before the last.

        Without `exclude_seen` each round ranks anew: its list comes first, and below it what only earlier rounds found,
        the latest first. `save` is a folder to which `runs` are written, as round-1.trec and so on; such files
        of more rounds are deleted there. Raises ValueError for a retriever that does not read what the model writes.
        """
        if min(per_round_k, rounds) < 1:
            raise ValueError(f"per_round_k is {per_round_k} and rounds {rounds}; each is at least 1")
        refuse_unread(update, retriever)
        self.retriever, self.update, self.per_round_k, self.rounds = retriever, update, per_round_k, rounds
        self.exclude_seen, self.stop, self.save = exclude_seen, stop, save
        self.runs: list[Run] = []
        self.stopped = 0  # queries that had enough before the last round, of all so far

    @property
    def reads(self) -> tuple[str, ...]:
        """What the retriever reads of a query."""
        return reads([self.retriever])

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the retriever."""
        self.corpus = corpus
        self.retriever.open(corpus, folder)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The first k of all rounds. Raises ValueError where the retriever lacks what the model needs."""
        lists: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in queries.ids]
        tops: list[Run] = []  # what each search has on top, of the queries that go on
        state, active, self.runs = queries, np.arange(len(queries)), []
        for number in range(self.rounds):
            depth = self.per_round_k * (number + 1 if self.exclude_seen else 1)
            every = found(self.retriever, state, depth, self.corpus)
            new = self._unseen(every, [lists[place] for place in active])
            for place, rows, scores in zip(active, new.rows, new.scores, strict=True):
                lists[place].append((rows[rows != PAD], scores[rows != PAD]))
            self.runs.append(self._listed(queries, every, lists))
            if number + 1 == self.rounds:
                break
            tops.append(every.top(self.per_round_k))
            going = self._going(state, tops)
            self.stopped += len(active) - len(going)
            if not len(going):
                break
            active, tops = active[going], [_take(one, going) for one in tops]
            state = self._moved(state.take(going), _take(new, going))
        self._save()
        return self.runs[-1].top(k)

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the retriever, else the texts of the corpus."""
        return content([self.retriever], self.corpus, queries, run)

    def provenance(self) -> dict[str, Any]:
        """What the parts are, what they count, and how many queries stopped early."""
        parts = {"retriever": self.retriever, "update": self.update} | ({"stop": self.stop} if self.stop else {})
        settings = {"per_round_k": self.per_round_k, "rounds": self.rounds, "exclude_seen": self.exclude_seen}
        return provenance(parts) | settings | {"queries stopped early": self.stopped}

    def _unseen(self, run: Run, lists: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]) -> Run:
        """The first documents that a query did not have before."""
        if not self.exclude_seen:
            return run.top(self.per_round_k)
        seen = [np.concatenate([np.zeros(0, np.int32), *(rows for rows, _ in one)]) for one in lists]
        hit = [np.isin(row, old) for row, old in zip(run.rows, seen, strict=True)]
        rows = np.where(np.array(hit, bool).reshape(run.rows.shape), PAD, run.rows)
        return Run.ordered(run.query_ids, run.docs, rows, run.scores, run.name).top(self.per_round_k)

    def _listed(self, queries: Queries, run: Run, lists: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]) -> Run:
        """All rounds so far, one below the other."""
        ordered = [one if self.exclude_seen else one[::-1] for one in lists]
        rest = [_once([rows for rows, _ in one]) for one in ordered]
        name = "+".join([run.name, *(type(one).__name__.lower() for one in (self.update, self, self.stop) if one)])
        return run_of(queries.ids, run.docs, [one[0] for one in ordered], rest, self.rounds * self.per_round_k, name)

    def _going(self, state: Queries, tops: Sequence[Run]) -> np.ndarray:
        """Places of the queries that have not had enough."""
        return np.flatnonzero(~self.stop.stop(state, tops)) if self.stop else np.arange(len(state))

    def _moved(self, state: Queries, new: Run) -> Queries:
        own, feedback = content([self.retriever], self.corpus, state, new)
        refuse_lack(self.update, feedback, self.retriever)
        return self.update.reformulate(own, feedback)

    def _save(self) -> None:
        if not self.save:
            return
        files = [Path(self.save) / f"round-{number}.trec" for number in range(1, len(self.runs) + 1)]
        for run, file in zip(self.runs, files, strict=True):
            write_run(run, file)
        for left in {*Path(self.save).glob("round-[0-9]*.trec")} - {*files}:
            left.unlink()  # of more rounds, from before


def _take(run: Run, places: np.ndarray) -> Run:
    ids = [run.query_ids[int(place)] for place in places]
    return replace(run, query_ids=ids, rows=run.rows[places], scores=run.scores[places])


def _once(lists: Sequence[np.ndarray]) -> np.ndarray:
    """int32 rows of all lists but the first, each document once, none of the first."""
    rows = dict.fromkeys(row for one in lists for row in one.tolist())
    return np.array(list(rows)[len(lists[0]) :], np.int32)
