"""A task of a suite whose data is there: what is asked, how results are measured, and what a result depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eval.binary import evaluate_both
from eval.cells import Texts
from eval.measures import Evaluation, evaluate, parse
from eval.texts import texts_of
from retrieval.collection import Collection
from retrieval.composed import encoders
from retrieval.max_p import PASSAGES, document_ids, max_p
from retrieval.protocols import Retriever, Task
from retrieval.search import check, costed
from retrieval.types import Qrels, Queries, Run

__all__ = ["OpenTask"]

UNREAD = "queries without their instruction"  # counted for retrievers whose encoder takes none


@dataclass(frozen=True, eq=False)
class OpenTask:
    """A task with its collection. Raises ValueError for a split, a measure or a depth that cannot be."""

    task: Task
    collection: Collection
    measures: tuple[str, ...]  # canonical, as evaluations have them

    @classmethod
    def of(cls, task: Task, measures: Sequence[str] | None = None) -> OpenTask:
        """Find the data; `measures` None are the task's own. Raises FileNotFoundError where there is none."""
        collection, wanted = task.dataset.open(), task.measures if measures is None else measures
        for split in _splits(task):
            check(collection, split, wanted, task.k)
        parsed = [parse(measure) for measure in wanted]
        deep = [str(one) for one in parsed if (one.params.get("cutoff") or 0) > task.k]
        if deep:
            raise ValueError(f"{deep[0]} looks deeper than the {task.k} results that are measured")
        return cls(task, collection, tuple(dict.fromkeys(map(str, parsed))))

    @cached_property
    def queries(self) -> Queries:
        """The queries, with their instructions."""
        return self.collection.queries(self.task.split)

    @cached_property
    def plain(self) -> Queries:
        """The queries without instructions."""
        return self.queries if self.queries.instructions is None else replace(self.queries, instructions=None)

    @cached_property
    def qrels(self) -> Qrels:
        """The judgements, the graded ones of two."""
        return self.collection.qrels(self.task.split)

    def retrieved(self, retriever: Retriever) -> tuple[Run, dict[str, float], dict[str, int]]:
        """Results to be measured, what they cost and what was counted. Raises ValueError where instructions do not fit.

        Instructions go to retrievers whose encoders take them; of those whose encoders do not, they are counted.
        """
        queries, depth = self._asked(retriever), self.task.k * (PASSAGES if self.task.max_p else 1)
        run, cost, counts = costed(self.collection, retriever, queries, depth)
        if queries is not self.queries:
            counts[UNREAD] = len(queries)
        return max_p(run).top(self.task.k) if self.task.max_p else run, cost, counts

    def measured(self, run: Run, measures: Sequence[str]) -> Evaluation:
        """The run by these measures."""
        if self.task.binary_split is None:
            return evaluate(run, self.qrels, measures)
        return evaluate_both(run, self.qrels, self.collection.qrels(self.task.binary_split), measures)

    def made_of(self) -> dict[str, Any]:
        """What results depend on besides the retriever, wherever the data lies."""
        about, task = self.collection.provenance(), self.task
        return {
            "data": {
                "corpus": about["corpus"],
                "queries.jsonl": about["queries.jsonl"],
                "qrels": {split: about["qrels"][f"{split}.tsv"] for split in _splits(task)},
                "excludes self": self.collection.excludes_self,
            },
            "k": task.k,
            "MaxP": task.max_p,
        }

    def texts(self, runs: Sequence[Run]) -> Texts:
        """Queries and documents for a report; a document measured by its passages shows the first of them."""
        found = texts_of(self.collection, self.task.split, runs, self.qrels)
        return replace(found, document=self._first_passage) if self.task.max_p else found

    def _asked(self, retriever: Retriever) -> Queries:
        if self.queries.instructions is None:
            return self.queries
        takes = {bool(getattr(one, "instructed", False)) for one in encoders(retriever)}
        if len(takes) > 1:
            raise ValueError(
                f"{self.task.name}: the queries carry instructions, which only some of the encoders of this retriever "
                "take: give all of them a query_prompt with {instruction}, or none"
            )
        return self.queries if takes == {True} else self.plain

    def _first_passage(self, name: str) -> str:
        row = pc.index(self._documents, pa.scalar(name, self._documents.type)).as_py()
        return self.collection.corpus.texts(np.array([row]))[0] if row >= 0 else ""

    @cached_property
    def _documents(self) -> pa.Array:
        return document_ids(self.collection.corpus.ids.values)


def _splits(task: Task) -> list[str]:
    return [task.split] if task.binary_split is None else [task.split, task.binary_split]
