"""CRUMB, retrieval with complex queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from retrieval.collection import Collection, write_collection
from retrieval.corpus import Document
from retrieval.files import digest
from retrieval.locate import cache_folder, missing, on_disk

__all__ = ["Crumb"]

Name = Literal[
    "paper_retrieval",
    "set_operation_entity_retrieval",
    "legal_qa",
    "tip_of_the_tongue",
    "clinical_trial",
    "code_retrieval",
    "stack_exchange",
    "theorem_retrieval",
]
MAX_P = ("set_operation_entity_retrieval", "tip_of_the_tongue", "clinical_trial")  # judged by document alone
WHOLE = ("paper_retrieval", "code_retrieval", "theorem_retrieval")  # whose documents are passages already
BINARY = "paper_retrieval"  # the one whose P, R and RR have judgements of their own


class Crumb:
    """One task of CRUMB (Killingback and Zamani 2025), its passages or whole documents, in the format of its authors.

    Splits are `evaluation` (or `validation`), and for paper_retrieval `evaluation_binary`. Passages of the tasks in
    MAX_P are judged by document: retrieval.max_p makes documents of them.
    """

    def __init__(
        self,
        name: Name,
        queries: Literal["evaluation", "validation"] = "evaluation",
        documents: Literal["passages", "whole"] = "passages",
        instructions: bool = True,
        path: str = "crumb",
        hub: str = "jfkback/crumb",
    ):
        """`path` is a copy of the repository `hub`; `instructions` False leaves them out, for encoders without any."""
        self.name, self.queries, self.documents, self.instructions = name, queries, documents, instructions
        self.path, self.hub = path, hub

    def open(self) -> Collection:
        """The collection, made once. Raises FileNotFoundError that says where it may be put."""
        return self._collection

    @cached_property
    def _collection(self) -> Collection:
        source = on_disk(self.path, "README.md")
        settings = [self.name, self.queries, self.documents] + ["plain"] * (not self.instructions)
        copy = "hub" if source is None else _stamp(source)
        folder = cache_folder() / "datasets" / "crumb" / copy / "-".join(settings)
        if not folder.is_dir():
            with TemporaryDirectory() as scratch:  # the cache of `datasets` does not see that files of a copy changed
                self._write(source, scratch if source else None, folder)
        return Collection(folder, f"crumb-{self.name}")

    def _write(self, source: Path | None, scratch: str | None, folder: Path) -> None:
        from datasets import load_dataset

        whole = self.documents == "whole" and self.name not in WHOLE
        by_document = self.name in MAX_P
        corpus = "full_document_corpus" if whole else "passage_corpus"
        try:
            asked, held = (
                load_dataset(str(source or self.hub), part, split=self.name, cache_dir=scratch)
                for part in (f"{self.queries}_queries", corpus)
            )
        except (OSError, ValueError) as error:
            raise FileNotFoundError(missing("dataset 'crumb'", self.path, "README.md", error)) from error
        _refuse_other_rule(asked, by_document)
        judged: dict[str, Any] = {
            self.queries: _judged(asked, "full_document_qrels" if whole or by_document else "passage_qrels")
        }
        if self.name == BINARY:
            judged[f"{self.queries}_binary"] = _judged(asked, "passage_binary_qrels")
        texts = [(str(row["query_id"]), row["query_content"]) for row in asked]
        own = {str(row["query_id"]): row["instruction"] for row in asked if self.instructions and row["instruction"]}
        documents = _documents(held, by_document and not whole)
        write_collection(folder, documents, texts, judged, shared=True, instructions=own)


def _judged(rows: Any, key: str) -> dict[str, dict[str, int]]:
    """Grades are written as floats. Raises ValueError for one that is no whole number."""
    return {str(row["query_id"]): {str(one["id"]): _grade(row, one) for one in row[key]} for row in rows}


def _grade(row: Mapping[str, Any], one: Mapping[str, Any]) -> int:
    grade = float(one["label"])
    if not grade.is_integer():
        raise ValueError(
            f"CRUMB: query {row['query_id']!r} has {one['id']!r} judged {grade}, and grades are whole numbers here: "
            "the data is of another version"
        )
    return int(grade)


def _documents(rows: Any, by_document: bool) -> Iterator[Document]:
    for row in rows:
        name, parent = str(row["document_id"]), row.get("parent_id")
        if by_document and parent is not None and str(parent) != name.partition(":")[0]:
            raise ValueError(
                f"CRUMB: passage {name!r} is of document {parent!r}, which is not what stands before its first colon: "
                "MaxP would take it for another document's"
            )
        yield Document(name, "", row["document_content"])


def _refuse_other_rule(rows: Any, max_p: bool) -> None:
    """Raises ValueError where the queries say otherwise than we do whether documents count by their best passage."""
    for row in rows:
        if bool(row["use_max_p"]) != max_p:
            raise ValueError(
                f"CRUMB: query {row['query_id']!r} has use_max_p {row['use_max_p']}, and its task is measured "
                f"{'with' if max_p else 'without'} MaxP as far as is known here: the data is of another version"
            )


def _stamp(source: Path) -> str:
    """A name for the state of a copy: its files, with size and time."""
    files = sorted(path for path in source.rglob("*") if path.is_file() and ".git" not in path.parts)
    facts: list[Mapping[str, Any]] = [
        {"path": str(path.relative_to(source)), "size": path.stat().st_size, "time": path.stat().st_mtime_ns}
        for path in files
    ]
    return digest([str(source.resolve()), facts])
