"""Training groups: a query with some of the passages listed for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict, get_args

import numpy as np

from retrieval.lists import Lists

__all__ = ["Group", "Groups"]

Negatives = Literal["judged", "random", "none"]
Short = Literal["repeat", "drop"]


class Group(TypedDict):
    """One query and the passages listed for it, positives first where they have places of their own."""

    query_id: str
    query: str
    instruction: NotRequired[str]
    rows: np.ndarray  # int32 [size], of the passages; a row comes twice only where there was nothing else to list
    labels: np.ndarray  # float32 [size]
    known: np.ndarray  # int32, every relevant row of the query, in the group or not, listed or dropped
    targets: NotRequired[np.ndarray]  # float32 [size], a teacher's scores


class Groups:
    """One group of `size` passages per query and turn, always the same for the same seed, query and turn.

    A group has `positives` passages labelled `relevant` or higher, then passages labelled lower. Where these are too
    few: "judged" takes the query's other positives; "random" draws passages that neither are listed for the query nor
    were dropped from its list as relevant; "none" takes no passage labelled lower and otherwise does as "judged". With
    0 `positives` no place is kept for them: a group is drawn from the whole list. Within a query every positive, and
    every negative, has its turn before one comes again in a later turn. A list too `short` for a group is repeated
    cyclically, or its query is left out.

    Labels are those of the lists (at least 0), or, unless `graded`, 1 from `relevant` on and 0 below: InfoNCE takes any
    label above 0 for a positive. Queries with fewer than `positives` positives are left out; see `counts`. Sources of a
    mixture keep their weights, whatever is left out of them.
    """

    def __init__(
        self,
        lists: Lists,
        size: int,
        positives: int = 1,
        relevant: float = 1,
        graded: bool = True,
        negatives: Negatives = "judged",
        short: Short = "repeat",
        levels: Sequence[float] | None = None,
        seed: int = 0,
        topics: np.ndarray | None = None,
    ):
        """`levels` are the labels there may be; None is any. `topics` are those of the lists' queries, int [lists].

        Raises ValueError where no query can have a group, the passages are too few to draw from, or a label is none of
        the levels.
        """
        if not (size >= 1 and 0 <= positives <= size):
            raise ValueError(f"a group of {size} passages cannot hold {positives} positives: 0 <= positives <= size")
        if not relevant > 0:
            raise ValueError(f"relevant is {relevant}; labels above 0 can be, as label 0 is that of a negative")
        for value, known in ((negatives, get_args(Negatives)), (short, get_args(Short))):
            if value not in known:
                raise ValueError(f"there is no {value!r} here: choose from {', '.join(known)}")
        if negatives == "none" and not positives:
            raise ValueError('with 0 positives a group is drawn from the whole list: negatives "none" has no meaning')
        if negatives == "random" and lists.targets is not None:
            raise ValueError('passages drawn at random have no teacher\'s score: use negatives "judged"')
        self.lists, self.size, self.positives, self.relevant = lists, size, positives, relevant
        self.graded, self.negatives, self.short, self.seed = graded, negatives, short, seed
        self.levels = None if levels is None else list(levels)
        self.epoch, self._topics = 0, topics
        self._check_levels()
        self._lay_out()

    def __len__(self) -> int:
        return len(self._query)

    def __getitem__(self, number: int) -> Group:
        return self.group(number, self.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the turn that indexing draws from."""
        self.epoch = epoch

    @property
    def counts(self) -> Mapping[str, int]:
        """What became groups, and what was left out or made up for."""
        return dict(self._counts)

    @property
    def times(self) -> np.ndarray | None:
        """float64 [groups], how often each comes in an epoch on average; None is once."""
        times, weights = self.lists.times, self.lists.weights
        if times is None:
            return None
        own = times[self._query]
        if weights is None or self.lists.source is None:
            return own
        source = self.lists.source[self._query]
        return own * (len(own) * weights / np.bincount(source, own, len(weights)))[source]

    @property
    def topics(self) -> np.ndarray | None:
        """int [groups], the topic of each query, from 0; None where there are none."""
        return None if self._topics is None else self._topics[self._query]

    def settings(self) -> dict[str, Any]:
        """All that determines the groups, as plain values: two equal ones give the same training data."""
        digest = hashlib.sha256()
        own = (self._query, self._start, self._split, self._rows, self._labels, self._targets, self.times)
        for array in own if self._topics is None else (*own, self.topics):
            digest.update(b"-" if array is None else array.tobytes())
        queries = self.lists.queries
        for text in (*queries.ids, *queries.texts, *(queries.instructions or ())):
            digest.update(text.encode() + b"\0")
        if self.lists.dropped is not None:
            digest.update(self._known.tobytes())
        names = ("size", "positives", "relevant", "negatives", "graded", "short", "levels", "seed")
        data = {"passages": self.lists.passages.fingerprint, "lists": digest.hexdigest(), "counts": dict(self._counts)}
        return {name: getattr(self, name) for name in names} | data

    def group(self, number: int, turn: int) -> Group:
        """The group of a query (by its place among those kept) at its nth turn: the epoch, where it comes once in each.

        Raises IndexError past the last one.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"group {number} of {len(self)}")
        start, split, end = self._start[number], self._split[number], self._start[number + 1]
        chosen = self._choose(number, turn, np.arange(start, split), np.arange(split, end))
        rows, labels = self._rows[chosen], self._labels[chosen]
        if len(rows) < self.size and self.negatives == "random":
            listed = np.append(self._rows[start:end], self._dropped_of(number))
            drawn = self._draw(number, turn, self.size - len(rows), listed)
            rows, labels = np.append(rows, drawn), np.append(labels, np.zeros(len(drawn), np.float32))
        query = self._query[number]
        group = Group(
            query_id=self.lists.queries.ids[query],
            query=self.lists.queries.texts[query],
            rows=np.resize(rows, self.size),  # repeats cyclically
            labels=np.resize(labels, self.size),
            known=self._known_of(number),
        )
        if self.lists.queries.instructions is not None:
            group["instruction"] = self.lists.queries.instructions[query]
        if self._targets is not None:
            group["targets"] = np.resize(self._targets[chosen], self.size)
        return group

    def _dropped_of(self, number: int) -> np.ndarray:
        """Rows labelled above 0 that are no longer listed."""
        query, dropped = self._query[number], self.lists.dropped
        return self._known[:0] if dropped is None else dropped.rows[dropped.offsets[query] : dropped.offsets[query + 1]]

    def _known_of(self, number: int) -> np.ndarray:
        query = self._query[number]
        return self._known[self._known_ends[query] : self._known_ends[query + 1]]

    def _choose(self, number: int, turn: int, relevant: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Entries to list, at most `size`: positives, lower ones, then positives again where none may be drawn."""
        rng = np.random.default_rng([self.seed, int(self._query[number])])
        if not self.positives:
            return np.roll(rng.permutation(np.append(relevant, lower)), -turn * self.size)[: self.size]
        relevant, lower = rng.permutation(relevant), rng.permutation(lower)
        turned = np.roll(relevant, -turn * self.positives)
        wanted = self.size - self.positives
        others = np.roll(lower, -turn * wanted)[:wanted] if self.negatives != "none" else lower[:0]
        spare = turned[self.positives :] if self.negatives != "random" else turned[:0]
        return np.concatenate([turned[: self.positives], others, spare])[: self.size]

    def _draw(self, number: int, turn: int, wanted: int, listed: np.ndarray) -> np.ndarray:
        """Rows drawn without replacement from the passages not listed for this query."""
        rng = np.random.default_rng([self.seed, int(self._query[number]), turn])
        found = np.empty(0, np.int32)
        while len(found) < wanted:
            tried = np.append(found, rng.integers(len(self.lists.passages), size=2 * wanted + 8, dtype=np.int32))
            first = np.sort(np.unique(tried, return_index=True)[1])
            found = tried[first][~np.isin(tried[first], listed)]
        return found[:wanted]

    def _check_levels(self) -> None:
        """Raises ValueError for a label that is none of the declared levels, with its query."""
        if self.levels is None:
            return
        odd = np.flatnonzero(~np.isin(self.lists.labels, np.array(self.levels, np.float32)))
        if len(odd):
            query = self.lists.queries.ids[int(np.searchsorted(self.lists.offsets, odd[0], "right")) - 1]
            raise ValueError(
                f"query {query!r} has a passage labelled {self.lists.labels[odd[0]]:g}, which is none of the levels "
                f"{', '.join(f'{level:g}' for level in self.levels)} ({len(odd)} passages in all): correct the data, "
                "or relabel or leave out such passages"
            )

    def _check_sources(self) -> None:
        """Raises ValueError where nothing is left of a source of a mixture, so that it cannot have its weight."""
        if self.lists.weights is None or self.lists.source is None:
            return
        lost = np.setdiff1d(np.arange(len(self.lists.weights)), self.lists.source[self._query])
        if len(lost):
            raise ValueError(
                f"no query is left of source {lost[0] + 1} of the {len(self.lists.weights)} of a mixture, which is to "
                f"be {self.lists.weights[lost[0]]:.3g} of an epoch: leave it out, or give it other queries "
                f"({self._counts})"
            )

    def _lay_out(self) -> None:
        """Lay entries out by query, relevant ones first: group g is [start[g], start[g + 1]), cut at split[g]."""
        lists, query = self.lists, self.lists.query
        relevant = lists.labels >= self.relevant
        found = np.bincount(query[relevant], minlength=len(lists))
        self._known, self._known_ends = lists.relevant(self.relevant)
        lost = np.zeros(len(lists), int) if lists.dropped is None else np.diff(lists.dropped.offsets)
        keep = self._kept(found, np.diff(lists.offsets), lost)
        order = np.lexsort((lists.rows, ~relevant, query))
        order = order[keep[query[order]]]
        sizes = np.diff(lists.offsets)[keep]
        self._query = np.flatnonzero(keep)
        self._start = np.append(0, np.cumsum(sizes))
        self._split = self._start[:-1] + found[keep]
        self._rows = lists.rows[order].astype(np.int32)
        labels = np.maximum(lists.labels, 0) if self.graded else relevant
        self._labels = labels[order].astype(np.float32)
        self._targets = None if lists.targets is None else lists.targets[order]
        self._check_sources()

    def _kept(self, relevant: np.ndarray, listed: np.ndarray, lost: np.ndarray) -> np.ndarray:
        """bool [queries], which can have a group, from how many passages they have; all others are counted.

        `lost` is how many labelled above 0 are no longer listed, which are not drawn at random either.
        """
        enough = (relevant >= self.positives) & (listed > 0)
        lower = np.minimum(listed - relevant, self.size - self.positives)
        drawn = self.positives + lower if self.positives else listed
        short = self.size - {"judged": listed, "random": drawn, "none": relevant}[self.negatives]
        dropped = enough & (short > 0) & (self.short == "drop") & (self.negatives != "random")
        keep = enough & ~dropped
        self._counts = {
            "groups": int(keep.sum()),
            "queries without enough positives": int((~enough).sum()),
            "queries with too few passages": int(dropped.sum()),
            **self.lists.counts,
            f"groups {self._made_up}": int((keep & (short > 0)).sum()),
        }
        if not keep.any():
            raise ValueError(
                f"none of {len(listed)} queries has {self.positives} passages labelled {self.relevant:g} or higher"
                f"{f' and {self.size} in all' if dropped.any() else ''}: {self._counts}"
            )
        if self.negatives == "random" and (keep & (listed + lost + short > len(self.lists.passages))).any():
            raise ValueError(
                f"{len(self.lists.passages)} passages are too few to fill groups of {self.size} with ones that are not "
                'listed: lower the size or use negatives: "judged"'
            )
        return keep

    @property
    def _made_up(self) -> str:
        return "filled at random" if self.negatives == "random" else "that repeat passages"
