"""Vectors of a corpus on disk: fixed-width shards, memory-mapped, written whole or not at all; row i is document i."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.corpus import Corpus
from retrieval.protocols import Encoder
from retrieval.shards import SHARD, Shards, begin, expect, opened, plain

__all__ = ["VectorStore", "encode_corpus"]


class VectorStore:
    """The finished vectors in a folder."""

    def __init__(self, folder: Path):
        """Open the store. Raises ValueError that names the first shard missing or cut short, and the way to redo it."""
        self.folder = Path(folder)
        self._about = about = opened(self.folder, "dimensions")
        self.contract: Mapping[str, Any] = about["encoder"]
        self.corpus: str = about["corpus"]
        self.shape: tuple[int, int] = (about["documents"], about["dimensions"])
        self._shards = Shards(self.folder, "f32", self.shape[0], SHARD)
        self._sums = self._shards.check(lambda documents, _: documents * self.shape[1] * 4)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def truncated(self) -> int:
        """How many documents were longer than the encoder takes."""
        return sum(sums["truncated"] for sums in self._sums)

    def spans(self) -> Iterator[tuple[int, int]]:
        """First and last row (exclusive) of each shard."""
        yield from self._shards.spans()

    def tiles(self) -> Iterator[tuple[int, np.ndarray]]:
        """First row and memory-mapped vectors float32 [rows, dimensions], shard by shard."""
        for number, (start, stop) in enumerate(self.spans()):
            yield start, np.memmap(self._shards.path(number), np.float32, "r", shape=(stop - start, self.shape[1]))

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Vectors float32 [len(rows), dimensions]. Raises IndexError for a row that there is not, such as a pad."""
        if len(rows) and not (0 <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)} vectors")
        found = np.empty((len(rows), self.shape[1]), np.float32)
        shards = rows // SHARD
        for number, (start, tile) in enumerate(self.tiles()):
            places = np.flatnonzero(shards == number)
            if len(places):
                found[places] = tile[rows[places] - start]
        return found

    def verify(self) -> None:
        """Raises ValueError that names the first shard whose bytes are not those that were written."""
        self._shards.verify()

    def expect(self, corpus: Corpus, encoder: Mapping[str, Any]) -> VectorStore:
        """This store. Raises ValueError that names both sides if it is of another corpus or encoder."""
        expect(self.folder, self._about, corpus, encoder)
        return self


def encode_corpus(corpus: Corpus, encoder: Encoder, folder: Path) -> VectorStore:
    """Vectors of every document, in `folder`. Shards that are there already are kept, so a killed run goes on.

    Raises ValueError if the folder belongs to another corpus or encoder.
    """
    folder = Path(folder)
    contract = plain(encoder.contract())
    begin(folder, corpus, contract, "dimensions")
    shards = Shards(folder, "f32", len(corpus), SHARD)
    for number, rows in shards.missing():
        found: Any = encoder.encode_docs(corpus.texts(rows))
        if found.vectors.shape != (len(rows), contract["dimensions"]):
            raise ValueError(
                f"{len(rows)} documents gave vectors {found.vectors.shape}, not {contract['dimensions']} wide"
            )
        shards.write(number, np.ascontiguousarray(found.vectors, np.float32).tofile, truncated=found.truncated)
    return VectorStore(folder)
