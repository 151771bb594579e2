"""LIMIT, the collection on which single vectors fail."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from retrieval.collection import Collection, write_collection
from retrieval.corpus import Document
from retrieval.locate import cache_folder, missing, on_disk

__all__ = ["Limit"]

HUB = {"limit": "orionweller/LIMIT", "limit-small": "orionweller/LIMIT-small"}


class Limit:
    """LIMIT or LIMIT-small (Weller et al. 2025): below RETRIEVAL_DATA, else from the Hugging Face hub."""

    def __init__(self, name: Literal["limit", "limit-small"] = "limit-small"):
        self.name = name

    def open(self) -> Collection:
        """The collection, its one split named `test`. Raises FileNotFoundError that says where it may be put."""
        found = on_disk(self.name, "corpus.jsonl") or on_disk(self.name, "corpus.jsonl.gz")
        return Collection(found or self._from_hub(), self.name)

    def _from_hub(self) -> Path:
        folder = cache_folder() / "datasets" / self.name
        if folder.is_dir():
            return folder
        from datasets import load_dataset

        try:
            parts = {part: load_dataset(HUB[self.name], part) for part in ("corpus", "queries", "default")}
        except Exception as error:
            raise FileNotFoundError(missing(f"dataset {self.name!r}", self.name, "corpus.jsonl", error)) from error
        corpus, queries, qrels = (rows for part in parts.values() for rows in list(part.values())[:1])
        judged: dict[str, dict[str, int]] = {}
        for row in qrels:
            judged.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
        documents = (Document(row["_id"], row.get("title") or "", row["text"]) for row in corpus)
        texts = [(row["_id"], row["text"]) for row in queries]
        write_collection(folder, documents, texts, {"test": judged}, shared=True)
        return folder
