"""Several sources as one: the lists of the same query become one list."""

from __future__ import annotations

import numpy as np

from retrieval.lists import Lists, added, joined, targets_of
from retrieval.protocols import Source
from retrieval.types import Queries

__all__ = ["Union"]


class Union:
    """The lists of several sources, those of the same query one after the other.

    Of the labels of a passage that several sources list for a query, the last source's counts.
    """

    def __init__(self, sources: list[Source]):
        """Raises ValueError for no sources."""
        if not sources:
            raise ValueError("a union of no sources has no queries: name at least one")
        self.sources = sources

    def lists(self) -> Lists:
        """Queries in the order in which they first come.

        Raises ValueError for a query id with two texts, teacher's scores in some sources only, and sources in which
        queries come more or less often than once.
        """
        several = [source.lists() for source in self.sources]
        if any(lists.times is not None for lists in several):
            raise ValueError("one of the sources is a mixture: make a mixture of unions instead")
        texts: dict[str, str] = {}
        for lists in several:
            _note(texts, lists.queries)
        asked = {name: text for one in several for name, text in zip(one.queries.ids, one.original, strict=True)}
        place = {name: number for number, name in enumerate(texts)}
        passages = joined([lists.passages for lists in several])
        return Lists.of(
            Queries(list(texts), list(texts.values())),
            passages,
            np.concatenate([np.array([place[name] for name in one.queries.ids])[one.query] for one in several]),
            np.concatenate([passages.moved(one.rows, one.passages) for one in several]),
            np.concatenate([one.labels for one in several]),
            targets_of(several),
            added(*(one.counts for one in several)),
            asked=[asked[name] for name in texts],
        )


def _note(texts: dict[str, str], queries: Queries) -> None:
    """Add queries. Raises ValueError for one whose id has another text already."""
    for name, text in zip(queries.ids, queries.texts, strict=True):
        if texts.setdefault(name, text) != text:
            raise ValueError(
                f"query {name!r} is {texts[name]!r} in one source and {text!r} in another: give one of them another id"
            )
