"""Exhaustive late interaction in torch: exact on any device, and the reference for every approximate index of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.exact import EPSILON, SLACK, TINY, fixed_sum, full_precision, gamma
from retrieval.model_files import choose_device
from retrieval.order import PAD, order
from retrieval.token_tiles import TokenTiles, checked
from retrieval.types import Representations, Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from retrieval.token_vectors import TokenStore

__all__ = ["Late"]

QUERIES = 256  # searched in one pass over the documents
COLUMNS = 1024  # query tokens multiplied at a time
PAIRS = 4_000_000  # float64 numbers of candidates at a time


class Late:
    """MaxSim: the sum over query tokens of the max over document tokens of their product. Khattab and Zaharia (2020).

    The same list for every tile, batch, thread count and device: a float32 product only chooses candidates, as many as
    its error bound says may belong to the k best. Those are scored again in float64, rounded to float32 and ordered; a
    score so close to the middle of two float32 numbers that the order of summation may decide is summed in one fixed
    order. A document without vectors matches nothing and is no result; a query without vectors has none and is counted.
    """

    nested = True

    def __init__(self, device: str | None = None, tile_tokens: int = 16384):
        """`tile_tokens` is about how many token vectors of documents are multiplied at a time."""
        if tile_tokens < 1:
            raise ValueError(f"tile_tokens is {tile_tokens}: a tile holds at least 1")
        self.device, self.tile_tokens = device, tile_tokens
        self.empty_queries = 0  # of all that were searched so far

    def build(self, vectors: TokenStore | Tokens, rank: np.ndarray) -> None:
        """Index packed float32 vectors; nothing is computed but the longest. Raises ValueError for NaN."""
        self.tiles, self.rank = TokenTiles(vectors, self.tile_tokens), rank
        self.filled = int(np.count_nonzero(self.tiles.lengths))
        self.longest = 0.0
        for first, tile in self.tiles:
            norms = _norms(tile.vectors)
            if not np.isfinite(norms).all():
                row = int(np.searchsorted(tile.offsets, np.argmin(np.isfinite(norms)), side="right")) - 1
                raise ValueError(f"a token vector of row {first + row} is not finite")
            self.longest = max(self.longest, norms.max(initial=0))

    def search(self, queries: Representations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 and scores float32 [queries, min(k, documents)], in the one order, then -1 and -inf."""
        asked = checked(queries, self.tiles.width, "late")
        k = min(k, len(self.tiles))
        rows = np.full((len(asked), k), PAD, np.int32)
        scores = np.full((len(asked), k), -np.inf, np.float32)
        filled = np.flatnonzero(np.diff(asked.offsets))
        self.empty_queries += len(asked) - len(filled)
        best = min(k, self.filled)
        for at in range(0, len(filled) if best else 0, QUERIES):
            part = filled[at : at + QUERIES]
            rows[part, :best], scores[part, :best] = self._search(asked.take(part), best)
        return rows, scores

    def score(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 MaxSim of one query [tokens, dimensions] with these documents, each the same whatever the others."""
        scores = np.empty(len(rows), np.float32)
        step = max(1, PAIRS // max(1, int(self.tiles.lengths[rows].max(initial=1)) * self.tiles.width))
        for at in range(0, len(rows), step):
            docs = self.tiles.rows(rows[at : at + step])
            scores[at : at + step] = maxsim(query, docs, self._margin(query))
        return scores

    def provenance(self) -> dict[str, Any]:
        """Counts, for the manifest."""
        return {
            "index": "late",
            "documents without vectors": len(self.tiles) - self.filled,
            "queries without vectors": self.empty_queries,
        }

    def _search(self, queries: Tokens, k: int) -> tuple[np.ndarray, np.ndarray]:
        rows, scores = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.float32)
        error = np.array([self._error(_of(queries, i)) for i in range(len(queries))])
        open_, width = np.arange(len(queries)), k + SLACK  # the queries whose candidates may be incomplete
        while len(open_):
            width = min(width, self.filled)
            found, product = self._candidates(queries.take(open_), width)
            exact = np.stack([self.score(_of(queries, i), line) for i, line in zip(open_, found, strict=True)])
            rows[open_], scores[open_] = order(found, exact, self.rank, k)
            missed = product[:, -1] >= product[:, k - 1] - 2 * error[open_]
            open_ = open_[missed] if width < self.filled else open_[:0]
            width *= 4
        return rows, scores

    def _candidates(self, queries: Tokens, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and float32 scores of the `width` best by matrix product, [queries, width], score descending."""
        import torch

        device = choose_device(self.device)
        asked = torch.from_numpy(_padded(queries)).to(device)
        best = torch.empty((len(queries), 0), device=device)
        rows = torch.empty((len(queries), 0), dtype=torch.int32, device=device)
        with torch.inference_mode(), full_precision():
            for first, tile in self.tiles:
                product = _products(asked, tile, device)
                top, place = product.topk(min(width, product.shape[1]), dim=1)
                best = torch.cat([best, top], dim=1)
                rows = torch.cat([rows, (place + first).to(torch.int32)], dim=1)
                best, place = best.topk(min(width, best.shape[1]), dim=1)
                rows = rows.gather(1, place)
        return rows.cpu().numpy(), best.cpu().numpy()

    def _error(self, query: np.ndarray) -> float:
        """Bound on |product - rounded exact score|: of the sums over dimensions and over tokens; a max adds no error.

        What a device may count as zero comes on top.
        """
        norms = _norms(query)
        tiny = query.size * TINY * (1 + self.longest + float(norms.max()))
        return gamma(query.shape[1] + len(query) + 8) * float(norms.sum()) * self.longest + tiny

    def _margin(self, query: np.ndarray) -> float:
        """The same bound for float64 in whatever order, and twice for two orders."""
        return self._error(query) * (2.0**-53 / EPSILON) * 2


def maxsim(query: np.ndarray, docs: Tokens, margin: float) -> np.ndarray:
    """float32 [documents], rounded from float64; those that `margin` might round otherwise are summed in one order.

    A document without vectors has -inf.
    """
    filled = np.flatnonzero(np.diff(docs.offsets))
    products = query.astype(np.float64) @ docs.vectors.astype(np.float64).T
    scores = np.maximum.reduceat(products, docs.offsets[filled], axis=1).sum(axis=0)
    rounded = np.full(len(docs), -np.inf, np.float32)
    rounded[filled] = scores
    unsure = (scores - margin).astype(np.float32) != (scores + margin).astype(np.float32)
    for i in filled[unsure]:
        rounded[i] = _in_fixed_order(query, _of(docs, i))
    return rounded


def _in_fixed_order(query: np.ndarray, doc: np.ndarray) -> np.float32:
    import torch

    left, right = (torch.from_numpy(np.ascontiguousarray(side)).double() for side in (query, doc))
    best = torch.stack([fixed_sum(token * right).max() for token in left])
    return np.float32(fixed_sum(best).item())


def _products(queries: Tensor, tile: Tokens, device: Any) -> Tensor:
    """float32 MaxSim [queries, documents of the tile]; -inf for a document without vectors."""
    import torch

    vectors = torch.from_numpy(tile.vectors).to(device)
    lengths = torch.from_numpy(np.diff(tile.offsets)).to(device)
    step, parts = max(1, COLUMNS // queries.shape[1]), []
    for at in range(0, len(queries), step):
        part = queries[at : at + step]
        product = vectors @ part.reshape(-1, part.shape[2]).T
        best = torch.segment_reduce(product, "max", lengths=lengths, axis=0, initial=-torch.inf)
        parts.append(best.reshape(-1, len(part), part.shape[1]).sum(dim=2).T)
    return torch.cat(parts)


def _padded(queries: Tokens) -> np.ndarray:
    """float32 [queries, tokens, dimensions]; a vector of zeros adds exactly 0 to any score."""
    lengths = np.diff(queries.offsets)
    padded = np.zeros((len(queries), int(lengths.max()), queries.vectors.shape[1]), np.float32)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = queries.vectors
    return padded


def _of(texts: Tokens, i: Any) -> np.ndarray:
    return texts.vectors[texts.offsets[i] : texts.offsets[i + 1]]


def _norms(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("td,td->t", vectors, vectors, dtype=np.float64))
