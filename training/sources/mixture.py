"""Several sources, each with its share of what an epoch holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from retrieval.lists import Lists, added, dropped_of, instructions_of, joined, targets_of
from retrieval.protocols import Source
from retrieval.types import Queries

__all__ = ["Mixture"]


class Mixture:
    """Sources with different queries; an epoch has as many as there are, of each source as many as its weight says.

    A query of a source with n of N queries, whose weight is w of W in all, comes N w / (n W) times on average: of those
    that are left for training, whatever became of others.
    """

    def __init__(self, sources: list[Source], weights: list[float]):
        """Raises ValueError unless there is one weight above 0 for each source."""
        if not sources or len(sources) != len(weights):
            raise ValueError(f"{len(weights)} weights for {len(sources)} sources: give one for each")
        if not all(0 < weight < np.inf for weight in weights):
            raise ValueError(f"the weights are {weights}; all must be above 0")
        self.sources, self.weights = sources, weights

    def lists(self) -> Lists:
        """The lists of one source after those of another.

        Raises ValueError for a query that is in two sources, and for teacher's scores or instructions in some only.
        """
        several = [source.lists() for source in self.sources]
        ids = [name for lists in several for name in lists.queries.ids]
        name, times = Counter(ids).most_common(1)[0]
        if times > 1:
            raise ValueError(f"query {name!r} is in two of the sources: a union makes one list of both")
        passages = joined([lists.passages for lists in several])
        sizes = np.concatenate([np.diff(lists.offsets) for lists in several])
        source, weights = self._shares(several)
        made = Lists(
            Queries(ids, [text for lists in several for text in lists.queries.texts], instructions_of(several)),
            passages,
            np.append(0, np.cumsum(sizes)).astype(np.int64),
            np.concatenate([passages.moved(lists.rows, lists.passages) for lists in several]),
            np.concatenate([lists.labels for lists in several]),
            targets_of(several),
            self._times(several),
            source,
            weights,
            added(*(lists.counts for lists in several)),
            [text for lists in several for text in lists.original],
        )
        starts = np.cumsum([0, *map(len, several[:-1])])
        places = [start + np.arange(len(lists)) for start, lists in zip(starts.tolist(), several, strict=True)]
        judged = any(lists.judged for lists in several)
        return replace(made, dropped=dropped_of(several, places, made), judged=judged)

    def _shares(self, several: list[Lists]) -> tuple[np.ndarray, np.ndarray]:
        """The source of each query, int64, and what each source is of an epoch; those of a mixture stand for it."""
        source, weights = [], np.zeros(0)
        for lists, weight in zip(several, self.weights, strict=True):
            inner = np.ones(1) if lists.weights is None else lists.weights
            own = np.zeros(len(lists), np.int64) if lists.source is None else lists.source
            source.append(own + len(weights))
            weights = np.append(weights, inner * weight / sum(self.weights))
        return np.concatenate(source), weights

    def _times(self, several: list[Lists]) -> np.ndarray:
        """float64 [queries]; what a source that is a mixture says of its queries stays in proportion."""
        own = [np.ones(len(lists)) if lists.times is None else lists.times for lists in several]
        queries = sum(map(len, several))
        shares = [queries * weight / sum(self.weights) for weight in self.weights]
        return np.concatenate([times * (share / times.sum()) for times, share in zip(own, shares, strict=True)])
