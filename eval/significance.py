"""Whether two systems differ beyond what the choice of queries explains, and what difference could be told at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from eval.measures import Evaluation
from retrieval.judgements import refuse_two_judges
from retrieval.registry import guess

__all__ = [
    "ALPHA",
    "CORRECTIONS",
    "POWER",
    "SAME",
    "PairedTest",
    "benjamini_hochberg",
    "bonferroni",
    "correction",
    "corrected",
    "effect_size",
    "gaps",
    "holm",
    "paired_t",
    "resolvable",
    "resolvable_effect",
]

SAME = 1e-12  # values closer than this differ by rounding only
ALPHA, POWER = 0.05, 0.8  # chance of finding a difference where there is none, and of finding one that is there


@dataclass(frozen=True)
class PairedTest:
    """A paired t-test of a - b over queries; `untested` says why there is no t, p and interval, where there is none."""

    difference: float  # mean of a - b
    n: int  # queries
    wins: int  # queries on which a is better
    ties: int
    losses: int
    effect: float | None = None  # Cohen's d_z
    resolvable: float | None = None  # the smallest difference that so many queries, varying so much, can tell
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
    between = gaps(a, b, measure)
    wins, losses = int(np.count_nonzero(between > SAME)), int(np.count_nonzero(between < -SAME))
    result = PairedTest(float(between.mean()), len(between), wins, len(between) - wins - losses, losses)
    untested = _untestable(between)
    return replace(result, untested=untested) if untested else replace(result, **_student(between))


def gaps(a: Evaluation, b: Evaluation, measure: str) -> np.ndarray:
    """float64 [queries], a - b in the order of a's queries. Raises ValueError as `paired_t` does."""
    return _values(a, measure) - _aligned(a, b, measure)


def effect_size(between: np.ndarray) -> float:
    """Cohen's d_z: the mean of the differences by their standard deviation. Cohen (1988), Lakens (2013)."""
    return float(between.mean() / between.std(ddof=1))


def resolvable(between: np.ndarray, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest difference of means that a paired t-test of so many queries, varying so much, finds so often."""
    return resolvable_effect(len(between), alpha, power) * float(between.std(ddof=1))


@cache
def resolvable_effect(n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The same in standard deviations (d_z), two-sided: the power of the noncentral t-distribution, solved for it.

    Raises ValueError for fewer than two queries, and where alpha alone is as much as the power asked for.
    """
    if n < 2 or not 0 < alpha < power < 1:
        raise ValueError(f"n is {n}, alpha {alpha}, power {power}: at least 2 queries, and 0 < alpha < power < 1")
    from scipy.optimize import brentq

    high = 1.0
    while _power(high, n, alpha) < power:
        high *= 2
    return float(brentq(lambda effect: _power(effect, n, alpha) - power, 0, high, xtol=1e-15))


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, adjusted so that none is found by trying many. Holm (1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted.tolist()


def bonferroni(p: Sequence[float]) -> list[float]:
    """The same promise as `holm`'s, each p-value by the number of tests; it finds less. Dunn (1961)."""
    return np.minimum(np.asarray(p, float) * len(p), 1).tolist()


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Adjusted so that of what is found, a share of alpha at most is expected to be false. Their paper is of 1995."""
    order = np.argsort(p, kind="stable")[::-1]
    steps = np.asarray(p, float)[order] * len(p) / np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.minimum.accumulate(steps), 1)
    return adjusted.tolist()


CORRECTIONS: dict[str, Callable[[Sequence[float]], list[float]]] = {
    "holm": holm,
    "bonferroni": bonferroni,
    "benjamini-hochberg": benjamini_hochberg,
}


def correction(name: str) -> Callable[[Sequence[float]], list[float]]:
    """The correction for several tests that a name means. Raises ValueError with the names there are."""
    if name not in CORRECTIONS:
        near = guess(name.casefold().replace("_", "-"), CORRECTIONS)
        raise ValueError(f"unknown correction {name!r}; there are {', '.join(CORRECTIONS)}.{near}")
    return CORRECTIONS[name]


def corrected(p: Sequence[float | None], name: str) -> list[float | None]:
    """A family's p-values, corrected; one that could not be had counts as 1, for data must not shrink a family."""
    adjusted = correction(name)([1.0 if one is None else one for one in p])
    return [None if before is None else after for before, after in zip(p, adjusted, strict=True)]


def _values(evaluation: Evaluation, measure: str) -> np.ndarray:
    if measure not in evaluation.values:
        raise ValueError(f"{measure!r} was not evaluated, only {', '.join(evaluation.values)}")
    return evaluation.values[measure]


def _aligned(a: Evaluation, b: Evaluation, measure: str) -> np.ndarray:
    """The values of b in the order of a's queries."""
    refuse_two_judges([a.judge, b.judge])
    place = {query: number for number, query in enumerate(b.query_ids)}
    alone = [query for query in a.query_ids if query not in place]
    if alone or len(a.query_ids) != len(b.query_ids):
        shared = len(a.query_ids) - len(alone)
        raise ValueError(
            f"the systems were not judged on the same queries: {len(alone)} only in the first, "
            f"{len(b.query_ids) - shared} only in the second, {shared} in both; evaluate both with the same qrels"
        )
    return _values(b, measure)[[place[query] for query in a.query_ids]]


def _untestable(between: np.ndarray) -> str | None:
    if len(between) < 2:
        return "a single query"
    if np.ptp(between) < SAME:
        return "no query differs" if abs(between[0]) < SAME else "every query differs by the same"
    return None


def _student(between: np.ndarray) -> dict[str, Any]:
    from scipy.stats import ttest_1samp

    found = ttest_1samp(between, 0)  # of the differences: what ttest_rel computes
    low, high = found.confidence_interval(0.95)
    return {
        "effect": effect_size(between),
        "resolvable": resolvable(between),
        "t": float(found.statistic),
        "p": float(found.pvalue),
        "interval": (float(low), float(high)),
    }


def _power(effect: float, n: int, alpha: float) -> float:
    """How often a two-sided paired t-test finds a difference of so many standard deviations."""
    from scipy.stats import nct, t

    bound, shift = t.isf(alpha / 2, n - 1), effect * math.sqrt(n)
    # the lower tail by its mirror image: nct.cdf is NaN where that tail is all but empty
    return float(nct.sf(bound, n - 1, shift) + nct.sf(bound, n - 1, -shift))
