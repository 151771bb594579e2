"""Token vectors in few bytes: the nearest of many centroids, and what is left in a few bits a dimension.

Santhanam et al. (2022), ColBERTv2. Here the buckets are of each dimension, and a bucket stands for its mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Buckets", "kmeans", "nearest"]

PRODUCTS = {"cpu": 2**24, "cuda": 2**28, "mps": 2**26}  # vectors x centroids multiplied at a time


@dataclass(frozen=True)
class Buckets:
    """Quantiles of each dimension, 2^bits of them."""

    cuts: np.ndarray  # float32 [2^bits - 1, dimensions]
    means: np.ndarray  # float32 [2^bits, dimensions]

    @classmethod
    def fit(cls, residuals: np.ndarray, bits: int) -> Buckets:
        """Buckets that each hold as many of these float32 [vectors, dimensions]."""
        count = 2**bits
        cuts = np.quantile(residuals, np.arange(1, count) / count, axis=0).astype(np.float32)
        places = _places(residuals, cuts)
        means = np.empty((count, residuals.shape[1]), np.float32)
        for bucket in range(count):
            inside = places == bucket
            total = np.where(inside, residuals, 0).sum(axis=0, dtype=np.float64)
            means[bucket] = total / np.maximum(inside.sum(axis=0), 1)
        return cls(cuts, means)

    @property
    def bits(self) -> int:
        """Of a dimension."""
        return len(self.means).bit_length() - 1

    @property
    def bytes(self) -> int:  # noqa: A003 - what it is
        """Of a vector."""
        return -(-self.means.shape[1] * self.bits // 8)

    def encode(self, residuals: np.ndarray) -> np.ndarray:
        """uint8 [vectors, bytes]."""
        places = _places(residuals, self.cuts)
        each = 8 // self.bits
        padded = np.zeros((len(places), self.bytes * each), np.uint8)
        padded[:, : places.shape[1]] = places
        shifted = padded.reshape(len(places), self.bytes, each) << self._shifts
        return np.bitwise_or.reduce(shifted, axis=2)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """float32 [vectors, dimensions]."""
        width = self.means.shape[1]
        places = (codes[:, :, None] >> self._shifts) & np.uint8(2**self.bits - 1)
        return self.means[places.reshape(len(codes), -1)[:, :width], np.arange(width)]

    @property
    def _shifts(self) -> np.ndarray:
        return np.arange(0, 8, self.bits, dtype=np.uint8)


def kmeans(vectors: np.ndarray, centroids: int, rounds: int, seed: int, device: Any) -> np.ndarray:
    """float32 [centroids, dimensions] by Lloyd's algorithm, from as many of the vectors drawn with `seed`."""
    drawn = np.random.default_rng(seed).choice(len(vectors), centroids, replace=False)
    found = vectors[np.sort(drawn)].copy()
    for _ in range(rounds):
        places = nearest(vectors, found, device)
        order = np.argsort(places, kind="stable")
        taken, starts, counts = np.unique(places[order], return_index=True, return_counts=True)
        # on the processor in the order of the vectors: additions on a GPU come in any order
        found[taken] = np.add.reduceat(vectors[order], starts, axis=0) / counts[:, None]  # one without vectors stays
    return found


def nearest(vectors: np.ndarray, centroids: np.ndarray, device: Any) -> np.ndarray:
    """int32 [vectors]: the centroid at the least distance of each."""
    import torch

    table = torch.from_numpy(centroids).to(device)
    half = (table * table).sum(dim=1) / 2
    step = max(1, PRODUCTS[device.type] // len(centroids))
    found = np.empty(len(vectors), np.int32)
    with torch.inference_mode():
        for at in range(0, len(vectors), step):
            part = torch.from_numpy(np.ascontiguousarray(vectors[at : at + step])).to(device)
            found[at : at + step] = _closest(part, table, half).cpu().numpy()
    return found


def _closest(vectors: Tensor, table: Tensor, half: Tensor) -> Tensor:
    return (vectors @ table.T - half).argmax(dim=1)


def _places(residuals: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    places = np.zeros(residuals.shape, np.uint8)
    for cut in cuts:
        places += residuals > cut
    return places
