"""Several suites as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from retrieval.protocols import Suite, Task

__all__ = ["Joined"]


class Joined:
    """The tests of several suites, one after another, with the averages that each has of its own."""

    def __init__(self, suites: list[Suite]):
        self.suites = suites

    def tasks(self) -> Sequence[Task]:
        """Those of the first, then those of the next."""
        return [task for suite in self.suites for task in suite.tasks()]

    def averages(self) -> Mapping[str, Sequence[str]]:
        """Those of each. Raises ValueError where two suites call one the same."""
        every = [(name, parts) for suite in self.suites for name, parts in suite.averages().items()]
        twice = [name for name, count in Counter(name for name, _ in every).items() if count > 1]
        if twice:
            raise ValueError(f"two of the suites have an average {twice[0]!r}: leave one of them out")
        return dict(every)
