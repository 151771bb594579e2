"""TREC Deep Learning, passage ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrieval.datasets.folder import Folder
from retrieval.datasets.ir_datasets import IrDatasets
from retrieval.protocols import Dataset, Task
from retrieval.tasks import average_of

__all__ = ["TrecDl"]

YEARS = (2019, 2020, 2021, 2022, 2023)
OF_V1 = (2019, 2020)  # the collection of MS MARCO v1; later years have v2
# As Anserini evaluates them: nDCG of the grades, all else with `-l 2`, and AP of what the track judged runs to.
V1 = ("nDCG@10", "AP(rel=2)@1000", "R(rel=2)@100", "R(rel=2)@1000")
V2 = ("nDCG@10", "AP(rel=2)@100", "RR(rel=2)@100", "R(rel=2)@100", "R(rel=2)@1000")


class TrecDl:
    """TREC Deep Learning 2019 to 2023, the judged queries; a passage is relevant from grade 2, nDCG takes the grades.

    The data is that of ir_datasets. `pool` names a collection with splits dl19 and dl20 to take these two from, such
    as trec-dl-pool: its figures are not comparable with those of the full collection, and its tasks are named so.
    """

    def __init__(self, years: tuple[int, ...] = YEARS, pool: str | None = None, k: int = 1000):
        """Raises ValueError for a year that the track did not run, and for one that a pool does not hold."""
        held = YEARS if pool is None else OF_V1
        wrong = [year for year in years if year not in held]
        if wrong or not years or len({*years}) < len(years):
            known = ", ".join(map(str, held))
            raise ValueError(f"years are some of {known}, each once{' of a pool' * (pool is not None)}, not {years}")
        self.years, self.pool, self.k = years, pool, k

    def tasks(self) -> Sequence[Task]:
        """One a year."""
        return [
            Task(self._name(year), self._dataset(year), self._split(year), V1 if year in OF_V1 else V2, self.k)
            for year in self.years
        ]

    def averages(self) -> Mapping[str, Sequence[str]]:
        """The mean over the years."""
        return average_of("TREC DL pool" if self.pool else "TREC DL", [self._name(year) for year in self.years])

    def _name(self, year: int) -> str:
        return f"dl{year % 100}" + "-pool" * (self.pool is not None)

    def _dataset(self, year: int) -> Dataset:
        if self.pool is not None:
            return Folder(self.pool)
        return IrDatasets(f"msmarco-passage{'' if year in OF_V1 else '-v2'}/trec-dl-{year}/judged")

    def _split(self, year: int) -> str:
        return "judged" if self.pool is None else f"dl{year % 100}"
