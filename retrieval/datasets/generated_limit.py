"""A collection in the manner of LIMIT that needs no download."""

from __future__ import annotations

import hashlib
import inspect
from typing import Literal

from retrieval import limit
from retrieval.collection import Collection, write_collection
from retrieval.locate import cache_folder

__all__ = ["GeneratedLimit"]


class GeneratedLimit:
    """LIMIT's construction (Weller et al. 2025) with attributes and names of our own; splits train, dev and test."""

    def __init__(
        self,
        pattern: Literal["dense", "random", "cycle", "disjoint"] = "dense",
        k: int = 2,
        documents: int = 46,
        queries: int = 1000,
        distractors: int = 954,
        items: int = 45,
        train_queries: int = 1000,
        dev_queries: int = 100,
        seed: int = 0,
    ):
        """`documents` people answer `queries` questions, each by `k` of them, in each split; see retrieval.limit."""
        self.settings = dict(
            pattern=pattern,
            k=k,
            documents=documents,
            queries=queries,
            distractors=distractors,
            items=items,
            train_queries=train_queries,
            dev_queries=dev_queries,
            seed=seed,
        )

    def open(self) -> Collection:
        """The collection, made once. Raises ValueError for settings that cannot be met."""
        code = hashlib.sha256(inspect.getsource(limit).encode()).hexdigest()
        key = hashlib.sha256(f"{sorted(self.settings.items())} {code}".encode()).hexdigest()[:16]
        folder = cache_folder() / "datasets" / "generated_limit" / key
        if not folder.is_dir():
            made = limit.generate(**self.settings)  # type: ignore[arg-type]
            queries = [query for split in made.splits.values() for query in split.queries]
            judged = {name: split.qrels for name, split in made.splits.items() if split.qrels}
            write_collection(folder, made.documents, queries, judged, shared=True)
        return Collection(folder, "generated-limit")
