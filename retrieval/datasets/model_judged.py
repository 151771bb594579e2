"""A collection that a language model judged."""

from __future__ import annotations

from pathlib import Path

from retrieval.collection import Collection
from retrieval.judgements import judged_by, read_judgements
from retrieval.protocols import Dataset

__all__ = ["ModelJudged"]


class ModelJudged:
    """Another dataset with what a model judged in the place of what people did, by the name "..., judged by MODEL".

    `python -m retrieval.judge` writes the file. There is one split, that which was judged.
    """

    def __init__(self, dataset: Dataset, judgements: Path):
        self.dataset, self.judgements = dataset, judgements

    def open(self) -> Collection:
        """The collection. Raises ValueError for judgements of other documents, FileNotFoundError for no such file."""
        plain, found = self.dataset.open().by_people(), read_judgements(self.judgements)
        if found.about.get("corpus") != plain.corpus.fingerprint:
            raise ValueError(f"{self.judgements} judges documents of another corpus than that of {plain.name}")
        split = str(found.about["split"])
        judged = {split: found.qrels(plain.queries(split).ids)}
        made = Collection(plain.folder, judged_by(plain.name, found.judge), plain.excludes_self, judged=judged)
        made.corpus = plain.corpus  # ingested once for both
        return made
