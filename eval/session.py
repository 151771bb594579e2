"""NUM: U-measure of all that is read in a session of several queries, over that of the best session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.judged import places
from eval.measures import Evaluation
from eval.u_measure import SPAN, Reader, ideal_u, u_measure
from retrieval.order import PAD
from retrieval.types import Qrels, Run

__all__ = ["Read", "evaluate_sessions", "num", "with_hindsight"]


@dataclass(frozen=True)
class Read:
    """A string that the user read: a document's snippet or text among the results of a query."""

    document: str
    length: float  # characters
    gain: float  # 0 where it is not relevant, or was skipped


def num(
    session: Sequence[Sequence[Read]], span: float = SPAN, reformulation: float = 0, missed: Sequence[Read] = ()
) -> float:
    """U of what was read query after query, over U of the ideal session; 0 where nothing is relevant.

    A document gains once, at the first of its strings that does. The ideal session has every document that gains, and
    those that were `missed`, first and once, the shortest string of each (assumption A1 of arXiv 2401.12445).
    `reformulation` is what writing another query costs, in characters that could have been read meanwhile. The paper's
    penalties and its lengths of snippets and documents were not to be had: none of these is a published constant.
    """
    if not reformulation >= 0:
        raise ValueError(f"reformulation {reformulation} must be 0 or more: it is characters that are not read")
    strings = list(_trail(session, reformulation))
    best: dict[str, tuple[float, float]] = {}
    for read in (*strings, *missed):
        if read.gain > 0:
            length, gain = best.get(read.document, (np.inf, 0.0))
            best[read.document] = (min(length, read.length), max(gain, read.gain))
    ideal = ideal_u([length for length, _ in best.values()], [gain for _, gain in best.values()], span)
    actual = u_measure([read.length for read in strings], [read.gain for read in strings], span)
    return actual / ideal if ideal else 0.0


def with_hindsight(session: Sequence[Sequence[Read]]) -> list[list[Read]]:
    """The session in which a document that gains later does so at its first appearance, though it was skipped there.

    Assumption A2 of arXiv 2401.12445.
    """
    gains: dict[str, float] = {}
    for read in (read for query in session for read in query):
        gains[read.document] = max(gains.get(read.document, 0), read.gain)
    return [[replace(read, gain=gains.pop(read.document, 0.0)) for read in query] for query in session]


def evaluate_sessions(
    run: Run, qrels: Qrels, sessions: Mapping[str, Sequence[str]], reader: Reader, reformulation: float = 0
) -> Evaluation:
    """NUM of each session, given as its queries in their order; all results of the run are read.

    A document is as relevant to a session as to that of its queries where it is most. Raises ValueError for a query
    that neither run nor qrels have, and for relevant documents that the run's table, and so `lengths`, does not know.
    """
    places(run, qrels)  # refuses a run of other queries
    lines = {query: line for line, query in enumerate(run.query_ids)}
    _refuse_unknown(sessions, {*lines, *qrels.query_ids})
    relevant = _relevant(run, qrels, reader)
    values, nothing = np.zeros(len(sessions)), 0
    for number, queries in enumerate(sessions.values()):
        gains: dict[int, float] = {}
        for row, gain in (pair for query in queries for pair in relevant.get(query, ())):
            gains[row] = max(gains.get(row, 0), gain)
        lists = [_reads(run, run.rows[lines[query]], gains, reader) if query in lines else [] for query in queries]
        missed = _reads(run, np.array(list(gains), np.int32), gains, reader)
        values[number] = num(lists, reader.span, reformulation, missed)
        nothing += not gains
    asked = [query for queries in sessions.values() for query in queries]
    counts = {
        "sessions": len(sessions),
        "queries": len(asked),
        "missing from the run": sum(query not in lines for query in asked),
        "without relevant documents": nothing,
    }
    name = f"NUM(L={reader.span:g},reformulation={reformulation:g})"
    return Evaluation(tuple(sessions), {name: values}, counts, qrels.judge)


def _trail(session: Sequence[Sequence[Read]], reformulation: float) -> Iterator[Read]:
    """All strings in the order they are read, with what reformulating costs between queries."""
    gained: set[str] = set()
    for number, query in enumerate(session):
        if number:
            yield Read("", reformulation, 0)
        for read in query:
            yield replace(read, gain=0) if read.document in gained else read
            if read.gain > 0:
                gained.add(read.document)


def _reads(run: Run, rows: np.ndarray, gains: Mapping[int, float], reader: Reader) -> list[Read]:
    rows = rows[rows != PAD]
    gain = np.array([gains.get(row, 0) for row in rows.tolist()], float)
    return list(map(Read, run.docs.take(rows), reader.read(run, rows, gain).tolist(), gain.tolist()))


def _relevant(run: Run, qrels: Qrels, reader: Reader) -> dict[str, list[tuple[int, float]]]:
    """Query -> rows and gains of what is worth something."""
    rows, gains = run.docs.rows(qrels.doc_ids), reader.gains_of(qrels.grades)
    unknown = np.flatnonzero((rows < 0) & (gains > 0))
    if len(unknown):
        raise ValueError(
            f"{len(unknown)} relevant documents, such as {qrels.doc_ids[int(unknown[0])].as_py()!r}, are not in the "
            f"table of run {run.name!r}, so their lengths are unknown: read the run with `docs`, the ids of the corpus"
        )
    found: dict[str, list[tuple[int, float]]] = {}
    for query, row, gain in zip(qrels.query.tolist(), rows.tolist(), gains.tolist(), strict=True):
        if gain > 0:
            found.setdefault(qrels.query_ids[query], []).append((row, gain))
    return found


def _refuse_unknown(sessions: Mapping[str, Sequence[str]], known: set[str]) -> None:
    unknown = [(session, query) for session, queries in sessions.items() for query in queries if query not in known]
    if unknown:
        session, query = unknown[0]
        raise ValueError(
            f"{len(unknown)} queries of the sessions, such as {query!r} of {session!r}, are in neither run nor qrels"
        )
