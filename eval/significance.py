"""Whether two systems differ beyond what the choice of queries explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from eval.measures import Evaluation

__all__ = ["PairedTest", "holm", "paired_t"]

_SAME = 1e-12  # values closer than this differ by rounding only


@dataclass(frozen=True)
class PairedTest:
    """A paired t-test of a - b over queries; `untested` says why there is no t, p and interval, where there is none."""

    difference: float  # mean of a - b
    n: int  # queries
    wins: int  # queries on which a is better
    ties: int
    losses: int
    t: float | None = None
    p: float | None = None  # two-sided
    interval: tuple[float, float] | None = None  # of the difference, at 95% confidence
    untested: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        record = f"{self.wins} wins, {self.ties} ties, {self.losses} losses over {self.n} queries"
        if self.untested or self.p is None or self.interval is None:
            return f"{self.difference:+.4f} (no test: {self.untested}; {record})"
        low, high = self.interval
        return f"{self.difference:+.4f} (95% {low:+.4f} to {high:+.4f}, t = {self.t:.2f}, p = {self.p:.2g}; {record})"


def paired_t(a: Evaluation, b: Evaluation, measure: str) -> PairedTest:
    """Student's paired t-test of a - b. Raises ValueError where the queries differ or the measure was not evaluated."""
    first, second = _values(a, measure), _aligned(a, b, measure)
    gaps = first - second
    wins, losses = int(np.count_nonzero(gaps > _SAME)), int(np.count_nonzero(gaps < -_SAME))
    result = PairedTest(float(gaps.mean()), len(gaps), wins, len(gaps) - wins - losses, losses)
    untested = _untestable(gaps)
    return replace(result, untested=untested) if untested else replace(result, **_student(first, second))


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, adjusted so that none is found by trying many. Holm (1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted.tolist()


def _values(evaluation: Evaluation, measure: str) -> np.ndarray:
    if measure not in evaluation.values:
        raise ValueError(f"{measure!r} was not evaluated, only {', '.join(evaluation.values)}")
    return evaluation.values[measure]


def _aligned(a: Evaluation, b: Evaluation, measure: str) -> np.ndarray:
    """The values of b in the order of a's queries."""
    place = {query: number for number, query in enumerate(b.query_ids)}
    alone = [query for query in a.query_ids if query not in place]
    if alone or len(a.query_ids) != len(b.query_ids):
        shared = len(a.query_ids) - len(alone)
        raise ValueError(
            f"the systems were not judged on the same queries: {len(alone)} only in the first, "
            f"{len(b.query_ids) - shared} only in the second, {shared} in both; evaluate both with the same qrels"
        )
    return _values(b, measure)[[place[query] for query in a.query_ids]]


def _untestable(gaps: np.ndarray) -> str | None:
    if len(gaps) < 2:
        return "a single query"
    if np.ptp(gaps) < _SAME:
        return "no query differs" if abs(gaps[0]) < _SAME else "every query differs by the same"
    return None


def _student(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    from scipy.stats import ttest_rel

    found = ttest_rel(first, second)
    low, high = found.confidence_interval(0.95)
    return {"t": float(found.statistic), "p": float(found.pvalue), "interval": (float(low), float(high))}
