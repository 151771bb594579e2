"""Which synthetic pairs of query and document are kept. A filter is a bool array; none changes an order.

Each keeps what it kept when it is asked again of that alone, and keeps less for a stricter value.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Keep", "Sieve", "at_least", "best", "found_within", "long_enough", "once", "threshold_of", "unlike"]


def long_enough(queries: Sequence[str], words: int) -> np.ndarray:
    """Queries of at least so many words."""
    return np.array([len(query.split()) >= words for query in queries], bool)


def once(pairs: Iterable[Hashable]) -> np.ndarray:
    """The first of equal pairs."""
    seen: set[Hashable] = set()
    return np.array([not (one in seen or seen.add(one)) for one in pairs], bool)  # type: ignore[func-returns-value]


def unlike(queries: Sequence[str], others: Collection[str]) -> np.ndarray:
    """Queries that are none of these others, whatever their case and blanks."""
    taken = {_plain(other) for other in others}
    return np.array([_plain(query) not in taken for query in queries], bool)


def found_within(ranks: np.ndarray, depth: int) -> np.ndarray:
    """Those whose document is among the first `depth` that a retriever finds; rank 0 is one that it does not find.

    The consistency filter of SPTAR (BM25) and the round trip of Promptagator (depth 1, a dense retriever).
    """
    return (ranks > 0) & (ranks <= depth)


def at_least(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Those scored so high. doc2query--, Gospodinov et al. (2023)."""
    return scores >= threshold


def threshold_of(scores: np.ndarray, percentile: float) -> float:
    """The score below which `percentile` per cent of these lie, as linear interpolation has it."""
    return float(np.percentile(scores, percentile)) if len(scores) else -np.inf


def best(scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` highest, of equal ones the earlier. InPars takes 10,000, Bonifacio et al. (2022)."""
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[:count]] = True
    return kept


@dataclass(frozen=True)
class Keep:
    """Which queries are kept: by their length, and of those by a score, which what uses this tells of."""

    min_words: int = 1
    best: int | None = None  # the highest scores
    threshold: float | None = None  # the lowest score
    percentile: float | None = None  # the threshold, as a percentile of the scores of all that are long enough

    def __post_init__(self) -> None:
        if self.min_words < 0 or (self.best is not None and self.best < 1):
            raise ValueError(f"min_words is 0 or more and best at least 1, not {self.min_words} and {self.best}")
        if self.percentile is not None and not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile is from 0 to 100, not {self.percentile}")
        given = [name for name in ("best", "threshold", "percentile") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are two ways to choose by score: give one")

    @property
    def scored(self) -> bool:
        """Whether it needs scores."""
        return any(value is not None for value in (self.best, self.threshold, self.percentile))

    def by_score(self, scores: np.ndarray) -> tuple[str, np.ndarray]:
        """What is dropped, and which of these scores pass. Raises ValueError for one that is NaN."""
        if np.isnan(scores).any():
            raise ValueError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores of queries are NaN")
        if self.best is not None:
            return f"not among the {self.best:,} best", best(scores, self.best)
        lowest = threshold_of(scores, self.percentile) if self.percentile is not None else self.threshold
        assert lowest is not None
        return f"scored below {lowest:.6g}", at_least(scores, lowest)


class Sieve:
    """Pairs that pass one filter after another, and how many each drops of what the earlier ones left."""

    def __init__(self, count: int):
        self.count, self.places = count, np.arange(count)  # of the pairs that are left, ascending
        self.dropped: dict[str, int] = {}

    def of(self, values: Sequence[Any]) -> list[Any]:
        """The values, one for each pair, of those that are left."""
        return [values[place] for place in self.places.tolist()]

    def keep(self, dropped: str, passed: np.ndarray) -> None:
        """Keep those that passed, bool for each that is left; `dropped` says what the others are."""
        self.dropped[dropped] = self.dropped.get(dropped, 0) + int((~passed).sum())
        self.places = self.places[passed]

    def finish(self) -> np.ndarray:
        """The places that are left. Raises ValueError where there are none, which says what dropped how many."""
        if not len(self.places):
            shown = ", ".join(f"{number:,} {what}" for what, number in self.dropped.items() if number)
            raise ValueError(
                f"no query of {self.count:,} is left ({shown or 'there were none'}); loosen what drops them"
            )
        return self.places


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
