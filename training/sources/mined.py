"""Training data with hard negatives mined for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrieval.collection import Collection
from retrieval.ids import DocIds
from retrieval.lists import Joined, Lists, joined
from retrieval.protocols import Dataset, Reranker, Retriever, Source
from retrieval.run_file import read_run
from retrieval.types import Queries, Run
from training.mining import Mining, mine, with_negatives
from training.negatives_file import read_negatives
from training.retrieved import retrieved

__all__ = ["Mined"]


class Mined:
    """The lists of a source, and after the passages of each, documents of a collection that look like relevant ones.

    They come from what a retriever finds for the training queries, from a run file, or from a file of negatives that
    `retrieval.mine` wrote. What a retriever found is kept in the cache, by its settings, the corpus and the queries.
    """

    def __init__(
        self,
        source: Source,
        dataset: Dataset,
        retriever: Retriever | None = None,
        run: Path | None = None,
        negatives: Path | None = None,
        mining: Mining = Mining(),
        reranker: Reranker | None = None,
    ):
        """One of `retriever`, `run` and `negatives` is given; `mining` and `reranker` choose among what these find.

        Of `negatives`, which were chosen before, `mining` gives the label only, and a reranker has no part in them.
        """
        given = [
            name
            for name, value in {"retriever": retriever, "run": run, "negatives": negatives}.items()
            if value is not None
        ]
        if len(given) != 1:
            raise ValueError(f"one of retriever, run and negatives is to be given, not {' and '.join(given) or 'none'}")
        if negatives is not None and (reranker is not None or mining.reranker_above is not None):
            raise ValueError(
                "negatives were chosen when they were mined: give the reranker and reranker_above to retrieval.mine, "
                "or a retriever or run instead of negatives"
            )
        self.source, self.dataset, self.mining, self.reranker = source, dataset, mining, reranker
        self.retriever, self.run, self.negatives = retriever, run, negatives

    def lists(self) -> Lists:
        """The lists with their negatives, and what mining counted.

        Raises ValueError for a run that lacks queries of the lists, and for a negative in a file that is a positive.
        """
        lists = self.base()
        if self.negatives is not None:
            mined = read_negatives(self.negatives, lists, self._collection.corpus, self.mining.relevant)
        else:
            mined = mine(lists, self.found(lists.queries), self.mining, self.reranker)
        return with_negatives(lists, mined, self.mining.label)

    def base(self) -> Lists:
        """The lists before mining, over passages that the documents are among: what `remine` takes."""
        lists, corpus = self.source.lists(), self._collection.corpus
        parts = lists.passages.parts if isinstance(lists.passages, Joined) else [lists.passages]
        if corpus.fingerprint in {part.fingerprint for part in parts}:
            return lists
        if self.mining.near_duplicate is None:
            raise ValueError(
                f"the lists are not of the documents of {self._collection.name}, so that positives among these are "
                "known by their texts only: give mining.near_duplicate"
            )
        return lists.over(joined([lists.passages, corpus]))

    def found(self, queries: Queries) -> Run:
        """The run that is mined for these queries. Raises ValueError where a file lacks some of them."""
        if self.retriever is not None:
            held = self._collection
            return retrieved(self.retriever, held.corpus, queries, self.mining.last_rank, held.excludes_self)
        return _aligned(Path(str(self.run)), queries.ids, self._collection.corpus.ids)

    @property
    def _collection(self) -> Collection:
        return self.dataset.open()


def _aligned(path: Path, query_ids: Sequence[str], docs: DocIds) -> Run:
    """The results of these queries in a run file, which may hold others."""
    held = read_run(path, docs=docs)
    place = {query: number for number, query in enumerate(held.query_ids)}
    lacking = [query for query in query_ids if query not in place]
    if lacking:
        raise ValueError(
            f"{path} has no results of {len(lacking)} of {len(query_ids)} training queries, such as {lacking[0]!r}, "
            f"but of {len(place)} queries{f' such as {held.query_ids[0]!r}' if place else ''}: retrieve for the "
            "training queries, and write Parquet, which keeps those without results"
        )
    chosen = np.array([place[query] for query in query_ids], np.int64)
    return Run(query_ids, docs, held.rows[chosen], held.scores[chosen], held.name)
