"""What retrieving takes; and while a task runs, a retriever that stands in several places of a recipe searches once.

Whoever asks a part of a retriever asks through `retrieved`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from retrieval.order import PAD
from retrieval.protocols import COUNTED, OF_THE_CORPUS, Retriever
from retrieval.types import Queries, Run

__all__ = ["Work", "counted", "measured", "remembering", "retrieved"]


@dataclass(frozen=True)
class Work:
    """What retrieving took: seconds, and by how much what a retriever counts has grown."""

    seconds: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Work) -> Work:
        return Work(self.seconds + other.seconds, Counter(self.counts) + Counter(other.counts))

    def __sub__(self, other: Work) -> Work:
        return Work(self.seconds - other.seconds, Counter(self.counts) - Counter(other.counts))


@dataclass
class _Memory:
    """Runs of these queries, by retriever; `reused` is the work that was not done again."""

    queries: tuple[Queries, ...] = ()
    runs: list[tuple[Retriever, Queries, int, Run, Work]] = field(default_factory=list)
    reused: Work = field(default_factory=Work)

    def find(self, retriever: Retriever, queries: Queries, k: int) -> tuple[Run, Work] | None:
        for one, asked, depth, run, work in self.runs:
            cut = getattr(retriever, "nested", False) and (depth > k or _is_all(run, depth))
            if one is retriever and asked is queries and (depth == k or cut):
                return run.top(k), work
        return None


def _is_all(run: Run, depth: int) -> bool:
    """Whether no query has more results than the run has."""
    return run.rows.shape[1] < depth or bool((run.rows[:, -1] == PAD).all())


_memory: ContextVar[_Memory | None] = ContextVar("memory", default=None)


@contextmanager
def remembering(*queries: Queries) -> Iterator[None]:
    """Within, each retriever searches once for these queries, as deep as it was first asked.

    A list is cut from a deeper one only where the retriever is `nested`.
    """
    token = _memory.set(_Memory(queries))
    try:
        yield
    finally:
        _memory.reset(token)


def retrieved(retriever: Retriever, queries: Queries, k: int) -> Run:
    """The run of a retriever, or what is remembered of it."""
    return retriever.retrieve(queries, k) if _memory.get() is None else measured(retriever, queries, k)[0]


def measured(retriever: Retriever, queries: Queries, k: int) -> tuple[Run, Work]:
    """The same, and what it took: what was remembered, of its parts too, counts as if it had been done again."""
    memory = _memory.get() or _Memory()
    known = memory.find(retriever, queries, k)
    if known is not None:
        memory.reused += known[1]
        return known
    before, spared, started = counted(retriever), memory.reused, time.perf_counter()
    run = retriever.retrieve(queries, k)
    seconds, after = time.perf_counter() - started, counted(retriever)
    grown = {what: after[what] - before.get(what, 0) for what in after if what not in OF_THE_CORPUS}
    work = Work(seconds, grown) + (memory.reused - spared)
    if any(queries is one for one in memory.queries):
        memory.runs.append((retriever, queries, k, run, work))
    return run, work


def counted(retriever: Retriever) -> dict[str, int]:
    """What a retriever counts that is shown beside its figures: texts that were cut, empty ones, a model's work ..."""
    about = retriever.provenance() if hasattr(retriever, "provenance") else {}
    return {what: count for what, count in about.items() if what.startswith(COUNTED)}
