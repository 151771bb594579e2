"""Training groups: a query with some of its judged passages, and the labels and mask of a batch of groups."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, get_args

import numpy as np

from retrieval.corpus import Corpus
from retrieval.types import Qrels, Queries

__all__ = ["Batches", "Group", "Groups", "labels_and_mask"]

Negatives = Literal["judged", "random", "none"]


class Group(TypedDict):
    """One query and the passages listed for it, positives first."""

    query_id: str
    query: str
    rows: np.ndarray  # int32 [size], of the corpus; a row comes twice only where there was nothing else to list
    labels: np.ndarray  # float32 [size]
    known: np.ndarray  # int32, every relevant row of the query, listed or not


class Groups:
    """One group of `size` passages per query and epoch, always the same for the same seed, query and epoch.

    A group has `positives` passages judged `relevant` or higher, then passages judged lower. Where these are too few:
    "judged" lists the query's other positives, and after them repeats the list cyclically; "random" draws documents of
    the corpus that were not judged for the query; "none" takes no lower-judged passage and otherwise does as "judged".
    Within a query every positive, and every negative, has its turn before one comes again in a later epoch.

    Labels are the grades (at least 0), or, unless `graded`, 1 from `relevant` on and 0 below: InfoNCE takes any label
    above 0 for a positive. Queries with fewer than `positives` positives are left out; see `counts`.
    """

    def __init__(
        self,
        corpus: Corpus,
        queries: Queries,
        qrels: Qrels,
        size: int,
        positives: int = 1,
        relevant: int = 1,
        negatives: Negatives = "judged",
        graded: bool = True,
        seed: int = 0,
    ):
        """Raises ValueError where no query has enough positives, or the corpus is too small to draw from."""
        if not 1 <= positives <= size:
            raise ValueError(f"a group of {size} passages cannot hold {positives} positives: 1 <= positives <= size")
        if relevant < 1:
            raise ValueError(f"relevant is {relevant}; grades from 1 on can be, as label 0 is that of a negative")
        if negatives not in get_args(Negatives):
            raise ValueError(f"there are no {negatives!r} negatives: choose from {', '.join(get_args(Negatives))}")
        self.corpus, self.queries = corpus, queries
        self.size, self.positives, self.relevant, self.negatives = size, positives, relevant, negatives
        self.graded, self.seed = graded, seed
        self.epoch = 0
        self._counts: dict[str, int] = {}
        self._group(*self._judged(qrels))
        self._check_fill()

    def __len__(self) -> int:
        return len(self._query)

    def __getitem__(self, number: int) -> Group:
        return self.group(number, self.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that indexing draws from."""
        self.epoch = epoch

    @property
    def counts(self) -> Mapping[str, int]:
        """What became groups, and what was left out or made up for."""
        return dict(self._counts)

    def settings(self) -> dict[str, Any]:
        """All that determines the groups, as plain values: two equal ones give the same training data."""
        digest = hashlib.sha256()
        for array in (self._query, self._start, self._split, self._rows, self._labels):
            digest.update(array.tobytes())
        for text in (*self.queries.ids, *self.queries.texts):
            digest.update(text.encode() + b"\0")
        names = ("size", "positives", "relevant", "negatives", "graded", "seed")
        data = {"corpus": self.corpus.ids.fingerprint, "judgements": digest.hexdigest(), "counts": dict(self._counts)}
        return {name: getattr(self, name) for name in names} | data

    def group(self, number: int, epoch: int) -> Group:
        """The group of a query (by its place among those kept) in an epoch. Raises IndexError past the last one."""
        if not 0 <= number < len(self):
            raise IndexError(f"group {number} of {len(self)}")
        start, split, end = self._start[number], self._split[number], self._start[number + 1]
        chosen = self._choose(number, epoch, np.arange(start, split), np.arange(split, end))
        rows, labels = self._rows[chosen], self._labels[chosen]
        if len(rows) < self.size and self.negatives == "random":
            drawn = self._draw(number, epoch, self.size - len(rows), self._rows[start:end])
            rows, labels = np.append(rows, drawn), np.append(labels, np.zeros(len(drawn), np.float32))
        query = self._query[number]
        return Group(
            query_id=self.queries.ids[query],
            query=self.queries.texts[query],
            rows=np.resize(rows, self.size),  # repeats cyclically
            labels=np.resize(labels, self.size),
            known=self._rows[start:split],
        )

    def _choose(self, number: int, epoch: int, relevant: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Judgements to list, at most `size`: positives, lower ones, then positives again where none may be drawn."""
        rng = np.random.default_rng([self.seed, int(self._query[number])])
        relevant, lower = rng.permutation(relevant), rng.permutation(lower)
        turned = np.roll(relevant, -epoch * self.positives)
        wanted = self.size - self.positives
        others = np.roll(lower, -epoch * wanted)[:wanted] if self.negatives != "none" else lower[:0]
        spare = turned[self.positives :] if self.negatives != "random" else turned[:0]
        return np.concatenate([turned[: self.positives], others, spare])[: self.size]

    def _draw(self, number: int, epoch: int, wanted: int, judged: np.ndarray) -> np.ndarray:
        """Rows drawn without replacement from the documents not judged for this query."""
        rng = np.random.default_rng([self.seed, int(self._query[number]), epoch])
        found = np.empty(0, np.int32)
        while len(found) < wanted:
            tried = np.append(found, rng.integers(len(self.corpus.ids), size=2 * wanted + 8, dtype=np.int32))
            first = np.sort(np.unique(tried, return_index=True)[1])
            found = tried[first][~np.isin(tried[first], judged)]
        return found[:wanted]

    def _judged(self, qrels: Qrels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Query, row and grade of each judgement that can be used; of repeated ones the last."""
        place = {query: position for position, query in enumerate(self.queries.ids)}
        query = np.array([place.get(name, -1) for name in qrels.query_ids], np.int64)[qrels.query]
        rows, grades = self.corpus.ids.rows(qrels.doc_ids), np.asarray(qrels.grades)
        self._counts["judgements without query"] = int((query < 0).sum())
        self._counts["judgements without document"] = int(((query >= 0) & (rows < 0)).sum())
        usable = np.flatnonzero((query >= 0) & (rows >= 0))[::-1]
        keys = query[usable] * len(self.corpus.ids) + rows[usable]
        last = usable[np.unique(keys, return_index=True)[1]]
        self._counts["judgements repeated"] = len(usable) - len(last)
        return query[last], rows[last], grades[last]

    def _group(self, query: np.ndarray, rows: np.ndarray, grades: np.ndarray) -> None:
        """Lay judgements out by query, relevant ones first: group g is [start[g], start[g + 1]), cut at split[g]."""
        relevant = grades >= self.relevant
        found = np.bincount(query[relevant], minlength=len(self.queries))
        keep = found >= self.positives
        self._counts = {
            "groups": int(keep.sum()),
            "queries without enough positives": int((~keep).sum()),
            **self._counts,
        }
        if not keep.any():
            raise ValueError(
                f"none of {len(self.queries)} queries has {self.positives} documents judged {self.relevant} or higher "
                f"in this corpus: {self._counts}"
            )
        order = np.lexsort((rows, ~relevant, query))
        order = order[keep[query[order]]]
        sizes = np.bincount(query[order], minlength=len(self.queries))[keep]
        self._query = np.flatnonzero(keep)
        self._start = np.concatenate([[0], np.cumsum(sizes)])
        self._split = self._start[:-1] + found[keep]
        self._rows = rows[order].astype(np.int32)
        labels = np.maximum(grades, 0) if self.graded else relevant
        self._labels = labels[order].astype(np.float32)

    def _check_fill(self) -> None:
        """Count the groups that judged passages do not fill, and see that the corpus can fill them."""
        judged = np.diff(self._start)
        relevant = self._split - self._start[:-1]
        lower = judged - relevant
        listed = {"judged": judged, "random": self.positives + lower, "none": relevant}[self.negatives]
        short = self.size - listed
        how = "filled at random" if self.negatives == "random" else "that repeat passages"
        self._counts[f"groups {how}"] = int((short > 0).sum())
        if self.negatives == "random" and (judged + short > len(self.corpus.ids)).any():
            raise ValueError(
                f"{len(self.corpus.ids)} documents are too few to fill groups of {self.size} with ones that were not "
                'judged: lower the size or use negatives: "judged"'
            )


class Batches:
    """Full batches of groups, epoch after epoch, each epoch in an order of its own.

    What a batch holds follows from its number alone, so that a resumed run, and every process of one, knows it.
    Groups that do not fill a last batch sit out the epoch.
    """

    def __init__(self, groups: Groups, size: int, seed: int = 0):
        """Raises ValueError for fewer groups than make one batch."""
        if len(groups) < size:
            raise ValueError(f"{len(groups)} training groups do not make a batch of {size}: lower batch_size")
        self.groups, self.size, self.seed = groups, size, seed
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, int))  # epoch, and its order of groups

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self.groups) // self.size

    def __getitem__(self, number: int) -> list[Group]:
        epoch, place = divmod(number, self.per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.groups))
        chosen = self._order[1][place * self.size : (place + 1) * self.size]
        return [self.groups.group(int(group), epoch) for group in chosen]


def labels_and_mask(batch: Sequence[Group]) -> tuple[np.ndarray, np.ndarray]:
    """Labels float32 and mask bool, [queries, passages], for every query against the listed passages of all.

    Labels are 0 outside a query's own block of columns. A column is masked for a query where its document stands in
    the query's own block too, is known to be relevant to it, or repeats an earlier column; in its own block only
    where it repeats an earlier column of the block.
    """
    columns = np.concatenate([group["rows"] for group in batch])
    ends = np.cumsum([len(group["rows"]) for group in batch])
    documents, inverse = np.unique(columns, return_inverse=True)
    labels = np.zeros((len(batch), len(columns)), np.float32)
    mask = np.tile(_first(columns), (len(batch), 1))
    for query, (group, end) in enumerate(zip(batch, ends, strict=True)):
        own = slice(end - len(group["rows"]), end)
        barred = np.zeros(len(documents), bool)
        barred[_places(documents, group["known"])] = True
        barred[inverse[own]] = True
        mask[query] &= ~barred[inverse]
        mask[query, own] = _first(columns[own])
        labels[query, own] = group["labels"]
    return labels, mask


def _first(values: np.ndarray) -> np.ndarray:
    """Whether each value is the first of its kind."""
    first = np.zeros(len(values), bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def _places(documents: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Places in the ascending `documents` of those rows that are there."""
    places = np.searchsorted(documents, rows).clip(max=len(documents) - 1)
    return places[documents[places] == rows]
