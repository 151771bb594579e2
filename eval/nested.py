"""Settings chosen on some queries and measured on others: nested cross-validation over the queries of one split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Nested", "best", "folds_of", "nested"]


@dataclass(frozen=True, eq=False)
class Nested:
    """What was chosen for each fold, and what each query scores under the choice that was made without it."""

    fold: np.ndarray  # int [queries]
    chosen: np.ndarray  # int [folds], places of choices
    values: np.ndarray  # float64 [queries]

    @property
    def choice(self) -> np.ndarray:
        """int [queries], the choice that measured each."""
        return self.chosen[self.fold]


def folds_of(query_ids: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """int [queries], folds whose sizes differ by one at most, drawn by ids: the order of the queries changes nothing.

    Raises ValueError for fewer than two folds, and for fewer queries than folds.
    """
    if folds < 2:
        raise ValueError(f"folds is {folds}; a choice for one fold is made on the others, so there are at least 2")
    if len(query_ids) < folds:
        raise ValueError(
            f"{len(query_ids)} queries are fewer than {folds} folds; set folds to {len(query_ids)} at most"
        )
    fold = np.empty(len(query_ids), np.int64)
    drawn = np.random.default_rng(seed).permutation(len(query_ids))
    fold[np.array(sorted(range(len(query_ids)), key=query_ids.__getitem__))[drawn]] = np.arange(len(drawn)) % folds
    return fold


def best(values: np.ndarray) -> int:
    """The place of the choice with the highest mean, the first of equal ones; `values` is float64 [choices, queries].

    Sums are exact, so that the order of the queries decides nothing.
    """
    sums = [math.fsum(one) for one in values]
    return sums.index(max(sums))


def nested(values: np.ndarray, fold: np.ndarray) -> Nested:
    """For each fold the best choice on the queries of the others. Stone (1974); `values` is [choices, queries].

    Raises ValueError where no choice is given, and for values that are not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not len(values) or values.shape[1] != len(fold):
        raise ValueError(
            f"values are [choices, queries] with a fold for each query, not {values.shape} and {len(fold)}"
        )
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite: no choice is better than another by it")
    chosen = np.array([best(values[:, fold != one]) for one in range(fold.max() + 1)])
    return Nested(fold, chosen, values[chosen[fold], np.arange(len(fold))])
