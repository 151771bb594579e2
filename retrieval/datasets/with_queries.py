"""A collection with queries and judgements of other files, such as weak queries that lie beside it."""

from __future__ import annotations

import json
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from retrieval.asking import cut_words
from retrieval.collection import Collection
from retrieval.corpus import read_jsonl
from retrieval.files import digest, whole_folder
from retrieval.locate import cache_folder
from retrieval.model_files import sha256
from retrieval.protocols import Dataset

__all__ = ["WithQueries"]


class WithQueries:
    """The collection of a dataset with one split more, of queries and judgements that are in files of their own."""

    def __init__(self, dataset: Dataset, queries: str, qrels: str, split: str = "weak", words: int | None = 50):
        """`queries` (JSON lines) and `qrels` are paths, relative ones below the collection's folder.

        The new queries are cut to `words`, as SPTAR does. What was there stays: corpus, queries and splits.
        """
        if words is not None and words < 1:
            raise ValueError(f"words is {words}; a query has at least 1 word")
        self.dataset, self.queries, self.qrels, self.split, self.words = dataset, queries, qrels, split, words

    def open(self) -> Collection:
        """The collection, in the cache. Raises ValueError for a split or query id that is there already."""
        return self._collection

    @cached_property
    def _collection(self) -> Collection:
        plain = self.dataset.open().by_people()
        if self.split in plain.splits():
            raise ValueError(f"{plain.name} has a split {self.split} already: name the new one otherwise")
        files = [plain.folder / self.queries, plain.folder / self.qrels]
        lacking = next((path for path in files if not path.is_file()), None)
        if lacking:
            raise FileNotFoundError(f"{lacking} is not there: paths of queries and qrels are below {plain.folder}")
        old = [path for path in sorted(plain.folder.glob("queries.jsonl*")) if path.suffix in (".jsonl", ".gz")]
        judged = sorted(plain.qrels_folder.glob("*.tsv"))
        read = [sha256([*files, *old, *judged]), self.split, self.words, "with instructions"]
        named = digest([str(plain.folder.resolve()), *read])
        folder = cache_folder() / "datasets" / "with_queries" / f"{plain.name}-{named}"
        if not folder.is_dir():
            with whole_folder(folder, shared=True) as part:
                self._write(plain, files, old[0], part)
        return Collection(folder, plain.name, excludes_self=plain.excludes_self)

    def _write(self, plain: Collection, files: list[Path], old: Path, part: Path) -> None:
        for name in ("corpus.jsonl", "corpus.jsonl.gz"):
            if (plain.folder / name).is_file():
                (part / name).symlink_to((plain.folder / name).resolve())  # ingested under the same name, once
        shutil.copytree(plain.qrels_folder, part / "qrels")
        shutil.copyfile(files[1], part / "qrels" / f"{self.split}.tsv")
        kept = {str(one["_id"]): {"text": one.get("text", ""), **_instruction(one)} for _, one in read_jsonl(old)}
        for number, record in read_jsonl(files[0]):
            name, text = str(record["_id"]), record.get("text", "")
            if name in kept:
                raise ValueError(f"{files[0]}:{number}: query id {name!r} is given twice, here or in {old}")
            kept[name] = {"text": cut_words(text, self.words)[0], **_instruction(record)}
        lines = (json.dumps({"_id": name, **own}, ensure_ascii=False) + "\n" for name, own in kept.items())
        (part / "queries.jsonl").write_text("".join(lines), encoding="utf-8")


def _instruction(record: dict[str, Any]) -> dict[str, str]:
    return {"instruction": record["instruction"]} if record.get("instruction") else {}
