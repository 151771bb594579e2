"""Exhaustive search: exact on any device, and the reference for every approximate index."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np

from retrieval.candidates import BLOCK, Candidates
from retrieval.compiled import chosen
from retrieval.exact import TINY, full_precision, gamma, multiply, size_of_tiles
from retrieval.model_files import choose_device
from retrieval.pair_scores import PairScores, lengths
from retrieval.ranking import rank_lines
from retrieval.sparse_search import Ties
from retrieval.threads import Threads, read_ahead
from retrieval.types import Dense, Representations
from retrieval.vector_tiles import DeviceTiles, VectorTiles, checked
from retrieval.vectors import VectorStore

__all__ = ["Flat"]

QUERIES = 4096  # searched in one pass over the documents, at most
ROOM = 1 << 26  # candidates that are held in one pass
MORE = 16  # times the room for queries that had too little


class Flat:
    """All inner products, or cosines. The same list for every tile, batch, thread count and device.

    A float32 matrix product differs in its last bits between tilings. So it only chooses candidates: as many as its
    error bound says may belong to the k best. Those are scored again pair by pair in float64 with one fixed order of
    summation, rounded to float32, and ordered. Threads are as many as torch's.
    """

    nested = True

    def __init__(
        self,
        metric: Literal["dot", "cosine"] = "dot",
        device: str | list[str] | None = None,
        tile: int = 16384,
        resident: bool | None = None,
    ):
        """`tile` is how many documents are read at a time, for each of the devices (None: a GPU where there is one).

        `resident` keeps the vectors on the devices between searches; None: where these are GPUs with the memory.
        """
        chosen("metric", metric, Literal["dot", "cosine"])
        if tile < 1:
            raise ValueError(f"tile is {tile}: a tile holds at least 1 document")
        if device == []:
            raise ValueError("device is an empty list: name one, or leave it out")
        self.metric, self.device, self.tile, self.resident = metric, device, tile, resident

    def build(self, vectors: VectorStore | np.ndarray, rank: np.ndarray) -> None:
        """Index float32 [documents, dimensions]; nothing is computed but norms. Raises ValueError for NaN."""
        names = self.device if isinstance(self.device, list) else [self.device]
        self.ties, self.tiles = _dense(rank), VectorTiles(vectors, self.tile)
        self.norms = self._norms()
        norms = self.norms if self.metric == "cosine" else None
        self.pairs = PairScores(self.tiles, self.norms, self.metric == "cosine")
        self.there = DeviceTiles(self.tiles, norms, [choose_device(name) for name in names], self.resident)

    def search(self, queries: Representations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 and scores float32 [queries, min(k, documents)], in the one order."""
        asked, k = checked(queries, self.tiles.shape[1], "flat"), min(k, len(self.tiles))
        norms = np.linalg.norm(asked.astype(np.float64), axis=1)
        slack = self._slack(norms)
        rows, scores = best = np.empty((len(asked), k), np.int32), np.empty((len(asked), k), np.float32)
        if not norms.all():
            rows[norms == 0], scores[norms == 0] = self._all_tied(k)
        open_, capacity = np.flatnonzero(norms if k else []), 2 * k + 1024
        threads = Threads()
        with full_precision():
            while len(open_):
                capacity = min(capacity, len(self.tiles)) + BLOCK  # with that much room no query is given up
                step, full = min(QUERIES, max(1, ROOM // capacity)), []
                for part in np.split(open_, range(step, len(open_), step)):
                    found = Candidates(slack[part], k, capacity, threads)
                    self._search(asked[part], found, best, part, threads)
                    full.append(part[found.full])
                open_ = np.concatenate(full)
                capacity *= MORE
        return rows, scores

    def score(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 scores of the pairs [queries, rows], each the same whatever else is asked with it.

        Raises IndexError for a row that there is not, such as a pad.
        """
        if rows.size and not (0 <= rows.min() and rows.max() < len(self.tiles)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self.tiles)} vectors")
        scores, counts = np.zeros(rows.shape, np.float32), np.full(len(rows), rows.shape[1])
        self.pairs.fill(checked(Dense(queries), self.tiles.shape[1], "flat"), rows, counts, scores, Threads())
        return scores + np.float32(0)  # no negative zero

    def _search(
        self,
        asked: np.ndarray,
        found: Candidates,
        best: tuple[np.ndarray, np.ndarray],
        lines: np.ndarray,
        threads: Threads,
    ) -> None:
        """Put the lists of these queries into those lines of `best`; one that `found` gave up has pads."""
        size = size_of_tiles(len(asked), len(self.tiles), threads.count)
        self.there.run(partial(multiply, asked, found=found), size, threads)
        found.cut()
        self.pairs.fill(asked, found.rows, found.counts, found.products, threads)
        rank_lines(found.rows, found.products, found.counts, self.ties, best, lines, threads)

    def _all_tied(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The list of a zero vector: every score is 0."""
        return self.ties.rows[::-1][:k], np.zeros(k, np.float32)

    def _norms(self) -> np.ndarray:
        norms, pool = np.empty(len(self.tiles)), Threads()
        for first, tile in read_ahead(self.tiles.cut(self.tile)):
            norms[first : first + len(tile)] = found = lengths(tile, pool)
            if not np.isfinite(found).all():
                raise ValueError(f"the vector of row {first + int(np.argmin(np.isfinite(found)))} is not finite")
        return norms

    def _slack(self, norms: np.ndarray) -> np.ndarray:
        """float32 [queries]: twice the bound on |product - rounded exact score|, rounded up."""
        # of cosine, products are q . d/|d|, and exact scores are divided by |q| too: both orders are the same
        longest = self.norms.max(initial=0) if self.metric == "dot" else 1.0
        if norms.max(initial=0) * longest > np.finfo(np.float32).max / 2:
            raise ValueError("products of these vectors are more than float32 holds: make them shorter")
        terms = self.tiles.shape[1] + 8  # the products, and what is rounded beside them
        bound = gamma(terms) * norms * longest + terms * TINY * (1 + norms + longest)
        return np.nextafter((2 * bound).astype(np.float32), np.float32(np.inf))


def _dense(rank: np.ndarray) -> Ties:
    """Ranks from 0 on, also where these are those of a part of a corpus."""
    rows = np.argsort(rank).astype(np.int32)
    dense = np.empty(len(rows), np.int32)
    dense[rows] = np.arange(len(rows), dtype=np.int32)
    return Ties(dense, rows)
