"""Vectors of a corpus on disk: fixed-width shards, memory-mapped, written whole or not at all; row i is document i."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.corpus import Corpus
from retrieval.number_formats import Number, header_bytes, mapped, narrow, row_bytes, scale, suffix, widen
from retrieval.shards import Shards, expect, opened
from retrieval.types import Dense

__all__ = ["VectorStore", "dense_shard"]


class VectorStore:
    """The finished vectors in a folder."""

    def __init__(self, folder: Path):
        """Open the store. Raises ValueError that names the first shard missing or cut short, and the way to redo it."""
        self.folder = Path(folder)
        self._about = about = opened(self.folder, "dimensions")
        self.contract: Mapping[str, Any] = about["encoder"]
        self.corpus: str = about["corpus"]
        self.dtype: Number = about["dtype"]
        self.shape: tuple[int, int] = (about["documents"], about["dimensions"])
        self._shards = Shards(self.folder, suffix(self.dtype), self.shape[0], about["shard"])
        before, each = header_bytes(self.dtype, self.shape[1]), row_bytes(self.dtype, self.shape[1])
        self._sums = self._shards.check(lambda documents, _: before + documents * each)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def truncated(self) -> int:
        """How many documents were longer than the encoder takes."""
        return sum(sums["truncated"] for sums in self._sums)

    @property
    def zero(self) -> int:
        """How many documents have the zero vector, such as those without tokens."""
        return sum(sums["zero"] for sums in self._sums)

    def spans(self) -> Iterator[tuple[int, int]]:
        """First and last row (exclusive) of each shard."""
        yield from self._shards.spans()

    def tiles(self) -> Iterator[tuple[int, np.ndarray]]:
        """First row and vectors float32 [rows, dimensions], shard by shard; memory-mapped where stored as float32."""
        for number, (start, _) in enumerate(self.spans()):
            yield start, widen(self._numbers(number), self.dtype, self._scales(number))

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Vectors float32 [len(rows), dimensions]. Raises IndexError for a row that there is not, such as a pad."""
        found = np.empty((len(rows), self.shape[1]), np.float32)
        for number, places, within in self._shards.split(rows):
            found[places] = widen(self._numbers(number)[within], self.dtype, self._scales(number))
        return found

    def verify(self) -> None:
        """Raises ValueError that names the first shard whose bytes are not those that were written."""
        self._shards.verify()

    def expect(self, corpus: Corpus, encoder: Mapping[str, Any], dtype: str | None = None) -> VectorStore:
        """This store. Raises ValueError that names both sides if it is of another corpus, encoder or dtype."""
        expect(self.folder, self._about, corpus, encoder, dtype)
        return self

    def _numbers(self, number: int) -> np.ndarray:
        start, stop = self._shards.spans()[number]
        return mapped(self._shards.path(number), self.dtype, (stop - start, self.shape[1]))

    def _scales(self, number: int) -> np.ndarray | None:
        return scale(self._shards.path(number), self.dtype, self.shape[1])


def dense_shard(found: Dense, dtype: Number) -> tuple[list[np.ndarray], dict[str, Any]]:
    """What the file of a shard holds, and what is counted of it."""
    norms = np.linalg.norm(found.vectors, axis=1)
    counts = {"truncated": found.truncated, "zero": int(np.count_nonzero(norms == 0)), "norm": float(norms.mean())}
    return narrow(found.vectors, dtype), counts
