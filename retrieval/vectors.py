"""Vectors of a corpus on disk: fixed-width shards, memory-mapped, written whole or not at all; row i is document i."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from retrieval.corpus import Corpus
from retrieval.files import whole_file
from retrieval.protocols import Encoder
from retrieval.types import Dense

__all__ = ["VectorStore", "encode_corpus"]

SHARD = 8192  # documents per shard: what a kill may cost


class VectorStore:
    """The finished vectors in a folder."""

    def __init__(self, folder: Path):
        """Open the store. Raises ValueError that names the first shard missing or cut short, and the way to redo it."""
        self.folder = Path(folder)
        self._about = about = _read_contract(self.folder)
        self.contract: Mapping[str, Any] = about["encoder"]
        self.corpus: str = about["corpus"]
        self.shape: tuple[int, int] = (about["documents"], about["dimensions"])
        self._sums = [_finished(self.folder, number) for number in range(-(-self.shape[0] // SHARD))]
        for number, (start, stop) in enumerate(self.spans()):
            self._check(number, (stop - start) * self.shape[1] * 4)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def truncated(self) -> int:
        """How many documents were longer than the encoder takes."""
        return sum(sums["truncated"] for sums in self._sums if sums)

    def spans(self) -> Iterator[tuple[int, int]]:
        """First and last row (exclusive) of each shard."""
        for start in range(0, self.shape[0], SHARD):
            yield start, min(start + SHARD, self.shape[0])

    def tiles(self) -> Iterator[tuple[int, np.ndarray]]:
        """First row and memory-mapped vectors float32 [rows, dimensions], shard by shard."""
        for number, (start, stop) in enumerate(self.spans()):
            yield start, np.memmap(_shard(self.folder, number), np.float32, "r", shape=(stop - start, self.shape[1]))

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
        for number, sums in enumerate(self._sums):
            if _sha256(_shard(self.folder, number)) != sums["sha256"]:  # type: ignore[index]
                raise ValueError(f"{_shard(self.folder, number)} has changed since it was written; {_REDO}")

    def expect(self, corpus: Corpus, encoder: Mapping[str, Any]) -> VectorStore:
        """This store. Raises ValueError that names both sides if it is of another corpus or encoder."""
        _expect(self.folder, self._about, corpus, encoder)
        return self

    def _check(self, number: int, size: int) -> None:
        path = _shard(self.folder, number)
        if self._sums[number] is None:
            raise ValueError(f"{path} is missing; {_REDO}")
        if path.stat().st_size != size:
            raise ValueError(f"{path} has {path.stat().st_size} bytes and should have {size}; {_REDO}")


_REDO = "delete that shard and encode again with the same command: the finished ones are kept"


def encode_corpus(corpus: Corpus, encoder: Encoder, folder: Path) -> VectorStore:
    """Vectors of every document, in `folder`. Shards that are there already are kept, so a killed run goes on.

    Raises ValueError if the folder belongs to another corpus or encoder.
    """
    folder = Path(folder)
    contract = json.loads(json.dumps(dict(encoder.contract())))
    about = {"corpus": corpus.fingerprint, "documents": len(corpus), "dimensions": contract["dimensions"]}
    if not (folder / "contract.json").is_file():
        with whole_file(folder / "contract.json") as part:
            part.write_text(json.dumps(about | {"encoder": contract}, indent=2), encoding="utf-8")
    else:
        _expect(folder, _read_contract(folder), corpus, contract)
    spans = [(start, min(start + SHARD, len(corpus))) for start in range(0, len(corpus), SHARD)]
    todo = [number for number in range(len(spans)) if _finished(folder, number) is None]
    for number in tqdm(todo, desc="shards", unit=" shards", disable=len(todo) < 2):
        rows = np.arange(*spans[number])
        found: Any = encoder.encode_docs(corpus.texts(rows))
        if found.vectors.shape != (len(rows), contract["dimensions"]):
            raise ValueError(
                f"{len(rows)} documents gave vectors {found.vectors.shape}, not {contract['dimensions']} wide"
            )
        _write(folder, number, found)
    return VectorStore(folder)


def _expect(folder: Path, about: Mapping[str, Any], corpus: Corpus, encoder: Mapping[str, Any]) -> None:
    if about["corpus"] != corpus.fingerprint:
        raise ValueError(
            f"{folder} holds vectors of corpus {about['corpus'][:12]} ({about['documents']} documents), "
            f"not of {corpus.fingerprint[:12]} ({len(corpus)} documents); encode this corpus with retrieval.encode"
        )
    there = about["encoder"]
    differing = [key for key in {**there, **encoder} if there.get(key) != encoder.get(key)]
    if differing:
        both = "; ".join(f"{key}: {there.get(key)!r} there, {encoder.get(key)!r} here" for key in differing)
        raise ValueError(f"{folder} was encoded by another encoder ({both}); encode again with retrieval.encode")


def _write(folder: Path, number: int, dense: Dense) -> None:
    with whole_file(_shard(folder, number)) as part:
        np.ascontiguousarray(dense.vectors, np.float32).tofile(part)
        sums = {"sha256": _sha256(part), "truncated": dense.truncated}
    with whole_file(_shard(folder, number).with_suffix(".json")) as part:
        part.write_text(json.dumps(sums), encoding="utf-8")


def _finished(folder: Path, number: int) -> dict[str, Any] | None:
    path = _shard(folder, number)
    sums = path.with_suffix(".json")
    return json.loads(sums.read_text(encoding="utf-8")) if path.is_file() and sums.is_file() else None


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.f32"


def _read_contract(folder: Path) -> dict[str, Any]:
    path = folder / "contract.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no vectors (no contract.json); make them with retrieval.encode")
    return json.loads(path.read_text(encoding="utf-8"))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
