"""LIMIT, whose 1,000 queries single vectors cannot tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrieval.datasets.folder import Folder
from retrieval.datasets.limit import Limit
from retrieval.protocols import Dataset, Task

__all__ = ["LimitSuite"]

REBUILT = "limit-rebuilt"


class LimitSuite:
    """LIMIT (Weller et al. 2025) with its 50,000 documents: recall at 2, 10 and 100, as in the paper.

    `rebuilt` takes the folder limit-rebuilt, the same queries over distractors made again, and names its task so: its
    figures are no figures of LIMIT.
    """

    def __init__(self, rebuilt: bool = False, k: int = 1000):
        self.rebuilt, self.k = rebuilt, k

    def tasks(self) -> Sequence[Task]:
        """The one."""
        dataset: Dataset = Folder(REBUILT) if self.rebuilt else Limit("limit")
        return [Task(REBUILT if self.rebuilt else "limit", dataset, "test", ("R@2", "R@10", "R@100"), self.k)]

    def averages(self) -> Mapping[str, Sequence[str]]:
        """None, of one test."""
        return {}
