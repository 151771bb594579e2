"""What an encoder makes of a corpus, in numbered files: each whole or absent, all of one corpus and one encoder."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from retrieval.corpus import Corpus
from retrieval.files import digest, whole_file

__all__ = ["SHARD", "WIDTHS", "Claim", "Shards", "begin", "claims", "document_contract", "expect", "key", "opened"]

SHARD = 8192  # documents per shard: what a kill may cost
WIDTHS = ("dimensions", "vocabulary", "token_dimensions")  # the contract's words for the width of each kind of vector
_REDO = "delete that shard and encode again with the same command: the finished ones are kept"


@dataclass(frozen=True)
class Shards:
    """The shards of one kind of vector. Beside each lies a JSON file of its hash and counts, written last."""

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

    def finished(self, number: int) -> dict[str, Any] | None:
        """The hash and counts of a shard that is there; None where it is not."""
        path, sums = self.path(number), self._sums(number)
        return json.loads(sums.read_text(encoding="utf-8")) if path.is_file() and sums.is_file() else None

    def write(self, number: int, arrays: Sequence[np.ndarray], counts: Mapping[str, Any]) -> None:
        """Finish a shard, whose file is these arrays one after another."""
        with whole_file(self.path(number)) as part:
            with open(part, "wb") as file:
                for array in arrays:
                    array.tofile(file)
            sums = {"sha256": _sha256(part), **counts}
        with whole_file(self._sums(number)) as part:
            part.write_text(json.dumps(sums), encoding="utf-8")

    def check(self, length: Callable[[int, Mapping[str, Any]], int]) -> list[dict[str, Any]]:
        """The hash and counts of each shard; `length` gives its bytes from its documents and counts.

        Raises ValueError that names the first shard missing or cut short, and the way to redo it.
        """
        found = []
        for number, (start, stop) in enumerate(self.spans()):
            path, sums = self.path(number), self.finished(number)
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
            sums = self.finished(number)
            if sums is None or _sha256(self.path(number)) != sums["sha256"]:
                raise ValueError(f"{self.path(number)} has changed since it was written; {_REDO}")

    def split(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Number of each shard that holds some of the rows, their places in `rows`, and where they are in the shard.

        Raises IndexError for a row that there is not, such as a pad.
        """
        rows = np.asarray(rows, np.int64)
        if len(rows) and not (0 <= rows.min() and rows.max() < self.documents):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {self.documents} vectors")
        order = np.argsort(rows, kind="stable")
        numbers, first = np.unique(rows[order] // self.size, return_index=True)
        for number, places in zip(numbers.tolist(), np.split(order, first[1:]), strict=bool(len(rows))):
            yield number, places, rows[places] - number * self.size

    def _sums(self, number: int) -> Path:
        return self.folder / f"{self.path(number).name}.json"


@dataclass(frozen=True)
class Claim:
    """A shard that this process encodes; no other does as long as this lives, and its death gives the shard free."""

    number: int
    path: Path
    file: IO[bytes]

    @classmethod
    def take(cls, folder: Path, number: int, wait: bool) -> Claim | None:
        """The claim on a shard; None where another process has it, unless told to wait for its end."""
        path = folder / f".shard-{number:05d}.claim"
        file = open(path, "ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            return None
        return cls(number, path, file)

    def clear(self) -> None:
        """Delete what a process that was killed had begun to write."""
        for part in self.path.parent.glob(f".shard-{self.number:05d}.*.part"):
            part.unlink()

    def release(self) -> None:
        """Let others have it."""
        if not self.file.closed:
            self.path.unlink(missing_ok=True)  # whoever opened it before finds the shard finished
            self.file.close()


def claims(folder: Path, numbers: Sequence[int], finished: Callable[[int], bool], wait: bool) -> Iterator[Claim]:
    """A claim on each of these shards that is not finished, one after another.

    Those that other processes are at come last, if they died, and only for one that is told to `wait` for them.
    """
    others: list[int] = []
    for waiting, some in ((False, numbers), (True, others)):
        for number in some if wait or not waiting else ():
            claim = None if finished(number) else Claim.take(folder, number, waiting)
            if claim and not finished(number):
                claim.clear()
                yield claim
            elif claim:
                claim.release()
            elif not finished(number):
                others.append(number)


def document_contract(contract: Mapping[str, Any]) -> dict[str, Any]:
    """What determines the vectors of documents, as JSON has it: all but what an encoder keeps under `queries`."""
    return json.loads(json.dumps({name: value for name, value in contract.items() if name != "queries"}))


def key(corpus: Corpus, contract: Mapping[str, Any], dtype: str = "float32") -> str:
    """The name of a folder for this corpus encoded in this way."""
    return f"{corpus.fingerprint[:16]}-{digest([document_contract(contract), dtype])}"


def begin(folder: Path, corpus: Corpus, contract: Mapping[str, Any], dtype: str, size: int) -> None:
    """Say in contract.json what the shards are of.

    Raises ValueError if the folder belongs to another corpus, encoder or dtype, or has shards of another size.
    """
    contract = document_contract(contract)
    widths = {width: contract[width] for width in WIDTHS if width in contract}
    if not widths:
        raise ValueError(f"the contract of encoder {contract.get('encoder')!r} names none of {', '.join(WIDTHS)}")
    about = {"corpus": corpus.fingerprint, "documents": len(corpus), "shard": size, "dtype": dtype, **widths}
    if (folder / "contract.json").is_file():
        there = opened(folder)
        expect(folder, there, corpus, contract, dtype)
        if there["shard"] != size:
            raise ValueError(f"{folder} has shards of {there['shard']} documents, not {size}: shard=... keeps to them")
        return
    with whole_file(folder / "contract.json") as part:
        part.write_text(json.dumps({**about, "encoder": contract}, indent=2), encoding="utf-8")


def opened(folder: Path, width: str | None = None) -> dict[str, Any]:
    """What the shards are of. Raises ValueError for a folder without them, or with those of another kind."""
    path = folder / "contract.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no vectors (no contract.json); make them with retrieval.encode")
    about = json.loads(path.read_text(encoding="utf-8"))
    if "shard" not in about:
        raise ValueError(f"{folder} was written by an earlier version; delete it and encode again")
    if width and width not in about:
        made = about["encoder"].get("encoder")
        raise ValueError(f"{folder} holds vectors of another kind (encoder {made!r}), which have no {width}")
    return about


def expect(
    folder: Path, about: Mapping[str, Any], corpus: Corpus, encoder: Mapping[str, Any], dtype: str | None = None
) -> None:
    """Raises ValueError that names both sides if the shards are of another corpus, encoder or dtype (None: any)."""
    if about["corpus"] != corpus.fingerprint:
        raise ValueError(
            f"{folder} holds vectors of corpus {about['corpus'][:12]} ({about['documents']} documents), "
            f"not of {corpus.fingerprint[:12]} ({len(corpus)} documents); encode this corpus with retrieval.encode"
        )
    there, here = about["encoder"], document_contract(encoder)
    differing = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    if differing:
        both = "; ".join(f"{key}: {there.get(key)!r} there, {here.get(key)!r} here" for key in differing)
        raise ValueError(f"{folder} was encoded by another encoder ({both}); encode again with retrieval.encode")
    if dtype and dtype != about["dtype"]:
        raise ValueError(f"{folder} holds {about['dtype']}, not {dtype}: change dtype, or encode into another folder")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
