"""Search over codes of fewer bytes than the vectors, held in memory, and rescoring with the vectors themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from retrieval.compiled import chosen
from retrieval.indexes.flat import Flat
from retrieval.number_formats import row_bytes
from retrieval.order import order
from retrieval.types import Dense, Representations
from retrieval.vector_tiles import checked
from retrieval.vectors import VectorStore

__all__ = ["Quantised"]

Code = Literal["float32", "float16", "int8", "binary"]
TILE = 16384  # documents coded at a time
HIGHEST = float(np.finfo(np.float16).max)


class Quantised:
    """Every document by its code: float32, float16, int8 (a scale per dimension) or binary (the sign, a bit each).

    Asymmetric: queries stay float and meet what a code stands for, int8 times its scale or +1 and -1. That loses less
    than coding the queries too (Hamming distance for binary), which would be quicker. The products are Flat's over
    those values, so the list is the same for every tile, batch and device.
    """

    def __init__(
        self,
        code: Code = "int8",
        dimensions: int | None = None,
        rescore: int | None = None,
        metric: Literal["dot", "cosine"] = "dot",
    ):
        """`dimensions` keeps the first so many (Matryoshka, Kusupati et al. 2022), for which an encoder is trained.

        `rescore`: so many times k candidates found by their codes are scored again with the stored vectors, uncut.
        With cosine, vectors get length 1 after the cut and before they are coded.
        """
        chosen("code", code, Code)
        chosen("metric", metric, Literal["dot", "cosine"])
        for name, value in (("dimensions", dimensions), ("rescore", rescore)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is 1 or more, or None for off")
        self.code, self.dimensions, self.rescore, self.metric = code, dimensions, rescore, metric

    def build(self, vectors: VectorStore | np.ndarray, rank: np.ndarray) -> None:
        """Code float32 [documents, dimensions]. Raises ValueError for NaN and for fewer dimensions than are kept."""
        if self.dimensions is not None and self.dimensions > vectors.shape[1]:
            raise ValueError(f"dimensions is {self.dimensions}, and the vectors have {vectors.shape[1]}: keep fewer")
        began = time.perf_counter()
        self.vectors, self.rank = vectors, rank
        self.codes = self._coded()
        self.first = _built(self.metric, self.codes, rank)
        self.second = _built(self.metric, vectors, rank) if self.rescore else None
        self.seconds = time.perf_counter() - began

    def search(self, queries: Representations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 and scores float32 [queries, min(k, documents)], in the one order; rescored scores are exact."""
        asked = checked(queries, self.vectors.shape[1], "quantised")
        cut = Dense(asked[:, : self.codes.shape[1]])
        if self.second is None or self.rescore is None:
            return self.first.search(cut, k)
        rows, _ = self.first.search(cut, k * self.rescore)
        return order(rows, self.second.score(asked, rows), self.rank, k)

    def provenance(self) -> dict[str, Any]:
        """Bytes of a code, and of what rescoring reads beside it; nothing before `build`."""
        if not hasattr(self, "codes"):
            return {}
        codes = self.codes
        about = {
            "code": self.code,
            "dimensions": codes.shape[1],
            "bytes per vector": codes.numbers.shape[1] * codes.numbers.itemsize,
            "build seconds": round(self.seconds, 3),
        }
        if codes.scale is not None:  # one for all documents, so not counted among a vector's bytes
            about |= {"smallest scale": float(codes.scale.min()), "largest scale": float(codes.scale.max())}
        return about | ({"bytes per vector rescored": _stored_bytes(self.vectors)} if self.rescore else {})

    def _coded(self) -> _Codes:
        kept = self.dimensions or self.vectors.shape[1]
        width = -(-kept // 8) if self.code == "binary" else kept
        numbers = np.empty((len(self.vectors), width), "uint8" if self.code == "binary" else self.code)
        codes = _Codes(numbers, (len(self.vectors), kept), self._scale(kept) if self.code == "int8" else None)
        for start, tile in self._tiles(kept):
            if self.code == "float16" and (np.abs(tile) > HIGHEST).any():
                row = start + int((np.abs(tile) > HIGHEST).any(axis=1).argmax())
                raise ValueError(f"the vector of row {row} has a value beyond float16's {HIGHEST:.0f}: use int8")
            numbers[start : start + len(tile)] = codes.encode(tile)
        return codes

    def _scale(self, kept: int) -> np.ndarray:
        """float32 [dimensions]: the largest absolute value of each over 127."""
        largest = np.zeros(kept, np.float32)
        for _, tile in self._tiles(kept):
            np.maximum(largest, np.abs(tile).max(axis=0, initial=0), out=largest)
        return largest / np.float32(127)

    def _tiles(self, kept: int) -> Iterator[tuple[int, np.ndarray]]:
        """First row and float32 [rows, kept] that are to be coded."""
        whole = self.vectors.tiles() if isinstance(self.vectors, VectorStore) else [(0, self.vectors)]
        for first, part in whole:
            for start in range(0, len(part), TILE):
                tile = np.asarray(part[start : start + TILE], np.float32)
                broken = ~np.isfinite(tile).all(axis=1)
                if broken.any():
                    raise ValueError(f"the vector of row {first + start + int(broken.argmax())} is not finite")
                yield first + start, _unit(tile[:, :kept]) if self.metric == "cosine" else tile[:, :kept]


@dataclass(frozen=True, eq=False)
class _Codes:
    """Codes that read as the float32 vectors they stand for, which is all that Flat asks of an array."""

    numbers: np.ndarray  # float32, float16 or int8 [documents, dimensions]; uint8 [documents, dimensions / 8], packed
    shape: tuple[int, int]  # documents, dimensions
    scale: np.ndarray | None  # float32 [dimensions], of int8

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        numbers = self.numbers[rows]
        if numbers.dtype == np.uint8:
            signs = np.array([-1, 1], np.float32)
            return signs[np.unpackbits(numbers, axis=1, count=self.shape[1])]
        values = numbers.astype(np.float32, copy=False)
        return values if self.scale is None else values * self.scale

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """The codes of float32 [n, dimensions]; of a sign, 0 counts as -1."""
        if self.numbers.dtype == np.uint8:
            return np.packbits(vectors > 0, axis=1)
        if self.scale is None:
            return vectors.astype(self.numbers.dtype)
        steps = np.rint(vectors / np.where(self.scale == 0, 1, self.scale))
        return np.clip(steps, -127, 127).astype(np.int8)


def _built(metric: Literal["dot", "cosine"], vectors: Any, rank: np.ndarray) -> Flat:
    flat = Flat(metric)
    flat.build(vectors, rank)
    return flat


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; the zero vector stays. Row by row in float64, so the same whatever the tile."""
    wide = vectors.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return (wide / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def _stored_bytes(vectors: VectorStore | np.ndarray) -> int:
    if isinstance(vectors, VectorStore):
        return row_bytes(vectors.dtype, vectors.shape[1])
    return vectors.shape[1] * vectors.itemsize
