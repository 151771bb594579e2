"""How hard an approximate index must search for a recall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval.faiss_index import parts

__all__ = ["Effort", "effort", "recall_of", "tune"]

STEP = 16  # the setting is found to one part in so many


@dataclass(frozen=True)
class Effort:
    """The search parameter that trades speed for recall, and between what it lies."""

    name: str
    lowest: int
    highest: int


def effort(index: Any, at: int, limit: int | None = None) -> Effort | None:
    """That of an index; None where there is none, as with Flat and PQ.

    HNSW keeps at least as many candidates as results, so its least is `at`: with that, k below it loses nothing.
    """
    for part in parts(index):
        if hasattr(part, "nlist"):
            return Effort("nprobe", 1, min(part.nlist, limit or part.nlist))
        if hasattr(part, "hnsw"):
            return Effort("efSearch", min(at, part.ntotal), part.ntotal)
    return None


def recall_of(rows: np.ndarray, exact: np.ndarray) -> float:
    """The mean share of the exact rows [queries, at] that are among the rows [queries, k] found."""
    return float(np.mean([np.isin(wanted, found).mean() for wanted, found in zip(exact, rows, strict=True)]))


def tune(reached: Callable[[int], float], between: Effort, wanted: float) -> tuple[int, float]:
    """A setting that reaches the recall, near the least, and its recall; the highest setting where none does.

    Doubled until it is reached, then halved in between.
    """
    missed, value = between.lowest - 1, between.lowest
    found = reached(value)
    while found < wanted and value < between.highest:
        missed, value = value, min(2 * value, between.highest)
        found = reached(value)
    while found >= wanted and value - missed > max(1, value // STEP) and value > between.lowest:
        middle = (missed + value) // 2
        tried = reached(middle)
        if tried >= wanted:
            value, found = middle, tried
        else:
            missed = middle
    return value, found
