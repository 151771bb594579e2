"""ThinkQE: a model reads what was found, writes, and what it wrote finds anew, for some rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.composed import found, provenance
from retrieval.corpus import Corpus
from retrieval.order import PAD
from retrieval.protocols import Reformulator, Retriever, Writer
from retrieval.remembered import retrieved
from retrieval.retrievers.rewrite import Rewrite
from retrieval.types import Feedback, Queries, Run

__all__ = ["ThinkQE"]


class ThinkQE:
    """Texts add up over rounds of writing and searching. ThinkQE, Lei et al. (2025).

    A document that was among the first ones two rounds ago is not shown again, then and in all later rounds, so that
    each round reads others.
    """

    reads = ("texts",)

    def __init__(
        self,
        writer: Writer,
        retriever: Retriever,
        join: Reformulator | None = None,
        rounds: int = 3,
        passages: int = 5,
    ):
        """`writer` is shown `passages` documents a round; `join` None is that of the writer's paper.

        Raises ValueError for a writer that names none, and for a retriever that cannot read written texts.
        """
        if rounds < 0 or passages < 1:
            raise ValueError(f"rounds is 0 or more and passages at least 1, not {rounds} and {passages}")
        shown = getattr(writer, "documents_read", passages)
        if shown != passages:
            raise ValueError(
                f"{type(writer).__name__} reads {shown} documents and a round shows {passages}: give both one"
            )
        if join is None and not hasattr(writer, "join"):
            raise ValueError(f"{type(writer).__name__} says no way to put its texts to the query: name a `join`")
        self.writer, self.retriever, self.rounds, self.passages = writer, retriever, rounds, passages
        self.join: Reformulator = writer.join() if join is None else join  # type: ignore[attr-defined]
        self.kept = TextsSoFar()
        self.search = Rewrite(self.kept, retriever, self.join)
        self.without = 0

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the retriever."""
        self.corpus = corpus
        self.search.open(corpus, folder)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best documents for the query of the last round."""
        if not self.rounds:
            return retrieved(self.retriever, queries, k)
        seen = [_Seen(self.passages) for _ in queries.ids]
        self.kept.texts = {query: [] for query in queries.ids}
        depth = self.passages * self.rounds  # in each round at most `passages` more are not shown again
        run = first = found(self.retriever, queries, depth, self.corpus)
        for number in range(1, self.rounds + 1):
            shown = self._shown(run, seen)
            for query, texts in zip(queries.ids, self.writer.write(queries, shown), strict=True):
                self.kept.texts[query] += texts
            run = self.search.retrieve(queries, k if number == self.rounds else depth)
        self.without += sum(not texts for texts in self.kept.texts.values())
        return replace(run, name=f"{first.name}+{type(self.writer).__name__.lower()}")

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the retriever. Raises ValueError where it has none."""
        return self.search.feedback(queries, run)

    def provenance(self) -> dict[str, Any]:
        """What wrote, and what searched, for the manifest."""
        parts = provenance({"writer": self.writer, "retriever": self.retriever})
        about = {"rounds": self.rounds, "passages": self.passages}
        return about | parts | {"queries without texts": self.without}

    def _shown(self, run: Run, seen: Sequence[_Seen]) -> Feedback:
        """The run with only the documents that each query is shown in this round."""
        rows = np.full((len(seen), self.passages), PAD, np.int32)
        scores = np.full(rows.shape, -np.inf, np.float32)
        for query, one in enumerate(seen):
            places = one.next(run.rows[query])
            rows[query, : len(places)], scores[query, : len(places)] = (
                run.rows[query, places],
                run.scores[query, places],
            )
        return Feedback(Run(run.query_ids, run.docs, rows, scores, run.name), self.corpus.texts)


class _Seen:
    """What one query was shown."""

    def __init__(self, count: int):
        self.count = count
        self.before: set[int] = set()  # the first documents of the search before
        self.listed: set[int] = set()  # not to be shown again

    def next(self, rows: np.ndarray) -> list[int]:
        """Places of the documents to show now, of those found, best first."""
        places: list[int] = []
        for place, row in enumerate(rows[rows != PAD].tolist()):
            if len(places) == self.count:
                break
            if row in self.before:
                self.listed.add(row)
            elif row not in self.listed:
                places.append(place)
        self.before = set(rows[: self.count].tolist())
        return places


class TextsSoFar:
    """A writer of what was written before."""

    needs: Sequence[str] = ()

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        return [self.texts[query] for query in queries.ids]
