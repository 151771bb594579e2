"""Several sources as one: the lists of the same query become one list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from retrieval.lists import Lists, added, dropped_of, instructions_of, joined, targets_of
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

        Raises ValueError for a query id with two texts or instructions, teacher's scores or instructions in some
        sources only, and sources in which queries come more or less often than once.
        """
        several = [source.lists() for source in self.sources]
        if any(lists.times is not None for lists in several):
            raise ValueError("one of the sources is a mixture: make a mixture of unions instead")
        ids = [name for lists in several for name in lists.queries.ids]
        texts = _once(ids, [text for lists in several for text in lists.queries.texts], "is")
        instructions = instructions_of(several)
        own = instructions and list(_once(ids, instructions, "has the instruction").values())
        asked = {name: text for one in several for name, text in zip(one.queries.ids, one.original, strict=True)}
        place = {name: number for number, name in enumerate(texts)}
        places = [np.array([place[name] for name in one.queries.ids]) for one in several]
        passages = joined([lists.passages for lists in several])
        made = Lists.of(
            Queries(list(texts), list(texts.values()), own),
            passages,
            np.concatenate([where[one.query] for where, one in zip(places, several, strict=True)]),
            np.concatenate([passages.moved(one.rows, one.passages) for one in several]),
            np.concatenate([one.labels for one in several]),
            targets_of(several),
            added(*(one.counts for one in several)),
            asked=[asked[name] for name in texts],
        )
        judged = any(one.judged for one in several)
        return replace(made, dropped=dropped_of(several, places, made), judged=judged)


def _once(ids: Sequence[str], values: Sequence[str], what: str) -> dict[str, str]:
    """The value of each query. Raises ValueError for one whose id has another value already."""
    found: dict[str, str] = {}
    for name, value in zip(ids, values, strict=True):
        if found.setdefault(name, value) != value:
            raise ValueError(
                f"query {name!r} {what} {found[name]!r} in one source and {value!r} in another: give one of them "
                "another id"
            )
    return found
