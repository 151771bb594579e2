"""BEIR: 18 sets out of domain, and MS MARCO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrieval.datasets.beir import Beir
from retrieval.protocols import Task
from retrieval.tasks import average_of

__all__ = ["BeirSuite"]

# Thakur et al. (2021), table 1, in its order
SETS = (
    "trec-covid bioasq nfcorpus nq hotpotqa fiqa signal1m trec-news robust04 arguana webis-touche2020 cqadupstack "
    "quora dbpedia-entity scidocs fever climate-fever scifact"
).split()
PARTS = "android english gaming gis mathematica physics programmers stats tex unix webmasters wordpress".split()
LICENSED = {"bioasq", "signal1m", "trec-news", "robust04"}  # not to be downloaded without asking
CQADUPSTACK = next(iter(average_of("cqadupstack", [f"cqadupstack-{part}" for part in PARTS])))


class BeirSuite:
    """BEIR (Thakur et al. 2021) by name, with MS MARCO's dev queries; CQADupStack's 12 parts count as one set.

    ArguAna's and Quora's queries are no answers to themselves. Touche is the version of Anserini's figures, v1.
    """

    def __init__(self, measures: tuple[str, ...] = ("nDCG@10", "R@100"), k: int = 1000, hub: str = "BeIR"):
        """`hub` is that of the dataset `beir`."""
        self.measures, self.k, self.hub = measures, k, hub

    def tasks(self) -> Sequence[Task]:
        """The 17 sets that are one collection, the 12 parts of CQADupStack in its place, and msmarco last."""
        named = [(part, part.replace("cqadupstack-", "cqadupstack/"), "test") for part in _tasks(SETS)]
        return [
            Task(name, Beir(folder, self.hub), split, self.measures, self.k)
            for name, folder, split in [*named, ("msmarco", "msmarco", "dev")]
        ]

    def averages(self) -> Mapping[str, Sequence[str]]:
        """CQADupStack's parts as one, and what people call the BEIR average."""
        parts = {CQADUPSTACK: _tasks(["cqadupstack"])}
        public = [name for name in SETS if name not in LICENSED]
        return {
            **parts,
            **_average("BEIR-18", SETS),
            **_average("BEIR-17, without cqadupstack", _without(SETS, "cqadupstack")),
            **_average("BEIR-14, public", public),
            **_average("BEIR-13, public without cqadupstack", _without(public, "cqadupstack")),
            **_average("MTEB-15, public with msmarco", [*public, "msmarco"]),
        }


def _tasks(sets: Sequence[str]) -> list[str]:
    every = ([f"{name}-{part}" for part in PARTS] if name == "cqadupstack" else [name] for name in sets)
    return [task for tasks in every for task in tasks]


def _average(name: str, sets: Sequence[str]) -> Mapping[str, Sequence[str]]:
    return average_of(name, [CQADUPSTACK if one == "cqadupstack" else one for one in sets])


def _without(sets: Sequence[str], one: str) -> list[str]:
    return [name for name in sets if name != one]
