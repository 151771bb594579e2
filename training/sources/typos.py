"""Training data with misspelt queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from retrieval.lists import Lists
from retrieval.protocols import Source
from retrieval.types import Queries
from retrieval.typos import Kind, check_typos, misspelt

__all__ = ["Typos"]


class Typos:
    """Another source with typos in a share of its queries, their lists as they were. Zhuang and Zuccon (2021).

    A misspelt query takes the place of the correct one, or is `added` to it, as a query of its own whose id ends in
    -typo. Which queries and which typos follows from the seed and a query's id.
    """

    def __init__(
        self,
        source: Source,
        share: float = 0.5,
        rate: float = 0.1,
        kinds: list[Kind] | None = None,
        added: bool = False,
        seed: int = 0,
    ):
        """`rate` is the share of a query's words with a typo, at least one word; `kinds` None draws from all."""
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}; it is the share of queries that are misspelt, above 0 and at most 1")
        self.kinds = check_typos(rate, kinds)
        self.source, self.share, self.rate, self.added, self.seed = source, share, rate, added, seed

    def lists(self) -> Lists:
        """The lists of the source. Raises ValueError where a query has the id that an added one would get."""
        found = self.source.lists()
        queries, changed = misspelt(found.queries, self.seed, self.rate, self.kinds, self.share)
        counts = {**found.counts, "queries with typos": int(changed.sum())}
        if not self.added:
            return replace(found, queries=queries, counts=counts, asked=found.original)
        return replace(_with_copies(found, queries, np.flatnonzero(changed)), counts=counts)


def _with_copies(lists: Lists, queries: Queries, places: np.ndarray) -> Lists:
    """The lists, and behind them those at these places again, for these texts of the queries."""
    copies = replace(queries.take(places), ids=[f"{queries.ids[place]}-typo" for place in places])
    both = set(copies.ids) & set(lists.queries.ids)
    if both:
        raise ValueError(f"typos would add a query {min(both)!r}, which the source has already: set added to false")
    sizes = np.diff(lists.offsets)
    entries = np.flatnonzero(np.isin(lists.query, places))

    def more(values: np.ndarray | None, at: np.ndarray) -> np.ndarray | None:
        return None if values is None else np.concatenate([values, values[at]])

    return replace(
        lists,
        queries=_joined(lists.queries, copies),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate([sizes, sizes[places]]))]),
        rows=np.concatenate([lists.rows, lists.rows[entries]]),
        labels=np.concatenate([lists.labels, lists.labels[entries]]),
        targets=more(lists.targets, entries),
        **lists.of_queries(np.append(np.arange(len(lists)), places)),
        asked=[*lists.original, *(lists.original[place] for place in places)],
    )


def _joined(first: Queries, second: Queries) -> Queries:
    instructions = None
    if first.instructions is not None and second.instructions is not None:
        instructions = [*first.instructions, *second.instructions]
    return Queries([*first.ids, *second.ids], [*first.texts, *second.texts], instructions)
