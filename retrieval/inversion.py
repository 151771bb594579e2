"""From documents with terms to terms with documents, in bounded memory: blocks sorted by term on disk, then merged."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from retrieval.array_files import ArrayFolder

__all__ = ["Inversion"]

BLOCK = 1 << 24  # postings sorted at a time, and merged at a time: about 400 MB


class Inversion:
    """Takes documents in row order and writes offsets, docs and values by term.

    Values are counts (any integer, stored in the smallest type that holds the largest) or float32 weights.
    """

    def __init__(self, folder: Path, block: int = BLOCK):
        """Blocks go to a folder of their own in `folder` until they are merged."""
        self._room = tempfile.TemporaryDirectory(dir=folder, prefix="blocks.")
        self.block, self.rows, self._held = block, 0, 0
        self._pending: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, counts: np.ndarray, terms: np.ndarray, values: np.ndarray) -> None:
        """The next documents: terms in each, int64 [n]; terms, int32, and their values, one document after another."""
        self._pending.append((counts, terms, values))
        self._held += len(terms)
        if self._held >= self.block:
            self._sort()

    def finish(self, folder: ArrayFolder, terms: int) -> np.ndarray:
        """Write `offsets` int64 [terms + 1], `docs` int32 and `values`; how many documents hold each term, int64."""
        self._sort()
        frequencies = np.zeros(terms, np.int64)
        for offsets, _, _ in self._blocks:
            frequencies[: len(offsets) - 1] += np.diff(offsets)
        offsets = np.concatenate([[0], np.cumsum(frequencies)])
        folder.write("offsets", offsets)
        dtype = np.result_type(np.uint8, *(values.dtype for _, _, values in self._blocks))
        docs, values = folder.writer("docs", np.int32), folder.writer("values", dtype)
        for first, last in self._spans(offsets):
            for piece, writer in zip(self._merged(first, last, offsets, dtype), (docs, values), strict=True):
                writer.append(piece)
        self._blocks.clear()
        self._room.cleanup()
        return frequencies

    def _sort(self) -> None:
        """Sort what is pending by term and put it on disk."""
        if not self._pending:
            return
        counts, terms, values = (np.concatenate(arrays) for arrays in zip(*self._pending, strict=True))
        self._pending.clear()
        if values.dtype.kind in "iu":
            values = values.astype(np.min_scalar_type(values.max(initial=0)))
        offsets = np.concatenate([[0], np.cumsum(np.bincount(terms))]).astype(np.int64)
        docs, sorted_values = np.empty(len(terms), np.int32), np.empty_like(values)
        by_term(self.rows, counts, terms, values, offsets[:-1].copy(), docs, sorted_values)
        self._blocks.append((offsets, self._spill(docs), self._spill(sorted_values)))
        self.rows, self._held = self.rows + len(counts), 0

    def _spill(self, array: np.ndarray) -> np.ndarray:
        if not len(array):
            return array
        path = Path(self._room.name) / f"{len(list(Path(self._room.name).iterdir()))}"
        array.tofile(path)
        return np.memmap(path, array.dtype, "r", shape=array.shape)

    def _spans(self, offsets: np.ndarray) -> Iterator[tuple[int, int]]:
        """Ranges of terms with a block's worth of postings together, or one term with more."""
        first = 0
        while first < len(offsets) - 1:
            last = int(np.searchsorted(offsets, offsets[first] + self.block, "right")) - 1
            yield first, max(last, first + 1)
            first = max(last, first + 1)

    def _merged(self, first: int, last: int, offsets: np.ndarray, dtype: Any) -> Iterator[np.ndarray]:
        """Docs, then values, of the terms first to last: each term's from block after block, as rows have it."""
        bounds = [_padded(block[0], first, last) for block in self._blocks]
        for column, kind in ((1, np.dtype(np.int32)), (2, dtype)):
            merged = np.empty(int(offsets[last] - offsets[first]), kind)
            cursors = offsets[first:last] - offsets[first]
            for block, bound in zip(self._blocks, bounds, strict=True):
                put(block[column][bound[0] : bound[-1]], bound - bound[0], cursors, merged)
            yield merged


def _padded(offsets: np.ndarray, first: int, last: int) -> np.ndarray:
    """Offsets of the terms first to last in a block, which knows only the terms seen until it was sorted."""
    return offsets[np.minimum(np.arange(first, last + 1), len(offsets) - 1)]


@njit(cache=True, nogil=True)
def by_term(row, counts, terms, values, cursors, docs, sorted_values):
    """Counting sort: documents row, row + 1 ... to where `cursors` say each term goes."""
    at = 0
    for number in range(len(counts)):
        for i in range(at, at + counts[number]):
            place = cursors[terms[i]]
            cursors[terms[i]] = place + 1
            docs[place] = row + number
            sorted_values[place] = values[i]
        at += counts[number]


@njit(cache=True, nogil=True)
def put(piece, bounds, cursors, merged):
    """Copy each term's part of a block to its cursor, and move the cursor."""
    for term in range(len(cursors)):
        place = cursors[term]
        for i in range(bounds[term], bounds[term + 1]):
            merged[place] = piece[i]
            place += 1
        cursors[term] = place
