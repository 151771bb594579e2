"""Tests and intervals of paired differences that assume no distribution: sign flips and the bootstrap, in whole arrays.

Differences are float64 [queries, comparisons]. All comparisons see the same flips and the same samples, which are those
of the seed and the number of queries: a comparison has the same figures whatever stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from eval.significance import SAME

__all__ = ["EXACT", "RESAMPLES", "Bootstrap", "bootstrap", "randomisation"]

RESAMPLES = 10_000
EXACT = 16  # queries that differ, up to which every pattern of signs is counted: 65,536 of them
_AT_ONCE = 1 << 22  # cells of an array of resamples by queries, or by comparisons


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """What resampled queries say of each comparison."""

    p: np.ndarray  # float64 [comparisons], two-sided
    intervals: np.ndarray  # float64 [comparisons, 2], percentiles of the difference


def randomisation(between: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """float64 [comparisons], two-sided p: how often swapping the systems on random queries gives as large a mean.

    Counted over all swaps where up to `EXACT` queries differ; else over `resamples` of them as (count + 1) / (B + 1),
    so that no p is 0. Fisher (1935); Smucker, Allan and Carterette (2007). Raises ValueError for no resamples.
    """
    settled = _settled(between, resamples)
    p = _sampled_flips(settled, resamples, seed)
    for number, column in enumerate(settled.T):
        if np.count_nonzero(column) <= EXACT:
            p[number] = _all_flips(column[column != 0])
    return p


def bootstrap(between: np.ndarray, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95) -> Bootstrap:
    """Draw as many queries as there are, with replacement, `resamples` times, and look at the means.

    The interval is that of percentiles (Efron, 1979). p is how often the t of a sample's mean, shifted to be 0 on
    average, is as large as the t found, as (count + 1) / (B + 1): Efron and Tibshirani (1993), algorithm 16.2; Sakai
    (2006). Means alone, without their t, would find differences between equal systems too often where queries are few.
    """
    settled = _settled(between, resamples)
    found = settled.mean(axis=0)
    centred, t = settled - found, _t(found, np.mean(settled**2, axis=0))
    means, beyond = [], np.zeros(len(found), np.int64)
    for weights in _samples(len(settled), _sizes(max(settled.shape), resamples), seed):
        means.append(weights @ centred)
        beyond += np.count_nonzero(_t(means[-1], weights @ centred**2) >= t, axis=0)
    tail = 50 * (1 - confidence)
    intervals = found + np.percentile(np.concatenate(means), [tail, 100 - tail], axis=0)
    return Bootstrap((beyond + 1) / (resamples + 1), intervals.T)


def _t(mean: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Means by their spread (t but for the root of n), from means of squares; infinite where nothing varies."""
    spread = square - mean**2
    varies = spread > 1e-12 * square
    t = np.abs(mean) / np.sqrt(np.where(varies, spread, 1))
    return np.round(np.where(varies, t, np.where(np.abs(mean) > SAME, np.inf, 0)), 9)  # else equal ones differ


def _settled(between: np.ndarray, resamples: int) -> np.ndarray:
    """The differences without those that are rounding only."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; it must be at least 1, and 10,000 is usual")
    return np.where(np.abs(between) < SAME, 0.0, between)


def _reach(settled: np.ndarray) -> np.ndarray:
    """From which a sum counts as as large as the one found: in another order it differs in the last bits."""
    return np.abs(settled.sum(axis=0)) - 1e-12 * np.abs(settled).sum(axis=0)


def _all_flips(column: np.ndarray) -> float:
    """Over all patterns of signs of differences that are not 0."""
    sums = np.zeros(1)
    for gap in column:
        sums = np.concatenate([sums + gap, sums - gap])
    return float(np.count_nonzero(np.abs(sums) >= _reach(column)) / len(sums))


def _sampled_flips(settled: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    rng, reach = np.random.default_rng(seed), _reach(settled)
    count = np.zeros(settled.shape[1], np.int64)
    for size in _sizes(len(settled), resamples):
        signs = 2.0 * rng.integers(0, 2, (size, len(settled)), dtype=bool) - 1
        count += np.count_nonzero(np.abs(signs @ settled) >= reach, axis=0)
    return (count + 1) / (resamples + 1)


def _samples(queries: int, sizes: Iterable[int], seed: int) -> Iterator[np.ndarray]:
    """float64 [some resamples, queries], the weight of each query: how often it was drawn, by the number of draws."""
    rng = np.random.default_rng(seed)
    for size in sizes:
        drawn = rng.integers(0, queries, (size, queries)) + queries * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * queries).reshape(size, queries) / queries


def _sizes(width: int, resamples: int) -> Iterator[int]:
    step = max(1, _AT_ONCE // max(1, width))
    for start in range(0, resamples, step):
        yield min(step, resamples - start)
