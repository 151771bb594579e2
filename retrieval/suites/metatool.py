"""MetaTool: which of 199 tools a request needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrieval.datasets.folder import Folder
from retrieval.protocols import Task

__all__ = ["MetaTool"]

SPLITS = {"metatool-two": "test", "metatool-one": "single"}


class MetaTool:
    """MetaTool (Huang et al. 2024): 497 requests for two tools, 20,544 for one; a tool is its name and description.

    Sufficiency@k is the share of requests all of whose tools are among the first k, the hit rate where there is one.
    """

    def __init__(self, measures: tuple[str, ...] = ("Sufficiency@5", "Sufficiency@10", "nDCG@10"), k: int = 1000):
        self.measures, self.k = measures, k

    def tasks(self) -> Sequence[Task]:
        """Requests for two tools, then for one."""
        return [Task(name, Folder("metatool"), split, self.measures, self.k) for name, split in SPLITS.items()]

    def averages(self) -> Mapping[str, Sequence[str]]:
        """None: the two are not of a kind."""
        return {}
