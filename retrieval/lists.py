"""Training data: the passages listed for each query, with labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from retrieval.types import Queries

__all__ = ["Dropped", "Joined", "Lists", "Passages", "added", "dropped_of", "instructions_of", "joined", "targets_of"]


class Passages(Protocol):
    """Texts by row: a corpus, or several one after the other."""

    fingerprint: str

    def __len__(self) -> int: ...

    def texts(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Title and text of these rows, in the order asked."""


class Joined:
    """Passages of several collections, those of one after those of another."""

    def __init__(self, parts: Sequence[Passages]):
        """Raises ValueError for more than int32 rows can number."""
        self.parts = parts
        self.starts = np.cumsum([0, *map(len, parts)])  # int64 [parts + 1]: the first row of each, then their number
        if self.starts[-1] > np.iinfo(np.int32).max:
            raise ValueError(f"{self.starts[-1]} passages of {len(parts)} collections are more than int32 rows number")
        self.fingerprint = hashlib.sha256("\n".join(part.fingerprint for part in parts).encode()).hexdigest()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def texts(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Title and text of these rows, in the order asked."""
        rows = np.asarray(rows, np.int64)
        part = np.searchsorted(self.starts, rows, "right") - 1
        found = np.empty(len(rows), object)
        for number in np.unique(part):
            places = np.flatnonzero(part == number)
            found[places] = self.parts[number].texts(rows[places] - self.starts[number])
        return found.tolist()

    def moved(self, rows: np.ndarray, passages: Passages) -> np.ndarray:
        """int32 rows here of rows of `passages`, which are one of these collections or several of them joined."""
        here = {part.fingerprint: start for part, start in zip(self.parts, self.starts.tolist(), strict=False)}
        parts = _parts(passages)
        ends = np.cumsum([len(part) for part in parts])
        shifts = [here[part.fingerprint] + len(part) - end for part, end in zip(parts, ends.tolist(), strict=True)]
        return (rows + np.array(shifts)[np.searchsorted(ends, rows, "right")]).astype(np.int32)


def joined(several: Sequence[Passages]) -> Joined:
    """The passages of all, those of the same collection once."""
    return Joined(list({part.fingerprint: part for passages in several for part in _parts(passages)}.values()))


def added(*counts: Mapping[str, int]) -> dict[str, int]:
    """What was counted in several places, by name, in the order first named."""
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return dict(total)


@dataclass(frozen=True, eq=False)
class Dropped:
    """Passages with a label above 0 that a list no longer holds: none of them may become a negative of its query."""

    offsets: np.ndarray  # int64 [queries + 1], as those of the lists
    rows: np.ndarray  # int32 [dropped], of the passages of the lists
    labels: np.ndarray  # float32 [dropped]

    @classmethod
    def of(cls, queries: int, query: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> Dropped:
        """Those of entries in any order, each the place of a query, a row and a label."""
        order = np.argsort(query, kind="stable")
        return cls(_offsets(np.bincount(query, minlength=queries)), rows[order], labels[order])

    @property
    def query(self) -> np.ndarray:
        """int64 [dropped], the place of the query of each entry."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def take(self, positions: np.ndarray) -> Dropped:
        """Those of the queries at these positions."""
        entries, offsets = _entries(self.offsets, positions)
        return Dropped(offsets, self.rows[entries], self.labels[entries])


@dataclass(frozen=True, eq=False)
class Lists:
    """Queries, and for each the passages listed for it in the order of their source; ids in memory, texts on disk."""

    queries: Queries
    passages: Passages
    offsets: np.ndarray  # int64 [queries + 1]: the list of query q is offsets[q] to offsets[q + 1]
    rows: np.ndarray  # int32 [listed], of `passages`; a list has no row twice
    labels: np.ndarray  # float32 [listed], grades; what is relevant is told by them
    targets: np.ndarray | None = None  # float32 [listed], a teacher's scores: what a loss is given instead of labels
    times: np.ndarray | None = None  # float64 [queries], how often each comes in an epoch on average; None is once
    source: np.ndarray | None = None  # int64 [queries], which one of a mixture each is of; None is no mixture
    weights: np.ndarray | None = None  # float64 [sources], what each of them is of an epoch: `times` are scaled to it
    counts: Mapping[str, int] = field(default_factory=dict)  # what was left out or made up for on the way here
    asked: Sequence[str] | None = None  # the queries before they were misspelt or read with feedback; None: the same
    dropped: Dropped | None = None  # what is relevant, or may be, and no longer listed
    judged: bool = True  # whether labels, of any source, tell what is relevant: what a retriever found may have one

    def __post_init__(self) -> None:
        listed = int(self.offsets[-1])
        arrays = {"rows": self.rows, "labels": self.labels, "targets": self.targets}
        sizes = {name: len(array) for name, array in arrays.items() if array is not None}
        if len(self.offsets) != len(self.queries) + 1 or set(sizes.values()) != {listed}:
            raise ValueError(
                f"{len(self.queries)} queries, {len(self.offsets) - 1} lists of {listed} passages in all, {sizes}"
            )
        dropped = None if self.dropped is None else self.dropped.offsets[1:]
        own = {"times": self.times, "sources": self.source, "asked": self.asked, "lists of dropped passages": dropped}
        for name, values in own.items():
            if values is not None and len(values) != len(self.queries):
                raise ValueError(f"{len(values)} {name} for {len(self.queries)} queries")
        if self.times is not None and not (np.isfinite(self.times) & (self.times >= 0)).all():
            raise ValueError("how often a query comes in an epoch is a number of at least 0")

    @classmethod
    def of(
        cls,
        queries: Queries,
        passages: Passages,
        query: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        targets: np.ndarray | None = None,
        counts: Mapping[str, int] | None = None,
        again: Literal["last", "highest"] = "last",
        asked: Sequence[str] | None = None,
    ) -> Lists:
        """Lists of entries, each the place of a query, a row and a label, in any order; a list has the order given.

        A passage listed again for its query keeps its first place and has the last label, or the highest. Queries
        without a passage are left out. Both are counted. Raises ValueError where no query has a passage.
        """
        keys = query.astype(np.int64) * len(passages) + rows
        order = np.lexsort((labels, keys)) if again == "highest" else np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
        first = np.minimum.reduceat(order, starts) if len(keys) else order
        kept = order[np.append(starts[1:], len(keys)) - 1] if len(keys) else order
        place = np.lexsort((first, query[kept]))
        kept = kept[place]
        repeated = {"passages listed again": len(keys) - len(kept)} if len(kept) < len(keys) else {}
        made = cls(
            queries,
            passages,
            _offsets(np.bincount(query[kept], minlength=len(queries))),
            rows[kept].astype(np.int32),
            labels[kept].astype(np.float32),
            None if targets is None else targets[kept].astype(np.float32),
            counts=added(counts or {}, repeated),
            asked=asked,
        )
        return made.where(np.ones(len(kept), bool))

    def take(self, positions: np.ndarray) -> Lists:
        """The queries at these positions, in that order, with their lists."""
        own = self._of(*_entries(self.offsets, positions))
        asked = None if self.asked is None else [self.asked[int(i)] for i in positions]
        return replace(self, queries=self.queries.take(positions), asked=asked, **own, **self.of_queries(positions))

    def of_queries(self, positions: np.ndarray) -> dict[str, Any]:
        """The fields that are of queries, times, source and dropped, of those at these positions."""
        return {
            "times": None if self.times is None else self.times[positions],
            "source": None if self.source is None else self.source[positions],
            "dropped": None if self.dropped is None else self.dropped.take(positions),
        }

    def over(self, passages: Joined) -> Lists:
        """The same lists over passages that theirs are among."""
        dropped = self.dropped
        if dropped is not None:
            dropped = replace(dropped, rows=passages.moved(dropped.rows, self.passages))
        return replace(self, passages=passages, rows=passages.moved(self.rows, self.passages), dropped=dropped)

    def relevant(self, least: float) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 of all labelled `least` or higher, listed or dropped, query after query, and their offsets."""
        listed = self.labels >= least
        query, rows = self.query[listed], self.rows[listed]
        if self.dropped is not None:
            more = self.dropped.labels >= least
            query, rows = np.append(query, self.dropped.query[more]), np.append(rows, self.dropped.rows[more])
        return rows[np.lexsort((rows, query))], _offsets(np.bincount(query, minlength=len(self)))

    def where(self, kept: np.ndarray, others: str = "passages left out") -> Lists:
        """The entries that are bool [listed] `kept`; queries without any are left out, and both are counted.

        `others` names the entries that are not; those labelled above 0 are `dropped`, where labels are judged. Raises
        ValueError, with all counts, where no query is left.
        """
        sizes = np.bincount(self.query[kept], minlength=len(self))
        some = np.flatnonzero(sizes)
        told = self.counting({others: int((~kept).sum()), "queries without a passage": len(self) - len(some)})
        if not len(some):
            raise ValueError(f"none of {len(self)} training queries has a passage: {_shown(told.counts)}")
        left = replace(told, **self._of(np.flatnonzero(kept), _offsets(sizes)), dropped=self._dropped(~kept))
        return left if len(some) == len(self) else left.take(some)

    def counting(self, counts: Mapping[str, int]) -> Lists:
        """The same lists, with more that was counted; what is 0 is left out."""
        return replace(self, counts=added(self.counts, {name: count for name, count in counts.items() if count}))

    def _of(self, entries: np.ndarray, offsets: np.ndarray) -> dict[str, Any]:
        """The fields of these entries."""
        targets = None if self.targets is None else self.targets[entries]
        return {"offsets": offsets, "rows": self.rows[entries], "labels": self.labels[entries], "targets": targets}

    def _dropped(self, left_out: np.ndarray) -> Dropped | None:
        """Those dropped before, and what is labelled above 0 of the entries that are now."""
        lost, before = left_out & (self.labels > 0) & self.judged, self.dropped
        if not lost.any():
            return before
        query, rows, labels = self.query[lost], self.rows[lost], self.labels[lost]
        if before is not None:
            query, rows = np.append(before.query, query), np.append(before.rows, rows)
            labels = np.append(before.labels, labels)
        return Dropped.of(len(self), query, rows, labels)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def original(self) -> Sequence[str]:
        """The texts of the queries as they were asked."""
        return self.queries.texts if self.asked is None else self.asked

    @property
    def query(self) -> np.ndarray:
        """int64 [listed], the place of the query of each entry."""
        return np.repeat(np.arange(len(self.queries)), np.diff(self.offsets))

    def fingerprint(self) -> str:
        """The same for the same queries with their instructions, passages, labels, targets, times and weights."""
        digest = hashlib.sha256(self.passages.fingerprint.encode())
        for array in (self.offsets, self.rows, self.labels, self.targets, self.times):
            digest.update(b"-" if array is None else array.tobytes())
        for text in (*self.queries.ids, *self.queries.texts, *(self.queries.instructions or ())):
            digest.update(text.encode() + b"\0")
        dropped = () if self.dropped is None else (self.dropped.offsets, self.dropped.rows, self.dropped.labels)
        for more in (self.source, self.weights, *dropped):
            digest.update(b"" if more is None else more.tobytes())
        return digest.hexdigest()


def targets_of(several: Sequence[Lists]) -> np.ndarray | None:
    """The targets of all, one after the other. Raises ValueError where only some have any."""
    targets = [lists.targets for lists in several if lists.targets is not None]
    if targets and len(targets) < len(several):
        raise ValueError("some of the sources have a teacher's scores and some have none: score them all, or none")
    return np.concatenate(targets) if targets else None


def instructions_of(several: Sequence[Lists]) -> list[str] | None:
    """The instructions of all queries, one after the other. Raises ValueError where those of some sources have none."""
    given = [lists.queries.instructions for lists in several if lists.queries.instructions is not None]
    if given and len(given) < len(several):
        raise ValueError(
            "the queries of some of the sources carry instructions and those of others none: give them to all queries "
            "(`instruction` in queries.jsonl), or to none"
        )
    return [text for one in given for text in one] if given else None


def dropped_of(several: Sequence[Lists], places: Sequence[np.ndarray], both: Lists) -> Dropped | None:
    """What is dropped of all, where their queries are at these places of `both`, which lists some of it again."""
    every = [(one, place, one.dropped) for one, place in zip(several, places, strict=True) if one.dropped is not None]
    if not every or not isinstance(both.passages, Joined):
        return None
    query = np.concatenate([place[dropped.query] for _, place, dropped in every])
    rows = np.concatenate([both.passages.moved(dropped.rows, one.passages) for one, _, dropped in every])
    labels = np.concatenate([dropped.labels for _, _, dropped in every])
    keys = query * len(both.passages) + rows
    order = np.lexsort((-labels, keys))  # of what several dropped, the highest label
    first = order[np.flatnonzero(np.diff(keys[order], prepend=-1))]
    gone = first[~np.isin(keys[first], both.query * len(both.passages) + both.rows)]
    return Dropped.of(len(both), query[gone], rows[gone], labels[gone])


def _entries(offsets: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64, the entries of these queries one after the other, and their offsets."""
    sizes = np.diff(offsets)[positions]
    own = _offsets(sizes)
    return np.repeat(offsets[positions] - own[:-1], sizes) + np.arange(own[-1]), own


def _parts(passages: Passages) -> Sequence[Passages]:
    return passages.parts if isinstance(passages, Joined) else [passages]


def _offsets(sizes: np.ndarray) -> np.ndarray:
    return np.append(0, np.cumsum(sizes)).astype(np.int64)


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "the source is empty"
