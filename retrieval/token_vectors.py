"""Token vectors of a corpus on disk: packed shards, memory-mapped, written whole or not at all.

A shard is one file: int64 offsets [documents + 1], then the vectors of its tokens (retrieval.number_formats).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.corpus import Corpus
from retrieval.number_formats import Number, header_bytes, mapped, narrow, row_bytes, scale, suffix, widen
from retrieval.shards import Shards, expect, opened
from retrieval.types import Tokens

__all__ = ["TokenStore", "token_shard", "token_suffix"]


class TokenStore:
    """The finished token vectors in a folder."""

    def __init__(self, folder: Path):
        """Open the store. Raises ValueError that names the first shard missing or cut short, and the way to redo it."""
        self.folder = Path(folder)
        self._about = about = opened(self.folder, "token_dimensions")
        self.contract: Mapping[str, Any] = about["encoder"]
        self.corpus: str = about["corpus"]
        self.dtype: Number = about["dtype"]
        self.shape: tuple[int, int] = (about["documents"], about["token_dimensions"])
        self._shards = Shards(self.folder, token_suffix(self.dtype), self.shape[0], about["shard"])
        before, each = header_bytes(self.dtype, self.shape[1]), row_bytes(self.dtype, self.shape[1])
        self._sums = self._shards.check(lambda n, sums: 8 * (n + 1) + before + sums["tokens"] * each)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def tokens(self) -> int:
        """How many token vectors there are in all."""
        return sum(sums["tokens"] for sums in self._sums)

    @property
    def truncated(self) -> int:
        """How many documents were longer than the encoder takes."""
        return sum(sums["truncated"] for sums in self._sums)

    @property
    def zero(self) -> int:
        """How many documents have no vector at all."""
        return int(np.count_nonzero(np.diff(self.offsets) == 0))

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 [documents + 1]: where the vectors of each document begin, of all."""
        parts, total = [np.zeros(1, np.int64)], 0
        for number, sums in enumerate(self._sums):
            parts.append(self._offsets(number)[1:] + total)
            total += sums["tokens"]
        return np.concatenate(parts)

    def tiles(self) -> Iterator[tuple[int, Tokens]]:
        """First row and token vectors of each shard; memory-mapped where stored as float32."""
        for number, (start, _) in enumerate(self._shards.spans()):
            vectors = widen(self._numbers(number), self.dtype, self._scales(number))
            yield start, Tokens(vectors, self._offsets(number))

    def rows(self, rows: np.ndarray) -> Tokens:
        """The token vectors of these documents, in order. Raises IndexError for a row that there is not."""
        lengths = np.diff(self.offsets)[np.asarray(rows, np.int64)]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        found = np.empty((int(offsets[-1]), self.shape[1]), np.float32)
        for number, places, within in self._shards.split(rows):
            begins, numbers = self._offsets(number), self._numbers(number)
            source = _runs(begins[within], begins[within + 1])
            found[_runs(offsets[places], offsets[places + 1])] = widen(
                numbers[source], self.dtype, self._scales(number)
            )
        return Tokens(found, offsets)

    def verify(self) -> None:
        """Raises ValueError that names the first shard whose bytes are not those that were written."""
        self._shards.verify()

    def expect(self, corpus: Corpus, encoder: Mapping[str, Any], dtype: str | None = None) -> TokenStore:
        """This store. Raises ValueError that names both sides if it is of another corpus, encoder or dtype."""
        expect(self.folder, self._about, corpus, encoder, dtype)
        return self

    def _offsets(self, number: int) -> np.ndarray:
        start, stop = self._shards.spans()[number]
        return np.fromfile(self._shards.path(number), np.int64, stop - start + 1)

    def _numbers(self, number: int) -> np.ndarray:
        start, stop = self._shards.spans()[number]
        shape = (self._sums[number]["tokens"], self.shape[1])
        return mapped(self._shards.path(number), self.dtype, shape, 8 * (stop - start + 1))

    def _scales(self, number: int) -> np.ndarray | None:
        start, stop = self._shards.spans()[number]
        return scale(self._shards.path(number), self.dtype, self.shape[1], 8 * (stop - start + 1))


def token_suffix(dtype: Number) -> str:
    """The ending of a shard's file."""
    return f"tokens.{suffix(dtype)}"


def token_shard(found: Tokens, dtype: Number) -> tuple[list[np.ndarray], dict[str, Any]]:
    """What the file of a shard holds, and what is counted of it."""
    counts = {"truncated": found.truncated, "tokens": int(found.offsets[-1])}
    return [found.offsets.astype(np.int64), *narrow(found.vectors, dtype)], counts


def _runs(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """starts[0] .. stops[0] - 1, starts[1] .. stops[1] - 1, and so on."""
    lengths = stops - starts
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
