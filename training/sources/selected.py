"""A part of another source: some of its queries, and of each list the passages in a range of labels, or k of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from retrieval.lists import Lists
from retrieval.protocols import Source
from training.listed_texts import data_file

__all__ = ["Selected"]

Keep = Literal["all", "top", "bottom", "random", "first"]


class Selected:
    """What is left of a source after, in this order, queries, the range of labels, `k` a list, and new labels.

    A list keeps the order of its source. "top" and "bottom" go by label, the first of equals; "random" is the same
    choice for the same seed, query and passage, whatever else is there. Queries without a passage are left out.
    """

    def __init__(
        self,
        source: Source,
        min_label: float | None = None,
        max_label: float | None = None,
        keep: Keep = "all",
        k: int | None = None,
        relabel: float | Literal["floor", "ceil"] | None = None,
        queries: Path | list[str] | None = None,
        share: float | None = None,
        number: int | None = None,
        seed: int = 0,
    ):
        """Labels from `min_label` on and below `max_label`; `queries` are ids, or a file with one a line.

        `share` or `number` of queries are drawn at random.
        """
        if keep not in get_args(Keep):
            raise ValueError(f"there is no keep {keep!r}: choose from {', '.join(get_args(Keep))}")
        if (k is None) != (keep == "all") or (k is not None and k < 1):
            raise ValueError(f'keep is {keep!r} and k is {k}: "all" takes no k, the others one of at least 1')
        if min_label is not None and max_label is not None and not min_label < max_label:
            raise ValueError(f"no label is from {min_label:g} on and below {max_label:g}")
        if share is not None and number is not None:
            raise ValueError(f"share is {share} and number is {number}: give one of them")
        if not (share is None or 0 < share <= 1) or not (number is None or number >= 1):
            raise ValueError(f"share is {share} and number is {number}: a share is in (0, 1], a number at least 1")
        self.source, self.min_label, self.max_label, self.keep, self.k = source, min_label, max_label, keep, k
        self.relabel, self.queries, self.share, self.number, self.seed = relabel, queries, share, number, seed

    def lists(self) -> Lists:
        """The part. Raises ValueError where it is empty, with how many each step left out."""
        return self._relabelled(self._best(self._in_range(self._drawn(self._named(self.source.lists())))))

    def _named(self, lists: Lists) -> Lists:
        if self.queries is None:
            return lists
        wanted = set(_ids(data_file(self.queries)) if isinstance(self.queries, Path) else self.queries)
        unknown = wanted - set(lists.queries.ids)
        lists = lists.counting({"queries asked for that are not there": len(unknown)})
        return _only(lists, np.array([name in wanted for name in lists.queries.ids]), "queries not asked for")

    def _drawn(self, lists: Lists) -> Lists:
        if self.share is None and self.number is None:
            return lists
        number = max(1, round(self.share * len(lists))) if self.share is not None else self.number or 0
        if number > len(lists):
            raise ValueError(f"{number} queries are wanted and there are {len(lists)}: lower the number")
        kept = np.zeros(len(lists), bool)
        kept[np.argsort(self._numbers(lists), kind="stable")[:number]] = True
        return _only(lists, kept, "queries not drawn")

    def _in_range(self, lists: Lists) -> Lists:
        lowest = -np.inf if self.min_label is None else self.min_label
        highest = np.inf if self.max_label is None else self.max_label
        if self.min_label is None and self.max_label is None:
            return lists
        kept = (lists.labels >= lowest) & (lists.labels < highest)
        return lists.where(kept, f"passages labelled outside [{lowest:g}, {highest:g})")

    def _best(self, lists: Lists) -> Lists:
        if self.k is None:
            return lists
        query = lists.query
        order = np.lexsort((self._priority(lists, query), query))
        kept = np.zeros(len(order), bool)
        kept[order] = np.arange(len(order)) - lists.offsets[:-1][query] < self.k
        return lists.where(kept, f"passages not among the {self.keep} {self.k}")

    def _priority(self, lists: Lists, query: np.ndarray) -> np.ndarray:
        """What comes first within a list, ascending; of equals the earlier one."""
        if self.keep == "first":
            return np.zeros(len(query))
        if self.keep == "random":
            return _mixed(self._numbers(lists)[query] + lists.rows.astype(np.uint64))
        return -lists.labels if self.keep == "top" else lists.labels

    def _numbers(self, lists: Lists) -> np.ndarray:
        """uint64 [queries], as good as random, of the seed and the query's id."""
        keys = (f"{self.seed} {name}".encode() for name in lists.queries.ids)
        return np.array([int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) for key in keys], np.uint64)

    def _relabelled(self, lists: Lists) -> Lists:
        if self.relabel is None:
            return lists
        dropped = lists.dropped
        if dropped is not None:  # what was relevant by its old label or is by the new one never becomes a negative
            dropped = replace(dropped, labels=np.maximum(dropped.labels, self._label(dropped.labels)))
        return replace(lists, labels=self._label(lists.labels), dropped=dropped)

    def _label(self, labels: np.ndarray) -> np.ndarray:
        if isinstance(self.relabel, str):
            return (np.floor if self.relabel == "floor" else np.ceil)(labels)
        return np.full(len(labels), self.relabel, np.float32)


def _only(lists: Lists, kept: np.ndarray, others: str) -> Lists:
    """These queries, the others counted. Raises ValueError where there is none."""
    lists = lists.counting({others: int((~kept).sum())})
    if not kept.any():
        raise ValueError(f"none of {len(kept)} training queries is left: {dict(lists.counts)}")
    return lists if kept.all() else lists.take(np.flatnonzero(kept))


def _ids(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _mixed(values: np.ndarray) -> np.ndarray:
    """uint64, one to one and as good as random: the finaliser of SplitMix64, Steele et al. (2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
