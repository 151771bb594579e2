"""Exhaustive search in torch: exact on any device, and the reference for every approximate index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from retrieval.order import PAD, order
from retrieval.types import Dense, Representations
from retrieval.vectors import VectorStore

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Flat"]

QUERIES = 256  # searched at a time
SLACK = 32  # candidates beyond k, at first
EPSILON = 2.0**-24  # unit round-off of float32


class Flat:
    """All inner products, or cosines. The same list for every tile, batch, thread count and device.

    A float32 matrix product differs in its last bits between tilings. So it only chooses candidates: as many as its
    error bound (Higham 2002, gamma_n |q||d|) says may belong to the k best. Those are scored again pair by pair
    in float64 with one fixed order of summation, rounded to float32, and ordered.
    """

    def __init__(self, metric: Literal["dot", "cosine"] = "dot", device: str | None = None, tile: int = 16384):
        """`tile` is how many documents are multiplied at a time."""
        self.metric, self.device, self.tile = metric, device, tile

    def build(self, vectors: VectorStore | np.ndarray, rank: np.ndarray) -> None:
        """Index float32 [documents, dimensions]; nothing is computed but norms. Raises ValueError for NaN."""
        self.vectors, self.rank = vectors, rank
        self.norms = np.empty(len(vectors), np.float64)
        for start, tile in self._tiles():
            self.norms[start : start + len(tile)] = norms = np.sqrt(fixed_sum(_square(tile)).numpy())
            if not np.isfinite(norms).all():
                raise ValueError(f"the vector of row {start + int(np.argmin(np.isfinite(norms)))} is not finite")

    def search(self, queries: Representations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 and scores float32 [queries, min(k, documents)], in the one order."""
        if not isinstance(queries, Dense):
            raise TypeError(f"flat searches dense vectors, not {type(queries).__name__}")
        if queries.vectors.shape[1] != self.vectors.shape[1]:
            wide, indexed = queries.vectors.shape[1], self.vectors.shape[1]
            raise ValueError(f"queries have {wide} dimensions, the index has {indexed}: not of the same encoder")
        if not np.isfinite(queries.vectors).all():
            raise ValueError("a query vector is not finite")
        k = min(k, len(self.vectors))
        parts = [self._search(queries.vectors[at : at + QUERIES], k) for at in range(0, len(queries), QUERIES)]
        rows, scores = zip(*parts, strict=True) if parts else ([np.empty((0, k), np.int32)], [np.empty((0, k))])
        return np.concatenate(rows), np.concatenate(scores).astype(np.float32)

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.full((len(queries), k), PAD, np.int32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        open_, width = np.arange(len(queries)), k + SLACK  # the queries whose candidates may be incomplete
        while len(open_):
            width = min(width, len(self.vectors))
            found, product = self._candidates(queries[open_], width)
            exact = self._exact(queries[open_], found)
            rows[open_], scores[open_] = order(found, exact, self.rank, k)
            missed = product[:, -1] >= product[:, k - 1] - 2 * self._error(queries[open_])
            open_ = open_[missed] if width < len(self.vectors) else open_[:0]
            width *= 4
        return rows, scores

    def _candidates(self, queries: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and float32 products of the `width` best by matrix product, [queries, width], product descending."""
        import torch

        asked = torch.from_numpy(np.ascontiguousarray(queries, np.float32)).to(self._device)
        best = torch.empty((len(queries), 0), device=self._device)
        rows = torch.empty((len(queries), 0), dtype=torch.int32, device=self._device)
        with torch.inference_mode(), _full_precision():
            for start, tile in self._tiles():
                product = asked @ self._unit(start, tile).to(self._device).T
                top, place = product.topk(min(width, product.shape[1]), dim=1)
                best = torch.cat([best, top], dim=1)
                rows = torch.cat([rows, (place + start).to(torch.int32)], dim=1)
                best, place = best.topk(min(width, best.shape[1]), dim=1)
                rows = rows.gather(1, place)
        return rows.cpu().numpy(), best.cpu().numpy()

    def _unit(self, start: int, tile: np.ndarray) -> Tensor:
        import torch

        if self.metric == "dot":
            return torch.from_numpy(tile)
        norms = self.norms[start : start + len(tile), None]
        return torch.from_numpy((tile / np.where(norms == 0, 1, norms)).astype(np.float32))

    def _exact(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 scores of the pairs [queries, rows], each the same whatever else is asked with it."""
        scores = np.empty(rows.shape, np.float32)
        norms = np.sqrt(fixed_sum(_square(queries)).numpy()) if self.metric == "cosine" else None
        step = max(1, 4_000_000 // (rows.shape[1] * queries.shape[1]))
        for at in range(0, len(queries), step):
            part = rows[at : at + step]
            docs = self._rows(part.ravel()).reshape(*part.shape, -1)
            dots = fixed_sum(_product(docs, queries[at : at + step, None])).numpy()
            if norms is not None:
                both = self.norms[part] * norms[at : at + step, None]
                dots = dots / np.where(both == 0, 1, both)  # a zero vector has cosine 0 with everything
            scores[at : at + step] = dots
        return scores

    def _error(self, queries: np.ndarray) -> np.ndarray:
        """Bound on |product - rounded exact score| per query."""
        longest = self.norms.max() if self.metric == "dot" else 1.0
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
        if self.metric == "cosine":
            # products are q . d/|d|, exact scores are divided by |q| too: both orders are the same
            return (queries.shape[1] + 8) * EPSILON * lengths
        return (queries.shape[1] + 4) * EPSILON * lengths * longest

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        return self.vectors.rows(rows) if isinstance(self.vectors, VectorStore) else self.vectors[rows]

    def _tiles(self) -> Iterator[tuple[int, np.ndarray]]:
        whole = self.vectors.tiles() if isinstance(self.vectors, VectorStore) else [(0, self.vectors)]
        for first, part in whole:
            for start in range(0, len(part), self.tile):
                # a copy: torch wants memory it may write to, a read-only map is none
                yield first + start, np.array(part[start : start + self.tile], np.float32)

    @property
    def _device(self) -> str:
        import torch

        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")


def fixed_sum(values: Tensor) -> Tensor:
    """The sum over the last axis by halving: elementwise additions only, so the same bits on every device."""
    import torch

    width = 1 << max(values.shape[-1] - 1, 0).bit_length()
    values = torch.nn.functional.pad(values, (0, width - values.shape[-1]))
    while width > 1:
        width //= 2
        values = values[..., :width] + values[..., width:]
    return values[..., 0]


def _product(left: np.ndarray, right: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(left).double() * torch.from_numpy(np.ascontiguousarray(right)).double()


def _square(vectors: np.ndarray) -> Tensor:
    return _product(vectors, vectors)


class _full_precision:
    """Matrix products in full float32, whatever the program asked for elsewhere (no TF32, no bfloat16)."""

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")

    def __exit__(self, *error: object) -> None:
        import torch

        torch.set_float32_matmul_precision(self.before)
