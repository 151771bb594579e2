"""A collection on disk."""

from __future__ import annotations

from pathlib import Path

from retrieval.collection import Collection
from retrieval.locate import data_folder, on_disk

__all__ = ["Folder"]


class Folder:
    """A folder in BEIR layout, given by its path or by its name below RETRIEVAL_DATA."""

    def __init__(self, path: str, excludes_self: bool = False, qrels: str = "qrels"):
        self.path, self.excludes_self, self.qrels = path, excludes_self, qrels

    def open(self) -> Collection:
        """The collection. Raises FileNotFoundError that says where it was looked for."""
        found = on_disk(self.path, "corpus.jsonl") or on_disk(self.path, "corpus.jsonl.gz")
        if found is None:
            data = data_folder()
            below = f" nor {data / self.path}" if data else "; RETRIEVAL_DATA, which is not set, may name its parent"
            raise FileNotFoundError(f"no collection: {Path(self.path).absolute()} has no corpus.jsonl{below}")
        return Collection(found, excludes_self=self.excludes_self, qrels=self.qrels)
