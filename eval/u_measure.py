"""U-measure: what a user gains from reading results one after the other, less the later it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.judged import counts, judged_results, places
from eval.measures import Evaluation
from retrieval.order import PAD
from retrieval.types import Qrels, Run

__all__ = ["SPAN", "Reader", "evaluate_u", "ideal_u", "u_measure"]

SPAN = 132_000  # characters until nothing is worth reading any more: L of Sakai and Dou (SIGIR 2013)


@dataclass(frozen=True, eq=False)
class Reader:
    """How much of a result is read, and what that is worth.

    Of these only L, `span`, is published. Give lengths of whole texts, or what you take for read: a snippet of each
    result, and a share of each relevant document.
    """

    lengths: np.ndarray  # [documents], characters read of each row of `run.docs` where it is relevant
    skimmed: np.ndarray | float | None = None  # where it is not; None for as many
    gains: Mapping[int, float] | None = None  # of each grade; None for the grade itself. Grades below 1 have none
    span: float = SPAN

    def __post_init__(self) -> None:
        skimmed = 0 if self.skimmed is None else self.skimmed
        if not (np.all(np.asarray(self.lengths) >= 0) and np.all(np.asarray(skimmed) >= 0)):
            raise ValueError("a length is negative or NaN: lengths are characters")
        _refuse_span(self.span)

    def read(self, run: Run, rows: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Characters read of results of these rows and gains, float64 of their shape, 0 for a missing one.

        Raises ValueError where the lengths are not of the run's documents.
        """
        if np.shape(self.lengths) != (len(run.docs),):
            raise ValueError(
                f"{len(self.lengths)} lengths for the {len(run.docs)} documents of run {run.name!r}: "
                "give one per row of its `docs`"
            )
        skimmed = self.lengths if self.skimmed is None else np.broadcast_to(self.skimmed, len(run.docs))
        known = np.maximum(rows, 0)
        return np.where(rows == PAD, 0.0, np.where(gains > 0, self.lengths[known], skimmed[known]))

    def gains_of(self, grades: np.ndarray) -> np.ndarray:
        """float64 [judgements]. Raises ValueError for a grade above 0 that the gains leave out."""
        if self.gains is None:
            return np.maximum(grades, 0).astype(float)
        missing = sorted({grade for grade in grades.tolist() if grade > 0} - set(self.gains))
        if missing:
            raise ValueError(
                f"grade {missing[0]} has no gain, only {sorted(self.gains)} have: name it, 0 where it is worth nothing"
            )
        return np.array([self.gains[grade] if grade > 0 else 0 for grade in grades.tolist()], float)


def u_measure(lengths: Sequence[float], gains: Sequence[float], span: float = SPAN) -> float:
    """The sum of g max(0, 1 - end / L) over strings in the order they are read, each with its length and gain.

    Sakai and Dou (SIGIR 2013). Raises ValueError for lengths and gains that are not as many, or negative.
    """
    _refuse_span(span)
    if len(lengths) != len(gains):
        raise ValueError(f"{len(lengths)} lengths and {len(gains)} gains: a string has one of each")
    if not all(value >= 0 for value in (*lengths, *gains)):
        raise ValueError("a length or a gain is negative or NaN")
    ends = np.cumsum(np.asarray(lengths, float))
    return math.fsum(np.asarray(gains, float) * _worth(ends, span))


def ideal_u(lengths: Sequence[float], gains: Sequence[float], span: float = SPAN) -> float:
    """The highest U that any order of these strings, or of some of them, can have.

    Of strings that all fit before L the one with the most gain per character comes first (Smith's rule); what does not
    fit is left out as in a knapsack, by looking at every sum of lengths that no other beats.
    """
    best = [(0.0, 0.0)]  # (characters read, U), both rising
    worth = [(length, gain) for length, gain in zip(lengths, gains, strict=True) if gain > 0 and length < span]
    for length, gain in sorted(worth, key=lambda one: (one[0] / one[1], one[0])):
        more = [(end + length, u + gain * (1 - (end + length) / span)) for end, u in best if end + length < span]
        best = _unbeaten(best + more)
    return best[-1][1]


def evaluate_u(run: Run, qrels: Qrels, reader: Reader) -> Evaluation:
    """U of each judged query, under "U(L=...)"; one that the run lacks scores 0 and is counted.

    Raises ValueError for lengths that are not of the run's documents, a grade without a gain, a run of other queries.
    """
    place = places(run, qrels)
    judged = judged_results(run, qrels, place, run.docs.rows(qrels.doc_ids))
    asked = np.flatnonzero(place >= 0)
    gains = np.zeros((len(qrels.query_ids), run.rows.shape[1]))
    gains[judged.query, judged.rank - 1] = reader.gains_of(judged.grade)
    gains = gains[place[asked]]
    ends = np.cumsum(reader.read(run, run.rows[asked], gains), axis=1)
    values = np.zeros(len(qrels.query_ids))
    values[place[asked]] = [math.fsum(one) for one in gains * _worth(ends, reader.span)]
    return Evaluation(tuple(qrels.query_ids), {f"U(L={reader.span:g})": values}, counts(judged, place), qrels.judge)


def _worth(ends: np.ndarray, span: float) -> np.ndarray:
    return np.maximum(0, 1 - ends / span)


def _unbeaten(states: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no other reaches with fewer characters, by rising length."""
    kept: list[tuple[float, float]] = []
    for end, u in sorted(states, key=lambda state: (state[0], -state[1])):
        if not kept or u > kept[-1][1]:
            kept.append((end, u))
    return kept


def _refuse_span(span: float) -> None:
    if not span > 0:
        raise ValueError(f"span {span} must be above 0: it is how many characters a user reads at most")
