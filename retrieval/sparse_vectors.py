"""Sparse vectors of a corpus on disk: CSR shards, memory-mapped, written whole or not at all; row i is document i.

A shard is one file: int64 offsets [documents + 1], int32 vocabulary ids [entries], float32 weights [entries].
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.corpus import Corpus
from retrieval.shards import Shards, expect, opened
from retrieval.types import Sparse

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Quantised", "SparseStore", "broken_weight", "refuse_broken", "sparse_shard"]


class SparseStore:
    """The finished sparse vectors in a folder."""

    def __init__(self, folder: Path):
        """Open the store. Raises ValueError that names the first shard missing or cut short, and the way to redo it."""
        self.folder = Path(folder)
        self._about = about = opened(self.folder, "vocabulary")
        self.contract: Mapping[str, Any] = about["encoder"]
        self.corpus: str = about["corpus"]
        self.shape: tuple[int, int] = (about["documents"], about["vocabulary"])
        self._shards = Shards(self.folder, "csr", self.shape[0], about["shard"])
        self._sums = self._shards.check(lambda documents, sums: 8 * (documents + 1) + 8 * sums["entries"])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def truncated(self) -> int:
        """How many documents were longer than the encoder takes."""
        return sum(sums["truncated"] for sums in self._sums)

    @property
    def entries(self) -> int:
        """How many weights there are in all."""
        return sum(sums["entries"] for sums in self._sums)

    @property
    def digest(self) -> str:
        """SHA-256 of those of the shards."""
        return hashlib.sha256(" ".join(sums["sha256"] for sums in self._sums).encode()).hexdigest()

    @cached_property
    def frequencies(self) -> np.ndarray:
        """int64 [vocabulary]: how many documents hold each entry."""
        found = np.zeros(self.shape[1], np.int64)
        for block in self.chunks():
            found += np.bincount(block.indices, minlength=self.shape[1])
        return found

    @cached_property
    def empty(self) -> int:
        """How many documents have no weight at all."""
        return sum(int(np.count_nonzero(np.diff(block.indptr) == 0)) for block in self.chunks())

    def chunks(self) -> Iterator[csr_array]:
        """Memory-mapped float32 [documents of the shard, vocabulary], shard by shard in row order."""
        for number in range(len(self._sums)):
            yield self._block(number)

    def rows(self, rows: np.ndarray) -> csr_array:
        """float32 [len(rows), vocabulary]. Raises IndexError for a row that there is not, such as a pad."""
        from scipy.sparse import csr_array, vstack

        if not len(rows):
            return csr_array((0, self.shape[1]), dtype=np.float32)
        parts = list(self._shards.split(rows))
        blocks = [self._block(number)[within] for number, _, within in parts]
        return vstack(blocks, format="csr")[np.argsort(np.concatenate([places for _, places, _ in parts]))]

    def verify(self) -> None:
        """Raises ValueError that names the first shard whose bytes are not those that were written."""
        self._shards.verify()

    def expect(self, corpus: Corpus, encoder: Mapping[str, Any]) -> SparseStore:
        """This store. Raises ValueError that names both sides if it is of another corpus or encoder."""
        expect(self.folder, self._about, corpus, encoder)
        return self

    def _block(self, number: int) -> csr_array:
        from scipy.sparse import csr_array

        path, (start, stop), entries = self._shards.path(number), self._spans[number], self._sums[number]["entries"]
        offsets = np.fromfile(path, np.int64, stop - start + 1)
        header = offsets.nbytes
        if not entries:  # nothing to map
            return csr_array((stop - start, self.shape[1]), dtype=np.float32)
        ids = np.memmap(path, np.int32, "r", header, shape=entries)
        weights = np.memmap(path, np.float32, "r", header + ids.nbytes, shape=entries)
        if entries < 2**31:  # of one type with the ids, or scipy copies those
            offsets = offsets.astype(np.int32)
        return csr_array((weights, ids, offsets), shape=(stop - start, self.shape[1]))

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        return self._shards.spans()


class Quantised:
    """Weights times a scale, rounded to integers: the impacts that an impact index of Lucene holds (scale 100)."""

    def __init__(self, store: SparseStore, scale: float):
        """Of all vectors of a store."""
        self.folder, self.shape = store.folder / f"quantised-{scale!r}", store.shape
        self.digest, self._store, self._scale = store.digest, store, scale

    def chunks(self) -> Iterator[csr_array]:
        """int64 [documents of the shard, vocabulary], shard by shard in row order."""
        return (quantised(block, self._scale) for block in self._store.chunks())


def quantised(matrix: csr_array, scale: float) -> csr_array:
    """The matrix times a scale, rounded to int64; what becomes 0 is gone."""
    from scipy.sparse import csr_array

    impacts = np.rint(matrix.data.astype(np.float64) * scale).astype(np.int64)
    found = csr_array((impacts, matrix.indices.copy(), matrix.indptr.copy()), shape=matrix.shape)
    found.eliminate_zeros()
    return found


def sparse_shard(found: Sparse) -> tuple[list[np.ndarray], dict[str, Any]]:
    """What the file of a shard holds, and what is counted of it."""
    matrix: Any = found.matrix
    arrays = [(matrix.indptr, np.int64), (matrix.indices, np.int32), (matrix.data, np.float32)]
    counts = {"truncated": found.truncated, "entries": int(matrix.nnz)}
    return [np.ascontiguousarray(array, dtype) for array, dtype in arrays], counts


def refuse_broken(matrix: Any, what: str, ids: Sequence[str], terms: Sequence[str] | None = None) -> None:
    """Raises ValueError that names row and term for a weight that is negative, NaN or infinite."""
    broken = np.flatnonzero(~(np.isfinite(matrix.data) & (matrix.data >= 0)))
    if len(broken):
        at = int(broken[0])
        row, term = int(np.searchsorted(matrix.indptr, at, side="right")) - 1, int(matrix.indices[at])
        shown = f"term {terms[term]!r}" if terms else f"vocabulary entry {term}"
        raise ValueError(broken_weight(what, ids[row], shown, matrix.data[at]))


def broken_weight(what: str, name: str, term: str, weight: float) -> str:
    """What is said of a weight that cannot be."""
    return f"{what} {name!r}: {term} weighs {weight}; a weight is 0 or more, and finite"
