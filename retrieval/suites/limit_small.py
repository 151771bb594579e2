"""LIMIT-small: LIMIT's queries over the 46 documents that are relevant to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrieval.datasets.limit import Limit
from retrieval.protocols import Task

__all__ = ["LimitSmall"]


class LimitSmall:
    """LIMIT-small (Weller et al. 2025): recall at 2, 10 and 20, as in the paper."""

    def tasks(self) -> Sequence[Task]:
        """The one."""
        return [Task("limit-small", Limit("limit-small"), "test", ("R@2", "R@10", "R@20"))]

    def averages(self) -> Mapping[str, Sequence[str]]:
        """None, of one test."""
        return {}
