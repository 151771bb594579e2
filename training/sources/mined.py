"""Training data with hard negatives mined for it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from retrieval.collection import Collection
from retrieval.composed import settings
from retrieval.files import digest
from retrieval.ids import DocIds
from retrieval.lists import Joined, Lists, joined
from retrieval.locate import cache_folder
from retrieval.order import PAD
from retrieval.protocols import Dataset, Reranker, Retriever, Source
from retrieval.run_file import read_run, write_run
from retrieval.types import Queries, Run
from training.mining import Mining, mine, with_negatives
from training.negatives_file import read_negatives

__all__ = ["Mined"]

CHUNK = 4096  # queries that are retrieved at a time: what a kill may cost


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

        Of `negatives`, which were chosen before, `mining` gives the label only.
        """
        given = [
            name
            for name, value in {"retriever": retriever, "run": run, "negatives": negatives}.items()
            if value is not None
        ]
        if len(given) != 1:
            raise ValueError(f"one of retriever, run and negatives is to be given, not {' and '.join(given) or 'none'}")
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
        both = joined([lists.passages, corpus])
        return replace(lists, passages=both, rows=both.moved(lists.rows, lists.passages))

    def found(self, queries: Queries) -> Run:
        """The run that is mined for these queries. Raises ValueError where a file lacks some of them."""
        if self.retriever is not None:
            return retrieved(self.retriever, self._collection, queries, self.mining.last_rank)
        return _aligned(Path(str(self.run)), queries.ids, self._collection.corpus.ids)

    @property
    def _collection(self) -> Collection:
        return self.dataset.open()


def retrieved(retriever: Retriever, collection: Collection, queries: Queries, depth: int) -> Run:
    """What a retriever finds for queries, kept in the cache chunk by chunk; killed, it goes on where it stopped."""
    corpus = collection.corpus
    asked = hashlib.sha256("\0".join([*queries.ids, *queries.texts]).encode()).hexdigest()
    made = [settings(retriever), corpus.fingerprint, collection.excludes_self, depth, CHUNK, asked]
    folder, opened, parts = cache_folder() / "runs" / digest(made), False, []
    for start in range(0, len(queries), CHUNK):
        part = queries.take(range(start, min(start + CHUNK, len(queries))))
        path = folder / f"queries-{start:08d}.parquet"
        if not path.is_file():
            if not opened:
                retriever.open(corpus, cache_folder())
                opened = True
            write_run(_searched(retriever, collection, part, depth), path)
        parts.append(read_run(path, part.ids, corpus.ids))
    return _together(queries.ids, corpus.ids, parts)


def _searched(retriever: Retriever, collection: Collection, queries: Queries, depth: int) -> Run:
    if not collection.excludes_self:
        return retriever.retrieve(queries, depth)
    return retriever.retrieve(queries, depth + 1).without_self_hits().top(depth)


def _together(query_ids: Sequence[str], docs: DocIds, parts: Sequence[Run]) -> Run:
    """Runs of some queries each as one of all."""
    shape = (len(query_ids), max((part.rows.shape[1] for part in parts), default=0))
    rows, scores, at = np.full(shape, PAD, np.int32), np.full(shape, -np.inf, np.float32), 0
    for part in parts:
        here = np.s_[at : at + len(part.rows), : part.rows.shape[1]]
        rows[here], scores[here] = part.rows, part.scores
        at += len(part.rows)
    return Run(query_ids, docs, rows, scores)


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
