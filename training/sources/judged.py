"""The judgements of a split."""

from __future__ import annotations

import numpy as np

from retrieval.corpus import Corpus
from retrieval.lists import Lists
from retrieval.protocols import Dataset
from retrieval.types import Qrels, Queries

__all__ = ["Judged"]


class Judged:
    """The documents judged for the queries of a split, labelled with their grades."""

    def __init__(self, dataset: Dataset, split: str = "train", without: list[str] | None = None):
        """Queries that are in one of the splits `without` too are left out."""
        self.dataset, self.split, self.without = dataset, split, without or []

    def lists(self) -> Lists:
        """Documents in the order of the judgements. Raises ValueError where no query is left."""
        collection = self.dataset.open()
        queries, qrels = collection.queries(self.split), collection.qrels(self.split)
        others = {name for split in self.without for name in collection.qrels(split).query_ids}
        kept = [place for place, name in enumerate(queries.ids) if name not in others]
        if not kept:
            raise ValueError(
                f"all {len(queries)} queries of {collection.name} {self.split} are in {', '.join(self.without)} too"
            )
        if len(kept) == len(queries):
            return lists_of(collection.corpus, queries, qrels)
        listed = lists_of(collection.corpus, queries.take(kept), _of(qrels, {queries.ids[place] for place in kept}))
        return listed.counting({"queries of other splits": len(queries) - len(kept)})


def lists_of(corpus: Corpus, queries: Queries, qrels: Qrels) -> Lists:
    """The judged documents of each query, in the order of the judgements; of repeated ones the last grade counts.

    What cannot be used is counted. Raises ValueError where no query has a judged document in the corpus.
    """
    place = {query: position for position, query in enumerate(queries.ids)}
    query = np.array([place.get(name, -1) for name in qrels.query_ids], np.int64)[qrels.query]
    rows = corpus.ids.rows(qrels.doc_ids)
    usable = np.flatnonzero((query >= 0) & (rows >= 0))
    counts = {
        "judgements without query": int((query < 0).sum()),
        "judgements without document": int(((query >= 0) & (rows < 0)).sum()),
    }
    grades = np.asarray(qrels.grades)[usable].astype(np.float32)
    return Lists.of(queries, corpus, query[usable], rows[usable], grades, counts=counts)


def _of(qrels: Qrels, names: set[str]) -> Qrels:
    """The judgements of these queries."""
    return Qrels.from_dict({name: grades for name, grades in qrels.to_dict().items() if name in names}, qrels.judge)
