"""Training data with a teacher's scores, which a loss is given instead of the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from retrieval.composed import settings
from retrieval.encoding import dense, encoded_queries
from retrieval.files import digest
from retrieval.lists import Lists, added
from retrieval.locate import cache_folder
from retrieval.protocols import Encoder, Reranker, Source
from retrieval.reranking import pair_scores
from retrieval.shards import Shards, claims
from retrieval.types import Queries, Representations, Sparse, Tokens

__all__ = ["Scored"]

SHARD = 8192  # pairs: what a kill may cost


class Scored:
    """The lists of a source with the score that a teacher gives each query and passage listed for it, as targets.

    A reranker reads the pair; of an encoder it is the dot product, of token vectors MaxSim. Scores are kept in the
    cache, by teacher and pairs, shard by shard: killed, scoring goes on where it stopped, and several processes share
    the work.
    """

    def __init__(
        self, source: Source, reranker: Reranker | None = None, encoder: Encoder | None = None, shard: int = SHARD
    ):
        """The teacher is a reranker or an encoder, not both. `shard` is how many pairs a kill may cost."""
        if (reranker is None) == (encoder is None):
            raise ValueError("the teacher is one of reranker and encoder: give exactly one of them")
        if shard < 1:
            raise ValueError(f"shards of {shard} pairs; 1 is the least")
        self.source, self.reranker, self.encoder, self.shard = source, reranker, encoder, shard

    def lists(self) -> Lists:
        """The lists with targets. Raises ValueError for a score that is not finite, with the texts."""
        lists = self.source.lists()
        teacher: Any = self.reranker or self.encoder
        pairs = Lists(lists.queries, lists.passages, lists.offsets, lists.rows, np.zeros_like(lists.labels))
        folder = cache_folder() / "teachers" / digest([settings(teacher), pairs.fingerprint(), self.shard])
        shards = Shards(folder, "float32", len(lists.rows), self.shard)
        # by passage, so that an encoder meets each about once; queries are the shorter texts
        order = np.argsort(lists.rows, kind="stable")
        _score(shards, lists, order, self._scores)
        parts = shards.check(lambda pairs, _: 4 * pairs)
        targets = np.empty(len(order), np.float32)
        for number, (start, stop) in enumerate(shards.spans()):
            targets[order[start:stop]] = np.fromfile(shards.path(number), "<f4")
        cut = {"texts cut by the teacher": sum(part["truncated"] for part in parts)}
        return replace(lists, targets=targets, counts=added(lists.counts, {"pairs scored": len(order)}, cut))

    def _scores(self, lists: Lists, entries: np.ndarray) -> tuple[np.ndarray, int]:
        """float32 [entries], and how many texts, or pairs, were longer than the teacher takes."""
        rows, row = np.unique(lists.rows[entries], return_inverse=True)
        queries, query = np.unique(lists.query[entries], return_inverse=True)
        texts, own = lists.passages.texts(rows), lists.queries.take(queries)
        if self.encoder is not None:
            return _dots(self.encoder, own, texts, query, row)
        asked = own.texts
        teacher: Any = self.reranker
        before = getattr(teacher, "truncated_pairs", 0)
        scores = pair_scores(teacher, [(asked[q], texts[r]) for q, r in zip(query, row, strict=True)])
        return scores, getattr(teacher, "truncated_pairs", 0) - before


def _score(
    shards: Shards, lists: Lists, order: np.ndarray, scores: Callable[[Lists, np.ndarray], tuple[np.ndarray, int]]
) -> None:
    """Write the shards that are not there; those that another process is at are waited for."""
    spans = shards.spans()
    todo = [number for number in range(len(spans)) if not shards.finished(number)]
    Path(shards.folder).mkdir(parents=True, exist_ok=True)
    taken = claims(shards.folder, todo, lambda number: bool(shards.finished(number)), wait=True)
    for claim in tqdm(taken, "teacher", len(todo), unit=" shards", disable=len(todo) < 2):
        try:
            found, cut = scores(lists, order[slice(*spans[claim.number])])
            shards.write(claim.number, [np.asarray(found, "<f4")], {"truncated": int(cut)})
        finally:
            claim.release()


def _dots(
    encoder: Any, queries: Queries, texts: list[str], query: np.ndarray, row: np.ndarray
) -> tuple[np.ndarray, int]:
    asked, read = dense(encoded_queries(encoder, queries)), dense(encoder.encode_docs(texts))
    scores = _products(asked, read, query, row).astype(np.float32)
    if not np.isfinite(scores).all():
        bad = int(np.argmin(np.isfinite(scores)))
        pair = f"{queries.texts[query[bad]][:60]!r}, {texts[row[bad]][:60]!r}"
        raise ValueError(f"{type(encoder).__name__} gives NaN or infinity for {pair}")
    return scores, asked.truncated + read.truncated


def _products(queries: Representations, texts: Representations, query: np.ndarray, row: np.ndarray) -> np.ndarray:
    """float64 [pairs]."""
    if isinstance(queries, Tokens) and isinstance(texts, Tokens):
        return np.array([_maxsim(queries, texts, q, r) for q, r in zip(query, row, strict=True)], np.float64)
    one: Any = queries.take(query)
    other: Any = texts.take(row)
    if isinstance(queries, Sparse):
        return np.asarray((one.matrix.astype(np.float64) * other.matrix.astype(np.float64)).sum(axis=1)).ravel()
    return np.einsum("ij,ij->i", one.vectors.astype(np.float64), other.vectors.astype(np.float64))


def _maxsim(queries: Tokens, texts: Tokens, query: int, row: int) -> float:
    asked = queries.vectors[queries.offsets[query] : queries.offsets[query + 1]].astype(np.float64)
    read = texts.vectors[texts.offsets[row] : texts.offsets[row + 1]].astype(np.float64)
    return float((asked @ read.T).max(axis=1).sum()) if len(read) else 0.0
