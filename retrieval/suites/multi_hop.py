"""Questions that need several paragraphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrieval.datasets.folder import Folder
from retrieval.protocols import Task
from retrieval.tasks import average_of

__all__ = ["MultiHop"]


class MultiHop:
    """Multi-hop questions, such as HotpotQA's: the share of those all of whose paragraphs are among the first k.

    The collections are samples over small pools, so their figures are not those of the whole sets.
    """

    def __init__(
        self,
        sets: tuple[str, ...] = ("hotpotqa-100", "2wikimultihopqa-101"),
        measures: tuple[str, ...] = ("Sufficiency@5", "Sufficiency@10", "R@5", "nDCG@10"),
        k: int = 1000,
    ):
        """`sets` are folders, by name below RETRIEVAL_DATA, with a split `test`."""
        self.sets, self.measures, self.k = sets, measures, k

    def tasks(self) -> Sequence[Task]:
        """One a set."""
        return [Task(name, Folder(name), "test", self.measures, self.k) for name in self.sets]

    def averages(self) -> Mapping[str, Sequence[str]]:
        """The mean over the sets."""
        return average_of("multi-hop", self.sets)
