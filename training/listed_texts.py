"""Training data in JSONL files that hold the texts themselves: texts go to a corpus on disk, ids stay in memory."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from retrieval.corpus import Corpus, Document, read_records
from retrieval.lists import Lists
from retrieval.locate import cache_folder, on_disk
from retrieval.types import Queries

__all__ = ["Listed", "Record", "data_file", "file_digest", "is_number", "read_lists"]


class Listed(NamedTuple):
    """A passage of a record."""

    text: Any
    label: float
    score: float | None = None  # a teacher's
    id: Any = None  # None: the text is its own
    title: Any = ""


class Record(NamedTuple):
    """What one line holds: a query and passages for it."""

    query: Any
    id: Any  # None: the text is its own
    passages: Sequence[Listed]


def data_file(path: Path) -> Path:
    """The file below RETRIEVAL_DATA, or at that path. Raises FileNotFoundError that says where it was looked for."""
    folder = on_disk(path.parent, path.name)
    if folder is None:
        raise FileNotFoundError(f"no file {path.absolute()}, nor {path} below RETRIEVAL_DATA")
    return folder / path.name


def file_digest(path: Path) -> str:
    """SHA-256 of the content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lists(path: Path, read: Callable[[Any], Record], again: Literal["last", "highest"] = "last") -> Lists:
    """The lists of a file, one record a line; lines of the same query are one list.

    `read` makes a record of what a line holds and raises ValueError with what is wrong with it. Texts are ingested
    into the cache once for each content of the file. Raises ValueError with file and line.
    """
    path = data_file(path)
    folder = cache_folder() / "corpora" / f"{path.stem}-texts-{file_digest(path)[:16]}"
    reader = _Reader(path, read)
    if (folder / "corpus.json").is_file():
        deque(reader.documents(), maxlen=0)
        corpus = Corpus(folder)
    else:
        corpus = Corpus.build(reader.documents(), folder, shared=True)
    return reader.lists(corpus, again)


def is_number(value: Any) -> bool:
    """Whether a value of a record is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class _Reader:
    """Reads records, and gives each query and each passage a place as it first appears."""

    def __init__(self, path: Path, read: Callable[[Any], Record]):
        self.path, self.read = path, read
        self.queries: dict[str, str] = {}  # id -> text
        self.query_places: dict[str, int] = {}
        self.rows: dict[str, int] = {}
        self.digests = array("Q")  # [passages], of their texts
        self.entries = array("q"), array("i"), array("f"), array("f")  # query, row, label, score

    def documents(self) -> Iterator[Document]:
        """The passages, each once, as the file is read."""
        for number, found in read_records(self.path):
            try:
                yield from self._record(self.read(found))
            except ValueError as error:
                what = "half a surrogate pair is no text" if isinstance(error, UnicodeEncodeError) else error
                raise ValueError(f"{self.path}:{number}: {what}") from None
        if not self.queries:
            raise ValueError(f"{self.path} holds no records")

    def lists(self, corpus: Corpus, again: Literal["last", "highest"]) -> Lists:
        """What was read."""
        query, rows, labels, scores = (np.array(values) for values in self.entries)
        queries = Queries(list(self.queries), list(self.queries.values()))
        return Lists.of(queries, corpus, query, rows, labels, scores if len(scores) else None, again=again)

    def _record(self, record: Record) -> Iterator[Document]:
        query = self._query(record)
        if not record.passages:
            raise ValueError(f"query {record.query!r} lists no passage: give it one, or leave the line out")
        for passage in record.passages:
            row, new = self._row(passage)
            if new:
                yield new
            places, rows, labels, scores = self.entries
            if len(rows) and (len(scores) > 0) == (passage.score is None):
                raise ValueError("a score is given for all passages of a file or for none")
            places.append(query)
            rows.append(row)
            labels.append(passage.label)
            if passage.score is not None:
                scores.append(passage.score)

    def _query(self, record: Record) -> int:
        text = record.query
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f'"query" is to be a text, not {text!r}')
        name = _id(record.id, text)
        if self.queries.setdefault(name, text) != text:
            raise ValueError(f"query {name!r} has another text than before: {text!r}, not {self.queries[name]!r}")
        return self.query_places.setdefault(name, len(self.query_places))

    def _row(self, passage: Listed) -> tuple[int, Document | None]:
        """The row of a passage, and its document where it is new."""
        if not isinstance(passage.text, str) or not isinstance(passage.title, str):
            raise ValueError(f"a passage is to be a text, not {passage.title or passage.text!r}")
        both = f"{passage.title}\n{passage.text}"
        name, digest = _id(passage.id, both), int(_digest(both), 16)
        row = self.rows.setdefault(name, len(self.rows))
        if row < len(self.digests):
            if self.digests[row] != digest:
                raise ValueError(f"passage {name!r} has another text than before: {passage.text!r}")
            return row, None
        self.digests.append(digest)
        return row, Document(name, passage.title, passage.text)


def _id(given: Any, text: str) -> str:
    if given is None:
        return _digest(text)
    if isinstance(given, bool) or not isinstance(given, str | int) or given == "":
        raise ValueError(f"an id is a text or an integer, not {given!r}")
    return str(given)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
