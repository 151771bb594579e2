"""Generated vectors of length 1, in memory or as a store of vectors: the same arguments give the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.corpus import Corpus
from retrieval.encoding import encode_corpus
from retrieval.number_formats import Number
from retrieval.types import Dense
from retrieval.vectors import VectorStore

BLOCK = 8192  # documents that are drawn at a time


def draw(count: int, dimensions: int, *seed: int) -> np.ndarray:
    """float32 [count, dimensions], of random direction."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimensions), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Generated:
    """An encoder for documents whose text is their row: each block of rows has a seed of its own."""

    def __init__(self, documents: int, dimensions: int, seed: int = 0):
        self.documents, self.dimensions, self.seed = documents, dimensions, seed

    def whole(self) -> np.ndarray:
        """All vectors in order, float32 [documents, dimensions]."""
        return np.concatenate([self._block(start // BLOCK) for start in range(0, self.documents, BLOCK)])

    def encode_docs(self, texts: Sequence[str]) -> Dense:
        """Rows of one block, or of several."""
        rows = np.array([int(text) for text in texts])
        found = np.empty((len(rows), self.dimensions), np.float32)
        for block in np.unique(rows // BLOCK):
            there = rows // BLOCK == block
            found[there] = self._block(block)[rows[there] % BLOCK]
        return Dense(found)

    def contract(self) -> dict[str, Any]:
        """The settings."""
        return {"encoder": "generated", "dimensions": self.dimensions, "normalize": True, "seed": self.seed}

    def store(self, folder: Path, dtype: Number = "float32") -> VectorStore:
        """The vectors on disk, as retrieval.encode would write them."""
        ids = ((str(row), "", str(row)) for row in range(self.documents))
        corpus = Corpus.build(ids, folder / "corpus") if not (folder / "corpus").is_dir() else Corpus(folder / "corpus")
        encode_corpus(corpus, self, folder / dtype, dtype, BLOCK)
        return VectorStore(folder / dtype)

    def _block(self, number: int) -> np.ndarray:
        return draw(min(BLOCK, self.documents - number * BLOCK), self.dimensions, self.seed, number)
