"""What a retriever finds for the queries of training data, kept in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from retrieval.composed import found, settings
from retrieval.corpus import Corpus
from retrieval.files import digest
from retrieval.ids import DocIds
from retrieval.locate import cache_folder
from retrieval.order import PAD
from retrieval.protocols import Retriever
from retrieval.run_file import read_run, write_run
from retrieval.types import Queries, Run

__all__ = ["retrieved"]

CHUNK = 4096  # queries that are retrieved at a time: what a kill may cost


def retrieved(
    retriever: Retriever,
    corpus: Corpus,
    queries: Queries,
    depth: int,
    excludes_self: bool = False,
    opened: bool = False,
) -> Run:
    """What a retriever finds for queries, kept in the cache chunk by chunk; killed, it goes on where it stopped.

    `excludes_self` drops the document of the query's own id. One that is not `opened` is, where something is not there
    yet. Raises ValueError for a retriever of documents other than the corpus's.
    """
    texts = [*queries.ids, *queries.texts, *(queries.instructions or ())]
    asked = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    made = [settings(retriever), corpus.fingerprint, excludes_self, depth, CHUNK, asked]
    folder, parts = cache_folder() / "runs" / digest(made), []
    for start in range(0, len(queries), CHUNK):
        part = queries.take(range(start, min(start + CHUNK, len(queries))))
        path = folder / f"queries-{start:08d}.parquet"
        if not path.is_file():
            if not opened:
                retriever.open(corpus, cache_folder())
                opened = True
            write_run(_searched(retriever, corpus, part, depth, excludes_self), path)
        parts.append(read_run(path, part.ids, corpus.ids))
    return _together(queries.ids, corpus.ids, parts, depth)


def _searched(retriever: Retriever, corpus: Corpus, queries: Queries, depth: int, excludes_self: bool) -> Run:
    if not excludes_self:
        return found(retriever, queries, depth, corpus)
    return found(retriever, queries, depth + 1, corpus).without_self_hits().top(depth)


def _together(query_ids: Sequence[str], docs: DocIds, parts: Sequence[Run], depth: int) -> Run:
    """Runs of some queries each as one of all."""
    shape = (len(query_ids), depth)
    rows, scores, at = np.full(shape, PAD, np.int32), np.full(shape, -np.inf, np.float32), 0
    for part in parts:
        here = np.s_[at : at + len(part.rows), : part.rows.shape[1]]
        rows[here], scores[here] = part.rows, part.scores
        at += len(part.rows)
    return Run(query_ids, docs, rows, scores)
