"""A collection whose queries are misspelt."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

from retrieval import typos
from retrieval.collection import Collection
from retrieval.files import digest, whole_folder
from retrieval.locate import cache_folder
from retrieval.protocols import Dataset
from retrieval.types import Queries
from retrieval.typos import Kind, check_typos, misspelt

__all__ = ["Typos"]


class Typos:
    """Another dataset with typos in its queries, so that any recipe measures how much these cost; documents stay.

    Every query of `splits`, None for all, is misspelt as retrieval.typos.with_typos has it. One that holds no word to
    misspell stays as it is. A query that several splits judge is the same in all.
    """

    def __init__(
        self,
        dataset: Dataset,
        splits: list[str] | None = None,
        rate: float = 0.1,
        kinds: list[Kind] | None = None,
        seed: int = 0,
    ):
        """`rate` is the share of a query's words with a typo, at least one word; `kinds` None draws from all."""
        self.kinds = check_typos(rate, kinds)
        self.dataset, self.splits, self.rate, self.seed = dataset, splits, rate, seed

    def open(self) -> Collection:
        """The collection, made once. Raises ValueError for a split that the dataset has not."""
        source = self.dataset.open().by_people()
        queries = self._queries(source)
        folder = cache_folder() / "datasets" / "typos" / self._key(source)
        if not folder.is_dir():
            with whole_folder(folder, shared=True) as part:
                _write(part, source, queries)
        found = Collection(folder, f"{source.name} with typos", source.excludes_self)
        found.corpus = source.corpus  # ingested once for both
        return found

    def _queries(self, source: Collection) -> Queries:
        """All that are judged, those of the chosen splits misspelt."""
        texts: dict[str, str] = {}
        for split in source.splits():
            asked = source.queries(split)
            texts |= dict(zip(asked.ids, asked.texts, strict=True))
        for split in source.splits() if self.splits is None else self.splits:
            changed, _ = misspelt(source.queries(split), self.seed, self.rate, self.kinds)
            texts |= dict(zip(changed.ids, changed.texts, strict=True))
        return Queries(list(texts), list(texts.values()))

    def _key(self, source: Collection) -> str:
        made_by = inspect.getsource(typos) + inspect.getsource(inspect.getmodule(Typos))  # type: ignore[arg-type]
        return digest([source.provenance(), self.splits, self.rate, self.kinds, self.seed, made_by])


def _write(folder: Path, source: Collection, queries: Queries) -> None:
    for path in source.folder.glob("corpus.jsonl*"):
        (folder / path.name).symlink_to(path.resolve())
    with open(folder / "queries.jsonl", "w", encoding="utf-8") as file:
        for name, text in zip(queries.ids, queries.texts, strict=True):
            own = {"instruction": source.instructions[name]} if name in source.instructions else {}
            file.write(json.dumps({"_id": name, "text": text, **own}, ensure_ascii=False) + "\n")
    (folder / "qrels").mkdir()
    for split in source.splits():
        judged = (source.qrels_folder / f"{split}.tsv").read_bytes()
        (folder / "qrels" / f"{split}.tsv").write_bytes(judged)
