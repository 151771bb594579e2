"""Any collections on disk as a suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from retrieval.datasets.folder import Folder
from retrieval.protocols import Task
from retrieval.tasks import average_of

__all__ = ["Folders"]


class Folders:
    """Collections in BEIR layout, by folder: paths, or names below RETRIEVAL_DATA; one average over all.

    `excludes_self` drops results that carry the query's own id in all of them, as ArguAna and Quora need.
    """

    def __init__(
        self,
        paths: list[str],
        split: str = "test",
        measures: tuple[str, ...] = ("nDCG@10", "R@100"),
        k: int = 1000,
        excludes_self: bool = False,
    ):
        self.paths, self.split, self.measures, self.k, self.excludes_self = paths, split, measures, k, excludes_self

    def tasks(self) -> Sequence[Task]:
        """One test a folder, named after it."""
        return [
            Task(Path(path).name, Folder(path, self.excludes_self), self.split, self.measures, self.k)
            for path in self.paths
        ]

    def averages(self) -> Mapping[str, Sequence[str]]:
        """The mean over all, of several."""
        names = [task.name for task in self.tasks()]
        return average_of("all", names) if len(names) > 1 else {}
