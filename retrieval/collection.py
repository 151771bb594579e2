"""A collection in BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv. Every dataset comes down to one."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from retrieval.corpus import Corpus, Document, read_documents, read_jsonl
from retrieval.files import digest, whole_folder
from retrieval.ids import DuplicateId
from retrieval.locate import cache_folder
from retrieval.qrels_file import read_qrels
from retrieval.types import Qrels, Queries

__all__ = ["Collection", "write_collection"]

log = logging.getLogger(__name__)


class Collection:
    """Documents, queries and judgements in one folder. Documents are ingested into the cache when first needed."""

    def __init__(
        self,
        folder: Path,
        name: str | None = None,
        excludes_self: bool = False,
        qrels: str = "qrels",
        judged: Mapping[str, Qrels] | None = None,
    ):
        """`qrels` is the folder of judgements, or `judged` gives those of each split.

        `excludes_self` drops results that carry the query's own id.
        """
        self.folder, self.qrels_folder, self.judged = Path(folder), Path(folder) / qrels, judged
        self.name, self.excludes_self = name or self.folder.resolve().name, excludes_self

    @cached_property
    def corpus(self) -> Corpus:
        """The documents. Raises ValueError with file and line for a record that cannot be one."""
        path = self._file("corpus.jsonl")
        stat = path.stat()
        key = hashlib.sha256(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
        folder = cache_folder() / "corpora" / f"{self.name}-{key}"
        if (folder / "corpus.json").is_file():
            return Corpus(folder)
        try:
            return Corpus.build(read_documents(path), folder, shared=True)
        except DuplicateId as error:
            lines = [str(number) for number, record in read_jsonl(path) if str(record["_id"]) == error.args[1]]
            raise ValueError(f"{path}:{lines[1]}: {error}, first on line {lines[0]}") from None
        except ValueError as error:
            raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None

    def splits(self) -> list[str]:
        """The splits that have judgements."""
        if self.judged is not None:
            return sorted(self.judged)
        return sorted(path.stem for path in self.qrels_folder.glob("*.tsv"))

    def qrels(self, split: str) -> Qrels:
        """The judgements of a split. Raises ValueError that lists the splits for one that does not exist."""
        if split not in self.splits():
            known = ", ".join(self.splits()) or "none"
            raise ValueError(f"{self.name} has no split {split!r}; {self.qrels_folder} holds: {known}")
        return read_qrels(self.qrels_folder / f"{split}.tsv") if self.judged is None else self.judged[split]

    def by_people(self) -> Collection:
        """This collection, for what copies judgements without their judge. Raises ValueError where a model judged."""
        for split, qrels in (self.judged or {}).items():
            if qrels.judge is not None:
                raise ValueError(
                    f"{self.name}: split {split} was judged by {qrels.judge}, which is kept apart from what people "
                    "judged: put model_judged around the other dataset, not within it"
                )
        return self

    def queries(self, split: str) -> Queries:
        """The judged queries of a split, in the order of queries.jsonl. Raises ValueError for one without text.

        They carry instructions where a line of queries.jsonl has an `instruction`, as those of CRUMB have.
        """
        judged = set(self.qrels(split).query_ids)
        chosen = {name: text for name, text in self._queries.items() if name in judged}
        if len(chosen) < len(judged):
            lacking = sorted(judged - set(chosen))
            raise ValueError(
                f"{self.qrels_folder}/{split}.tsv judges {len(lacking)} queries that are not in queries.jsonl, "
                f"such as {lacking[0]!r}"
            )
        empty = [name for name, text in chosen.items() if not text.strip()]
        if empty:
            log.warning("%s %s: %d queries have no text, such as %r", self.name, split, len(empty), empty[0])
        instructions = [self.instructions.get(name, "") for name in chosen]
        return Queries(list(chosen), list(chosen.values()), instructions if any(instructions) else None)

    def every_query(self) -> Mapping[str, str]:
        """The text of each query of queries.jsonl by its id, judged or not."""
        return self._queries

    def counts(self, split: str) -> dict[str, int]:
        """What a split holds, and what in it is odd: judgements of documents that the corpus lacks, empty queries."""
        qrels, queries = self.qrels(split), self.queries(split)
        unknown = int(np.count_nonzero(self.corpus.ids.rows(qrels.doc_ids) < 0))
        return {
            "queries": len(queries),
            "judgements": len(qrels),
            "judgements of unknown documents": unknown,
            "empty queries": sum(not text.strip() for text in queries.texts),
        }

    def provenance(self) -> dict[str, Any]:
        """Where the data came from and what it was, for the manifest."""
        if self.judged is None:
            digests = {path.name: _sha256(path) for path in sorted(self.qrels_folder.glob("*.tsv"))}
        else:
            digests = {f"{split}.tsv": f"{one.judge}: {digest(one.to_dict())}" for split, one in self.judged.items()}
        return {
            "collection": self.name,
            "folder": str(self.folder.resolve()),
            "corpus": self.corpus.fingerprint,
            "documents": len(self.corpus),
            "empty documents": self.corpus.empty,
            "queries.jsonl": _sha256(self._file("queries.jsonl")),
            "qrels": digests,
        }

    @cached_property
    def _queries(self) -> dict[str, str]:
        return {name: text for name, (text, _) in self._asked.items()}

    @cached_property
    def instructions(self) -> Mapping[str, str]:
        """The instruction of each query of queries.jsonl that has one, by its id."""
        return {name: instruction for name, (_, instruction) in self._asked.items() if instruction}

    @cached_property
    def _asked(self) -> dict[str, tuple[str, str]]:
        path = self._file("queries.jsonl")
        found: dict[str, tuple[str, str]] = {}
        for number, record in read_jsonl(path):
            name, text, instruction = str(record["_id"]), record.get("text"), record.get("instruction") or ""
            if not isinstance(text, str):
                raise ValueError(f'{path}:{number}: query {name!r} has no "text"')
            if not isinstance(instruction, str):
                raise ValueError(f'{path}:{number}: query {name!r} has an "instruction" that is no text')
            if name in found:
                raise ValueError(f"{path}:{number}: query id {name!r} is given twice")
            found[name] = text, instruction
        return found

    def _file(self, name: str) -> Path:
        for path in (self.folder / name, self.folder / f"{name}.gz"):
            if path.is_file():
                return path
        raise FileNotFoundError(f"{self.folder} has no {name}: a collection holds corpus.jsonl, queries.jsonl, qrels/")


def write_collection(
    folder: Path,
    documents: Iterable[Document | tuple[str, str, str]],
    queries: Mapping[str, str] | Iterable[tuple[str, str]],
    qrels: Mapping[str, Mapping[str, Mapping[str, int]]],
    shared: bool = False,
    instructions: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write a collection in BEIR layout; `qrels` is split -> query id -> document id -> grade.

    `instructions` are by query id. Raises FileExistsError for a folder that holds something, unless it is `shared`, as
    whole_folder has it.
    """
    pairs = queries.items() if isinstance(queries, Mapping) else queries
    with whole_folder(folder, shared) as part:
        _write_jsonl(part / "corpus.jsonl", ({"_id": i, "title": title, "text": text} for i, title, text in documents))
        own = {name: {"instruction": one} for name, one in instructions.items()}
        _write_jsonl(part / "queries.jsonl", ({"_id": name, "text": text, **own.get(name, {})} for name, text in pairs))
        (part / "qrels").mkdir()
        for split, judged in qrels.items():
            with open(part / "qrels" / f"{split}.tsv", "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
                writer.writerow(["query-id", "corpus-id", "score"])
                writer.writerows((q, d, grade) for q, grades in judged.items() for d, grade in grades.items())


def _write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
