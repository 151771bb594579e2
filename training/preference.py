"""Preference pairs of query rewrites, chosen by a frozen retriever (QTA, SIGIR-AP 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["pair"]


def pair(ranks: Mapping[str, Sequence[int]], k: int | None = None) -> tuple[str, str] | None:
    """The chosen and the rejected text: the best and the worst of those that were searched.

    `ranks` has, for each text, the rank from 1 of every document that is needed. With `k`, texts are compared by
    whether all of these are among the first k (Sufficiency@k) and, among equals, by the mean rank; without, by the mean
    rank alone. None where best and worst are as good: there is nothing to learn. Raises ValueError for a text without
    ranks.
    """
    lacking = next((text for text, found in ranks.items() if not len(found)), None)
    if lacking is not None:
        raise ValueError(f"{lacking!r} has no rank of any document that is needed")
    worth = {text: (k is not None and max(found) <= k, -float(np.mean(found))) for text, found in ranks.items()}
    best, worst = max(worth, key=worth.__getitem__), min(worth, key=worth.__getitem__)
    return None if worth[best] == worth[worst] else (best, worst)
