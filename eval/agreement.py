"""How far two judges agree: Cohen's kappa, Krippendorff's alpha, confusion, and the order both put systems in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from retrieval.types import Qrels

__all__ = ["Agreement", "Level", "agreement", "cohen_kappa", "confusion", "kendall_tau", "krippendorff_alpha"]

Level = Literal["nominal", "ordinal", "interval", "ratio"]


@dataclass(frozen=True, eq=False)
class Agreement:
    """Two judges on the pairs that both judged. A coefficient is None where all grades are the same one."""

    pairs: int
    only_first: int  # pairs that the other did not judge
    only_second: int
    grades: Sequence[int]  # that occur, ascending
    confusion: np.ndarray  # int64 [grades, grades], rows of the first judge
    kappa: float | None
    kappa_quadratic: float | None
    kappa_binary: float | None  # of relevant or not
    alpha: Mapping[str, float | None]  # by level: nominal, ordinal, interval

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pairs": self.pairs,
            "judged by people only": self.only_first,
            "judged by the model only": self.only_second,
            "grades": list(self.grades),
            "confusion (rows: people)": self.confusion.tolist(),
            "Cohen's kappa": self.kappa,
            "quadratic kappa": self.kappa_quadratic,
            "binary kappa": self.kappa_binary,
            **{f"Krippendorff's alpha, {level}": value for level, value in self.alpha.items()},
        }


def agreement(first: Qrels, second: Qrels, relevant: tuple[int, int] = (1, 1)) -> Agreement:
    """Compare two judges pair by pair; `relevant` is the lowest relevant grade of each, for the binary kappa.

    Raises ValueError where no pair was judged by both.
    """
    one, other = _pairs(first), _pairs(second)
    shared = [pair for pair in one if pair in other]
    if not shared:
        raise ValueError(
            f"no pair of query and document was judged by both: {len(one)} by one, {len(other)} by the other; "
            "judge the pairs of the human qrels (pairs: judged), or deeper"
        )
    a, b = np.array([one[pair] for pair in shared]), np.array([other[pair] for pair in shared])
    levels: tuple[Level, ...] = ("nominal", "ordinal", "interval")
    return Agreement(
        pairs=len(shared),
        only_first=len(one) - len(shared),
        only_second=len(other) - len(shared),
        grades=np.union1d(a, b).tolist(),
        confusion=confusion(a, b),
        kappa=cohen_kappa(a, b),
        kappa_quadratic=cohen_kappa(a, b, "quadratic"),
        kappa_binary=cohen_kappa(a >= relevant[0], b >= relevant[1]),
        alpha={level: krippendorff_alpha(np.array([a, b], float), level) for level in levels},
    )


def confusion(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """int64 [grades, grades] of the grades that occur, ascending: how often a gave the row's and b the column's."""
    grades, places = np.unique(np.concatenate([a, b]), return_inverse=True)
    table = np.zeros((len(grades), len(grades)), np.int64)
    np.add.at(table, (places[: len(a)], places[len(a) :]), 1)
    return table


def cohen_kappa(a: np.ndarray, b: np.ndarray, weights: Literal["linear", "quadratic"] | None = None) -> float | None:
    """1 - observed / expected disagreement. Cohen (1960), weighted by distance of grades Cohen (1968).

    `weights` None counts every disagreement as one. None where both gave a single grade, the same.
    """
    grades = np.unique(np.concatenate([a, b])).astype(np.float64)
    apart = np.abs(grades[:, None] - grades)
    cost = {None: (apart > 0).astype(np.float64), "linear": apart, "quadratic": apart**2}[weights]
    table = confusion(a, b)
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    return None if not (cost * expected).sum() else float(1 - (cost * table).sum() / (cost * expected).sum())


def krippendorff_alpha(ratings: np.ndarray, level: Level) -> float | None:
    """1 - observed / expected disagreement of any number of judges. Krippendorff (2011), "Computing alpha".

    `ratings` is float [judges, units], NaN where one gave none; a unit with fewer than two is left out. None where all
    that is left is one value. Raises ValueError where no unit has two.
    """
    held = ~np.isnan(ratings)
    paired = held.sum(axis=0) > 1
    if not paired.any():
        raise ValueError(f"none of {ratings.shape[1]} units was judged by two or more: there is no agreement to tell")
    values, places = np.unique(ratings[:, paired][held[:, paired]], return_inverse=True)
    unit = np.nonzero(held[:, paired])[1]
    counts = np.zeros((paired.sum(), len(values)))  # of each value in each unit
    np.add.at(counts, (unit, places), 1)
    weight = 1 / (counts.sum(axis=1) - 1)
    coincidences = (counts * weight[:, None]).T @ counts - np.diag((counts * weight[:, None]).sum(axis=0))
    totals = coincidences.sum(axis=1)
    apart = _APART[level](values, totals)
    expected = (np.outer(totals, totals) * apart).sum() / (totals.sum() - 1)
    return None if not expected else float(1 - (coincidences * apart).sum() / expected)


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Tau-b of two rankings of systems by their figures; None for fewer than two systems, or where one ties all."""
    from scipy.stats import kendalltau

    tau = kendalltau(a, b).statistic if len(a) > 1 else float("nan")
    return None if np.isnan(tau) else float(tau)


def _pairs(qrels: Qrels) -> dict[tuple[str, str], int]:
    return {(query, doc): grade for query, docs in qrels.to_dict().items() for doc, grade in docs.items()}


def _ordinal(values: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Squared number of ratings from the middle of one value to the middle of the other."""
    middle = np.cumsum(totals) - totals / 2
    return (middle[:, None] - middle) ** 2


def _ratio(values: np.ndarray, totals: np.ndarray) -> np.ndarray:
    both = values[:, None] + values
    return np.divide(values[:, None] - values, both, out=np.zeros_like(both), where=both != 0) ** 2


_APART: Mapping[Level, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {  # float64 [values, values], squared
    "nominal": lambda values, totals: (values[:, None] != values).astype(np.float64),
    "ordinal": _ordinal,
    "interval": lambda values, totals: (values[:, None] - values) ** 2,
    "ratio": _ratio,
}
