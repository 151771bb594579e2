"""Any collection that ir_datasets knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retrieval.collection import Collection, write_collection
from retrieval.corpus import Document
from retrieval.datasets.beir import SELF_HITS
from retrieval.locate import cache_folder, missing

__all__ = ["IrDatasets"]


class IrDatasets:
    """A dataset by its ir_datasets id, such as `beir/scifact/test`; its split is named after the last part."""

    def __init__(self, id: str):  # noqa: A002 - the name ir_datasets gives it
        self.id = id

    def open(self) -> Collection:
        """The collection. Raises FileNotFoundError where it is neither on disk nor to be downloaded."""
        folder = cache_folder() / "datasets" / "ir_datasets" / self.id.replace("/", "--")
        if not folder.is_dir():
            self._write(folder)
        return Collection(folder, self.id.replace("/", "-"), excludes_self=not SELF_HITS.isdisjoint(self.id.split("/")))

    def _write(self, folder: Path) -> None:
        import ir_datasets

        try:
            dataset = ir_datasets.load(self.id)
        except KeyError:
            raise ValueError(f"ir_datasets {ir_datasets.__version__} knows no dataset {self.id!r}") from None
        for part in ("docs", "queries", "qrels"):
            if not dataset.has(part):
                raise ValueError(
                    f"{self.id} has no {part}; name a part of it that has documents, queries and judgements"
                )
        judged: dict[str, dict[str, int]] = {}
        try:
            for one in dataset.qrels_iter():
                judged.setdefault(one.query_id, {})[one.doc_id] = one.relevance
            texts = [(query.query_id, query.default_text()) for query in dataset.queries_iter()]
            write_collection(folder, _documents(dataset), texts, {self.id.split("/")[-1]: judged}, shared=True)
        except OSError as error:
            raise FileNotFoundError(missing(f"dataset {self.id!r}", self.id, "corpus.jsonl", error)) from error


def _whole(doc: Any) -> Document:
    return Document(doc.doc_id, "", doc.default_text())


def _documents(dataset: Any) -> Iterator[Document]:
    for doc in dataset.docs_iter():
        text = getattr(doc, "text", None)  # without one, the default text holds the title too
        yield Document(doc.doc_id, getattr(doc, "title", "") or "", text) if text else _whole(doc)
