"""Threads that compute: ranges or items shared among them, and reading ahead of computing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier, Lock
from typing import Any, Generic, TypeVar

__all__ = ["Shared", "Threads", "read_ahead"]

Item = TypeVar("Item")


class Threads:
    """As many threads as torch would take on the processor, in each of which torch takes that one alone.

    So a product of matrices runs beside others and beside compiled code; of torch's own threads each waits for the
    slowest after every product, and keeps its core busy with waiting.
    """

    def __init__(self) -> None:
        import torch

        self.count = torch.get_num_threads()
        self._map: Any = _pool(self.count, os.getpid()).map if self.count > 1 else map

    def share(self, work: Callable[[int, int], Any], count: int, least: int, most: int | None = None) -> None:
        """Call `work` with first and last (exclusive) of ranges that make up `count`, each of `least` to `most`.

        There are several ranges a thread: others may hold up a core.
        """
        step = min(max(least, -(-count // (4 * self.count))), most or count + 1)
        starts = range(0, count, step)
        run = self._map if len(starts) > 1 else map
        list(run(lambda start: work(start, min(start + step, count)), starts))

    def each(self, work: Callable[[], Any]) -> None:
        """Call `work` in each thread."""
        list(self._map(lambda _: work(), range(self.count)))


@cache
def _pool(count: int, process: int) -> ThreadPoolExecutor:
    """Threads that stay; a forked process has its own."""
    import torch

    pool, together = ThreadPoolExecutor(count), Barrier(count)

    def alone(_: int) -> None:
        together.wait()  # so that no thread is left out
        torch.set_num_threads(1)  # of this thread, and of those that do not exist yet

    list(pool.map(alone, range(count)))
    torch.set_num_threads(count)  # of this thread as before, and of those that do not exist yet
    return pool


class Shared(Generic[Item]):
    """An iterator that several threads draw from, each item going to one of them."""

    def __init__(self, items: Iterable[Item]):
        self._items, self._lock = iter(items), Lock()

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
