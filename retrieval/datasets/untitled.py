"""A collection whose documents are their texts alone."""

from __future__ import annotations

from functools import cached_property

from retrieval.collection import Collection, write_collection
from retrieval.files import digest
from retrieval.locate import cache_folder
from retrieval.protocols import Dataset

__all__ = ["Untitled"]


class Untitled:
    """The collection of a dataset without the titles of its documents; queries and judgements are the dataset's."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def open(self) -> Collection:
        """The collection, in the cache."""
        return self._collection

    @cached_property
    def _collection(self) -> Collection:
        plain = self.dataset.open().by_people()
        about = plain.provenance()
        named = digest([about["corpus"], about["queries.jsonl"], about["qrels"]])
        folder = cache_folder() / "datasets" / "untitled" / f"{plain.name}-{named}"
        if not folder.is_dir():
            judged = {split: plain.qrels(split).to_dict() for split in plain.splits()}
            documents = (document._replace(title="") for document in plain.corpus)
            texts, own = plain.every_query(), plain.instructions
            write_collection(folder, documents, texts, judged, shared=True, instructions=own)
        return Collection(folder, f"{plain.name} untitled", plain.excludes_self)
