"""NanoBEIR: 13 sets of BEIR cut down to 50 queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrieval.datasets.ir_datasets import IrDatasets
from retrieval.protocols import Task
from retrieval.tasks import average_of

__all__ = ["NanoBeir"]

SETS = (
    "arguana climate-fever dbpedia-entity fever fiqa hotpotqa msmarco nfcorpus nq quora scidocs scifact "
    "webis-touche2020"
).split()


class NanoBeir:
    """The 13 NanoBEIR sets of ir_datasets, each of some 50 queries and a few thousand documents."""

    def __init__(self, measures: tuple[str, ...] = ("nDCG@10", "R@100"), k: int = 1000):
        self.measures, self.k = measures, k

    def tasks(self) -> Sequence[Task]:
        """One a set, named nano-<set>."""
        return [Task(f"nano-{name}", IrDatasets(f"nano-beir/{name}"), name, self.measures, self.k) for name in SETS]

    def averages(self) -> Mapping[str, Sequence[str]]:
        """The mean over all 13."""
        return average_of("NanoBEIR", [f"nano-{name}" for name in SETS])
