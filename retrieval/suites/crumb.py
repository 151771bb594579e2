"""CRUMB, retrieval with complex queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from retrieval.datasets.crumb import BINARY, MAX_P, Crumb, Name
from retrieval.protocols import Task
from retrieval.tasks import average_of

__all__ = ["CrumbSuite"]

MEASURES = ("nDCG@10", "nDCG@5", "P@10", "P@5", "R@10", "R@100", "R@1000", "RR", "RR@10")  # its authors' own


class CrumbSuite:
    """The eight tasks of CRUMB (Killingback and Zamani 2025).

    Over passages, clinical trials, set operations and tip of the tongue are measured by document (MaxP). In
    paper_retrieval P, R and RR look at binary judgements, nDCG at the grades. The queries carry instructions.
    """

    def __init__(
        self,
        queries: Literal["evaluation", "validation"] = "evaluation",
        documents: Literal["passages", "whole"] = "passages",
        measures: tuple[str, ...] = MEASURES,
        path: str = "crumb",
    ):
        """`path` is a copy of the repository jfkback/crumb, also below RETRIEVAL_DATA."""
        self.queries, self.documents, self.measures, self.path = queries, documents, measures, path

    def tasks(self) -> Sequence[Task]:
        """One a task, in the paper's order."""
        return [self._task(name) for name in get_args(Name)]

    def averages(self) -> Mapping[str, Sequence[str]]:
        """The mean over all eight."""
        return average_of("CRUMB", get_args(Name))

    def _task(self, name: Name) -> Task:
        return Task(
            name,
            Crumb(name, self.queries, self.documents, path=self.path),
            self.queries,
            self.measures,
            max_p=self.documents == "passages" and name in MAX_P,
            binary_split=f"{self.queries}_binary" if name == BINARY else None,
        )
