"""The BEIR collections by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retrieval.collection import Collection, write_collection
from retrieval.corpus import Document
from retrieval.locate import cache_folder, missing, on_disk

__all__ = ["Beir"]

SELF_HITS = {"arguana", "quora"}  # their queries are documents of the corpus, and never answers to themselves


class Beir:
    """A BEIR collection (Thakur et al. 2021) by name: below RETRIEVAL_DATA, else from the Hugging Face hub."""

    def __init__(self, name: str, hub: str = "BeIR"):
        """`hub` is the account that holds <name> and <name>-qrels, or a local folder that does."""
        self.name, self.hub = name, hub

    def open(self) -> Collection:
        """The collection. Raises FileNotFoundError that says where it may be put."""
        folder = on_disk(self.name, "corpus.jsonl") or on_disk(self.name, "corpus.jsonl.gz") or self._from_hub()
        return Collection(folder, self.name, excludes_self=self.name in SELF_HITS)

    def _from_hub(self) -> Path:
        folder = cache_folder() / "datasets" / self.hub.replace("/", "--") / self.name
        if folder.is_dir():
            return folder
        from datasets import load_dataset

        try:
            corpus, queries = (
                load_dataset(f"{self.hub}/{self.name}", part, split=part) for part in ("corpus", "queries")
            )
            judged = load_dataset(f"{self.hub}/{self.name}-qrels")
        except Exception as error:
            raise FileNotFoundError(missing(f"dataset {self.name!r}", self.name, "corpus.jsonl", error)) from error
        qrels = {"dev" if split == "validation" else split: _graded(rows) for split, rows in judged.items()}
        texts = ((str(row["_id"]), row["text"]) for row in queries)
        write_collection(folder, _documents(corpus), texts, qrels, shared=True)
        return folder


def _documents(rows: Any) -> Iterator[Document]:
    for row in rows:
        yield Document(str(row["_id"]), row.get("title") or "", row["text"])


def _graded(rows: Any) -> dict[str, dict[str, int]]:
    judged: dict[str, dict[str, int]] = {}
    for row in rows:
        judged.setdefault(str(row["query-id"]), {})[str(row["corpus-id"])] = int(row["score"])
    return judged
