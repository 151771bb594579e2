"""Threads for compiled code: ranges shared among some of them, and reading ahead of computing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Generic, TypeVar

__all__ = ["Shared", "Threads", "read_ahead"]

Item = TypeVar("Item")


class Threads:
    """So many threads, until the end of a `with` block."""

    def __init__(self, count: int):
        self.count = count

    def __enter__(self) -> Threads:
        self._pool = ThreadPoolExecutor(self.count)
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def share(self, work: Callable[[int, int], Any], count: int, least: int, most: int | None = None) -> None:
        """Call `work` with first and last (exclusive) of ranges that make up `count`, each of `least` to `most`.

        There are several ranges a thread: others may hold up a core.
        """
        step = min(max(least, -(-count // (4 * self.count))), most or count + 1)
        starts = range(0, count, step)
        run = map if self.count == 1 or len(starts) < 2 else self._pool.map
        list(run(lambda start: work(start, min(start + step, count)), starts))


class Shared(Generic[Item]):
    """An iterator that several threads draw from, each item going to one of them."""

    def __init__(self, items: Iterator[Item]):
        self._items, self._lock = items, Lock()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        with self._lock:
            return next(self._items)


def read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each made in a thread while the one before is used."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = reader.submit(next, items, None)
            yield item
