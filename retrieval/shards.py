"""What an encoder makes of a corpus, in numbered files: each whole or absent, all of one corpus and one encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from retrieval.corpus import Corpus
from retrieval.files import whole_file

__all__ = ["SHARD", "Shards", "begin", "expect", "key", "opened", "plain"]

SHARD = 8192  # documents per shard: what a kill may cost
_REDO = "delete that shard and encode again with the same command: the finished ones are kept"


@dataclass(frozen=True)
class Shards:
    """The shards of a folder. Beside each lies a JSON file of its hash and counts, written last."""

    folder: Path
    suffix: str
    documents: int
    size: int  # documents per shard

    def spans(self) -> list[tuple[int, int]]:
        """First and last row (exclusive) of each shard."""
        return [(start, min(start + self.size, self.documents)) for start in range(0, self.documents, self.size)]

    def path(self, number: int) -> Path:
        """The file of a shard."""
        return self.folder / f"shard-{number:05d}.{self.suffix}"

    def missing(self) -> Iterator[tuple[int, np.ndarray]]:
        """Number and rows of each shard that is not finished, under a progress bar."""
        todo = [number for number in range(len(self.spans())) if self._finished(number) is None]
        for number in tqdm(todo, desc="shards", unit=" shards", disable=len(todo) < 2):
            yield number, np.arange(*self.spans()[number])

    def write(self, number: int, write: Callable[[Path], None], **counts: int) -> None:
        """Finish a shard: `write` fills the file."""
        with whole_file(self.path(number)) as part:
            write(part)
            sums = {"sha256": _sha256(part), **counts}
        with whole_file(self.path(number).with_suffix(".json")) as part:
            part.write_text(json.dumps(sums), encoding="utf-8")

    def check(self, length: Callable[[int, Mapping[str, Any]], int]) -> list[dict[str, Any]]:
        """The hash and counts of each shard; `length` gives its bytes from its documents and counts.

        Raises ValueError that names the first shard missing or cut short, and the way to redo it.
        """
        found = []
        for number, (start, stop) in enumerate(self.spans()):
            path, sums = self.path(number), self._finished(number)
            if sums is None:
                raise ValueError(f"{path} is missing; {_REDO}")
            size, right = path.stat().st_size, length(stop - start, sums)
            if size != right:
                raise ValueError(f"{path} has {size} bytes and should have {right}; {_REDO}")
            found.append(sums)
        return found

    def verify(self) -> None:
        """Raises ValueError that names the first shard whose bytes are not those that were written."""
        for number in range(len(self.spans())):
            sums = self._finished(number)
            if sums is None or _sha256(self.path(number)) != sums["sha256"]:
                raise ValueError(f"{self.path(number)} has changed since it was written; {_REDO}")

    def _finished(self, number: int) -> dict[str, Any] | None:
        path = self.path(number)
        sums = path.with_suffix(".json")
        return json.loads(sums.read_text(encoding="utf-8")) if path.is_file() and sums.is_file() else None


def plain(contract: Mapping[str, Any]) -> dict[str, Any]:
    """A contract as JSON gives it back."""
    return json.loads(json.dumps(dict(contract)))


def key(corpus: Corpus, contract: Mapping[str, Any]) -> str:
    """The name of a folder for this corpus encoded in this way."""
    digest = hashlib.sha256(json.dumps(contract, sort_keys=True).encode()).hexdigest()
    return f"{corpus.fingerprint[:16]}-{digest[:16]}"


def begin(folder: Path, corpus: Corpus, contract: Mapping[str, Any], width: str) -> None:
    """Say in contract.json what the shards are of; `width` is the contract's word for the length of a vector.

    Raises ValueError if the folder belongs to another corpus or encoder.
    """
    path = folder / "contract.json"
    if path.is_file():
        expect(folder, json.loads(path.read_text(encoding="utf-8")), corpus, contract)
        return
    about = {"corpus": corpus.fingerprint, "documents": len(corpus), width: contract[width], "encoder": contract}
    with whole_file(path) as part:
        part.write_text(json.dumps(about, indent=2), encoding="utf-8")


def opened(folder: Path, width: str) -> dict[str, Any]:
    """What the shards are of. Raises ValueError for a folder without them, or with those of another kind."""
    path = folder / "contract.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no vectors (no contract.json); make them with retrieval.encode")
    about = json.loads(path.read_text(encoding="utf-8"))
    if width not in about:
        made = about.get("encoder", {}).get("encoder")
        raise ValueError(f"{folder} holds vectors of another kind (encoder {made!r}), which have no {width}")
    return about


def expect(folder: Path, about: Mapping[str, Any], corpus: Corpus, encoder: Mapping[str, Any]) -> None:
    """Raises ValueError that names both sides if the shards are of another corpus or encoder."""
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


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
