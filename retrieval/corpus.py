"""The documents of a collection: ingested once in bounded memory, then memory-mapped; row = position of ingest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from retrieval.columns import lines
from retrieval.files import whole_folder
from retrieval.ids import DocIds, id_rank

__all__ = ["Corpus", "Document", "read_documents"]

CHUNK = 4096  # documents per Arrow record batch: what one look-up decodes at most
_SCHEMA = pa.schema([("title", pa.large_string()), ("text", pa.large_string())])


class Document(NamedTuple):
    """One document, as a collection's files hold it."""

    id: str
    title: str
    text: str


class Corpus:
    """Memory-mapped documents. `texts` is title, space, text, as BEIR and MTEB encode it."""

    def __init__(self, folder: Path):
        """Open a folder that `Corpus.build` wrote. Raises ValueError where it is not whole."""
        self.folder = Path(folder)
        about = json.loads((self.folder / "corpus.json").read_text(encoding="utf-8"))
        self.fingerprint: str = about["fingerprint"]
        self.empty: int = about["empty"]  # documents with neither title nor text
        size = (self.folder / "documents.arrow").stat().st_size
        if size != about["bytes"]:
            raise ValueError(
                f"{self.folder}/documents.arrow has {size} bytes and should have {about['bytes']}: "
                "delete the folder, it is built again from the collection"
            )
        self._reader = pa.ipc.open_file(pa.memory_map(str(self.folder / "documents.arrow")))
        ids = pa.ipc.open_file(pa.memory_map(str(self.folder / "ids.arrow"))).get_batch(0).column(0)
        self.ids = DocIds(ids, self.fingerprint, np.load(self.folder / "rank.npy", mmap_mode="r"))

    @classmethod
    def build(cls, documents: Iterable[Document | tuple[str, str, str]], folder: Path, shared: bool = False) -> Corpus:
        """Ingest (id, title, text) records into `folder`, which appears only when whole.

        Memory holds the ids and one chunk of text. `shared` is that of whole_folder. Raises ValueError for no documents
        and for an id given twice.
        """
        with whole_folder(Path(folder), shared) as part:
            about, ids = _write_documents(documents, part / "documents.arrow")
            if not ids:
                raise ValueError(f"no documents to ingest into {folder}")
            values = pa.array(ids, pa.large_string())
            np.save(part / "rank.npy", id_rank(values))
            with pa.ipc.new_file(str(part / "ids.arrow"), pa.schema([("id", pa.large_string())])) as file:
                file.write_batch(pa.record_batch([values], ["id"]))
            (part / "corpus.json").write_text(json.dumps(about), encoding="utf-8")
        return cls(folder)

    def append(self, documents: Iterable[Document | tuple[str, str, str]], folder: Path) -> Corpus:
        """A larger corpus in another folder: these documents keep their rows, the fingerprint is new."""

        def both() -> Iterator[Document | tuple[str, str, str]]:
            yield from self
            yield from documents

        return Corpus.build(both(), folder)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Document]:
        for number in range(self._reader.num_record_batches):
            titles, texts = (column.to_pylist() for column in self._reader.get_batch(number).columns)
            ids = self.ids.values.slice(number * CHUNK, len(titles)).to_pylist()
            yield from map(Document, ids, titles, texts)

    def batches(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        """Titles and texts, large_string, of up to 4,096 documents at a time, as they lie on disk."""
        for number in range(self._reader.num_record_batches):
            title, text = self._reader.get_batch(number).columns
            yield title, text

    def documents(self, rows: Sequence[int] | np.ndarray) -> list[Document]:
        """The documents of these rows, in the order asked."""
        rows = np.asarray(rows, np.int64)
        found: list[Document] = [None] * len(rows)  # type: ignore[list-item]
        chunks = rows // CHUNK
        for number in np.unique(chunks):
            places = np.flatnonzero(chunks == number)
            batch = self._reader.get_batch(int(number)).take(pa.array(rows[places] - number * CHUNK))
            ids = self.ids.take(rows[places])
            for place, *fields in zip(places, ids, *(column.to_pylist() for column in batch.columns), strict=True):
                found[place] = Document(*fields)
        return found

    def texts(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Title and text of these rows, in the order asked."""
        return [f"{document.title} {document.text}".strip() for document in self.documents(rows)]


def read_documents(path: Path) -> Iterator[Document]:
    """The records of a BEIR corpus.jsonl (or .jsonl.gz). Raises ValueError with file and line."""
    for number, record in read_jsonl(path):
        title, text = record.get("title") or "", record.get("text")
        if not isinstance(text, str):
            raise ValueError(f'{path}:{number}: document {record["_id"]!r} has no "text" (use "" for an empty one)')
        if not isinstance(title, str):
            raise ValueError(f'{path}:{number}: document {record["_id"]!r} has a "title" that is no text: {title!r}')
        if not (_is_unicode(title) and _is_unicode(text)):
            raise ValueError(
                f"{path}:{number}: document {record['_id']!r} holds half a surrogate pair, which is no text"
            )
        yield Document(str(record["_id"]), title, text)


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and record of each line that is not blank. Raises ValueError where there is no object with _id."""
    for number, record in read_records(path):
        if not isinstance(record, dict) or not _is_id(record.get("_id")):
            raise ValueError(f'{path}:{number}: no "_id"; each line is {{"_id": ..., "title": ..., "text": ...}}')
        yield number, record


def read_records(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and what JSON each line that is not blank holds. Raises ValueError with file and line."""
    for number, line in lines(path):
        try:
            record = json.loads(line.decode())
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}:{number}: not UTF-8 (byte {error.start + 1})") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})") from None
        yield number, record


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _write_documents(documents: Iterable, path: Path) -> tuple[dict[str, Any], list[str]]:
    ids: list[str] = []
    digest, empty = hashlib.sha256(), 0
    titles: list[str] = []
    texts: list[str] = []

    def flush() -> None:
        file.write_batch(pa.record_batch([pa.array(titles, _SCHEMA.types[0]), pa.array(texts)], schema=_SCHEMA))
        titles.clear()
        texts.clear()

    with pa.ipc.new_file(str(path), _SCHEMA) as file:
        for name, title, text in documents:
            ids.append(name)
            titles.append(title)
            texts.append(text)
            empty += not (title.strip() or text.strip())
            for part in (name, title, text):
                encoded = part.encode()
                digest.update(len(encoded).to_bytes(8, "little") + encoded)
            if len(titles) == CHUNK:
                flush()
        if titles:
            flush()
    return {"fingerprint": digest.hexdigest(), "empty": empty, "bytes": path.stat().st_size}, ids
