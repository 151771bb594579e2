"""Exhaustive search: exact on any device, and the reference for every approximate index."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np

from retrieval.candidates import BLOCK, Candidates
from retrieval.compiled import chosen
from retrieval.exact import EPSILON, SLACK, TINY, fixed_sum, full_precision, gamma, multiply  # noqa: F401
from retrieval.model_files import choose_device
from retrieval.order import PAD, order
from retrieval.pair_scores import PairScores, lengths
from retrieval.threads import Threads, read_ahead
from retrieval.types import Dense, Representations
from retrieval.vector_tiles import DeviceTiles, VectorTiles
from retrieval.vectors import VectorStore

__all__ = ["Flat"]

_full_precision = full_precision
QUERIES = 4096  # searched in one pass over the documents, at most
ROOM = 1 << 26  # candidates that are held in one pass
MORE = 16  # times the room for queries that had too little
CELLS = 1 << 16  # candidates that a thread orders at a time


class Flat:
    """All inner products, or cosines. The same list for every tile, batch, thread count and device.

    A float32 matrix product differs in its last bits between tilings. So it only chooses candidates: as many as its
    error bound says may belong to the k best. Those are scored again pair by pair in float64 with one fixed order of
    summation, rounded to float32, and ordered. Threads are as many as torch's.
    """

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
        self.rank, self.tiles = rank, VectorTiles(vectors, self.tile)
        self.norms = self._norms()
        norms = self.norms if self.metric == "cosine" else None
        self.pairs = PairScores(self.tiles, self.norms, self.metric == "cosine")
        self.there = DeviceTiles(self.tiles, norms, [choose_device(name) for name in names], self.resident)

    def search(self, queries: Representations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 and scores float32 [queries, min(k, documents)], in the one order."""
        asked, k = self._checked(queries), min(k, len(self.tiles))
        norms = np.linalg.norm(asked.astype(np.float64), axis=1)
        slack = self._slack(norms)
        rows = np.full((len(asked), k), PAD, np.int32)
        scores = np.full((len(asked), k), -np.inf, np.float32)
        if not norms.all():
            rows[norms == 0], scores[norms == 0] = self._all_tied(k)
        open_, capacity = np.flatnonzero(norms if k else []), 2 * k + 1024
        with Threads(_threads()) as pool, full_precision():
            while len(open_):
                capacity = min(capacity, len(self.tiles)) + BLOCK  # with that much room no query is given up
                step, full = min(QUERIES, max(1, ROOM // capacity)), []
                for part in np.split(open_, range(step, len(open_), step)):
                    found = Candidates(slack[part], k, capacity, pool)
                    rows[part], scores[part] = self._search(asked[part], found, pool)
                    full.append(part[found.full])
                open_ = np.concatenate(full)
                capacity *= MORE
        return rows, scores

    def score(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 scores of the pairs [queries, rows], each the same whatever else is asked with it."""
        with Threads(_threads()) as pool:
            counts = np.full(len(rows), rows.shape[1])
            return self.pairs(_floats(queries), counts, rows.ravel(), pool).reshape(rows.shape)

    def _search(self, asked: np.ndarray, found: Candidates, pool: Threads) -> tuple[np.ndarray, np.ndarray]:
        """The lists of these queries; pads for one that `found` gave up."""
        self.there.run(partial(multiply, asked, candidates=found))
        counts, docs = found.pairs()
        exact = self.pairs(asked, counts, docs, pool)
        rows, scores = np.empty((len(asked), found.k), np.int32), np.empty((len(asked), found.k), np.float32)
        ends, most = np.cumsum(counts), max(found.k, counts.max())

        def fill(start: int, stop: int) -> None:
            some = slice(ends[start] - counts[start], ends[stop - 1])
            best = order(*_lines(counts[start:stop], docs[some], exact[some], most), self.rank)
            rows[start:stop], scores[start:stop] = (lines[:, : found.k] for lines in best)

        pool.share(fill, len(asked), 1, max(1, CELLS // most))
        return rows, scores

    def _all_tied(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The list of a zero vector: every score is 0."""
        every = np.arange(len(self.tiles), dtype=np.int32)[None]
        return order(every, np.zeros(every.shape, np.float32), self.rank, k)

    def _checked(self, queries: Representations) -> np.ndarray:
        if not isinstance(queries, Dense):
            raise TypeError(f"flat searches dense vectors, not {type(queries).__name__}")
        if queries.vectors.shape[1] != self.tiles.shape[1]:
            wide, indexed = queries.vectors.shape[1], self.tiles.shape[1]
            raise ValueError(f"queries have {wide} dimensions, the index has {indexed}: not of the same encoder")
        if not np.isfinite(queries.vectors).all():
            raise ValueError("a query vector is not finite")
        return _floats(queries.vectors)

    def _norms(self) -> np.ndarray:
        norms = np.empty(len(self.tiles))
        with Threads(_threads()) as pool:
            for first, tile in read_ahead(iter(self.tiles)):
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


def _threads() -> int:
    """How many threads torch computes with on the processor."""
    import torch

    return torch.get_num_threads()


def _floats(vectors: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors, np.float32)


def _lines(counts: np.ndarray, docs: np.ndarray, exact: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores query by query as lines [queries, width], padded."""
    there = np.arange(width) < counts[:, None]
    rows, scores = np.full(there.shape, PAD, np.int32), np.full(there.shape, -np.inf, np.float32)
    rows[there], scores[there] = docs, exact
    return rows, scores
