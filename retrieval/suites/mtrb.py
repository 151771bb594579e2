"""MTRB: which tools a request needs, on three catalogues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from retrieval.datasets.folder import Folder
from retrieval.datasets.untitled import Untitled
from retrieval.protocols import Dataset, Task
from retrieval.tasks import average_of

__all__ = ["Mtrb"]

Catalogue = Literal["restbench", "metatool", "toolbench"]


class Mtrb:
    """MTRB (2410.03212, SIGIR-AP 2024): 90 requests over each of three catalogues, Sufficiency at 5 and 10.

    A collection is the folder mtrb-<catalogue>. A tool is its description alone: so MiniLM has the published 15.56 and
    34.44 percent on RestBench (14 and 31 of 90), and 13.33 and 34.44 with `names` before the descriptions.
    """

    def __init__(
        self,
        catalogues: tuple[Catalogue, ...] = ("restbench", "metatool", "toolbench"),
        names: bool = False,
        measures: tuple[str, ...] = ("Sufficiency@5", "Sufficiency@10", "nDCG@10"),
        k: int = 1000,
    ):
        """`names` puts a tool's name before its description."""
        self.catalogues, self.names, self.measures, self.k = catalogues, names, measures, k

    def tasks(self) -> Sequence[Task]:
        """One a catalogue."""
        return [Task(name, self._dataset(name), "test", self.measures, self.k) for name in self._tasks()]

    def averages(self) -> Mapping[str, Sequence[str]]:
        """The mean over the catalogues, of several."""
        return average_of("MTRB", self._tasks()) if len(self.catalogues) > 1 else {}

    def _tasks(self) -> list[str]:
        return [f"mtrb-{catalogue}" for catalogue in self.catalogues]

    def _dataset(self, name: str) -> Dataset:
        return Folder(name) if self.names else Untitled(Folder(name))
