"""Batches of training groups, and the labels and mask of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.collections import Group, Groups

__all__ = ["Batches", "labels_and_mask"]


class Batches:
    """Full batches of groups, epoch after epoch, each epoch in an order of its own.

    What a batch holds follows from its number alone, so that a resumed run, and every process of one, knows it. Where
    the lists say how often a query comes in an epoch, each comes that often, rounded down or up: a systematic sample
    with an offset drawn anew, of the same number of groups every time. Each time is a turn of its own. Where queries
    have topics, a batch is of one topic, and where that ends of the next one too.
    Groups that do not fill a last batch sit out the epoch.
    """

    def __init__(self, groups: Groups, size: int, seed: int = 0):
        """Raises ValueError for fewer groups than make one batch."""
        times = groups.times
        self._of_epoch = len(groups) if times is None else _whole(times)
        if self._of_epoch < size:
            raise ValueError(f"{self._of_epoch} training groups do not make a batch of {size}: lower batch_size")
        self.groups, self.size, self.seed = groups, size, seed
        self._order: tuple[int, np.ndarray, np.ndarray] = (-1, np.empty(0, int), np.empty(0, int))

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return self._of_epoch // self.size

    def __getitem__(self, number: int) -> list[Group]:
        epoch, place = divmod(number, self.per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, *self._drawn(epoch)
        chosen = slice(place * self.size, (place + 1) * self.size)
        _, groups, turns = self._order
        return [self.groups.group(*one) for one in zip(groups[chosen].tolist(), turns[chosen].tolist(), strict=True)]

    def _drawn(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The groups of an epoch in their order, and the turn of each."""
        rng = np.random.default_rng([self.seed, epoch])
        order, times = rng.permutation(len(self.groups)), self.groups.times
        if times is None:
            return self._by_topic(order, np.full(len(order), epoch), rng)
        comes = _comes(times[order], rng)
        groups = np.repeat(order, comes)
        before = np.repeat(np.cumsum(comes) - comes, comes)
        turns = epoch * np.ceil(times[groups]).astype(int) + np.arange(len(groups)) - before
        mixed = rng.permutation(len(groups))
        return self._by_topic(groups[mixed], turns[mixed], rng)

    def _by_topic(
        self, groups: np.ndarray, turns: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same with topics one after the other, cut into batches, and these in an order at random."""
        topics = self.groups.topics
        if topics is None:
            return groups, turns
        place = rng.permutation(int(topics.max()) + 1)
        order = np.argsort(place[topics[groups]], kind="stable")
        whole = order[: self.per_epoch * self.size].reshape(-1, self.size)
        order = whole[rng.permutation(len(whole))].ravel()
        return groups[order], turns[order]


def _whole(times: np.ndarray) -> int:
    """The sum, rounded down, but not for what was lost in adding up."""
    return int(np.floor(times.sum() + 1e-6))


def _comes(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int64, each time rounded down or up, by a systematic sample of the fractions; they add up to `_whole`."""
    comes = np.floor(times).astype(int)
    wanted = _whole(times) - int(comes.sum())
    edges = np.cumsum(times - comes)
    if edges[-1] - wanted < 1e-6:  # a whole number, but for what was lost in adding up
        edges = np.append(edges[:-1].clip(max=wanted), wanted)
    more = np.diff(np.floor(edges + rng.random()), prepend=0).astype(int)
    more[rng.permutation(np.flatnonzero(more))[wanted:]] = 0
    return comes + more


def labels_and_mask(batch: Sequence[Group], in_batch: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Labels float32 and mask bool, [queries, passages], for every query against the listed passages of all.

    Labels are the teacher's scores where a group has them, and 0 outside a query's own block of columns. A column is
    masked for a query where its document stands in the query's own block too, is known to be relevant to it, or
    repeats an earlier column; in its own block only where it repeats an earlier column of the block.
    Unless `in_batch` they are [queries, size], of a query's own block alone.
    """
    own_labels = [group.get("targets", group["labels"]) for group in batch]
    if not in_batch:
        return np.stack(own_labels), np.stack([_first(group["rows"]) for group in batch])
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
        labels[query, own] = own_labels[query]
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
