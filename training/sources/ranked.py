"""Ranked documents in a JSONL file, such as those that BM25 found."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from retrieval.corpus import read_records
from retrieval.ids import DocIds
from retrieval.lists import Lists
from retrieval.protocols import Dataset
from training.listed_texts import data_file, file_digest, is_number

__all__ = ["Ranked"]

Score = Literal["rank", "similarity", "label"]
BLOCK = 1 << 20  # documents that are looked up at a time


class Ranked:
    """Documents of a collection ranked for queries of a split, one line a query, in the form of SyCL's files.

    A line is {"qid": ..., "docid": [...], "score": [...]}. `score` says what the scores are: in one file they are the
    "rank", where the lowest comes first, in another a "similarity", where the highest does, or a "label".
    """

    def __init__(self, dataset: Dataset, path: Path, score: Score, label: float | None = None, split: str = "train"):
        """`label` is that of every document, unless scores are labels; `path` is below RETRIEVAL_DATA, or anywhere.

        Where all have one label it is no judgement, and what `selected` leaves out may be a negative elsewhere.
        """
        if score not in get_args(Score):
            raise ValueError(f"there is no score {score!r}: choose from {', '.join(get_args(Score))}")
        if (label is None) != (score == "label"):
            raise ValueError(f"score is {score!r} and label is {label}: give a label unless the scores are labels")
        self.dataset, self.path, self.score, self.label, self.split = dataset, path, score, label, split

    def lists(self) -> Lists:
        """Documents best first. Raises ValueError with file and line for what is no such record."""
        collection, path = self.dataset.open(), data_file(self.path)
        queries = collection.queries(self.split)
        place = {name: number for number, name in enumerate(queries.ids)}
        found = _Rows(collection.corpus.ids)
        others = 0
        for number, record in read_records(path):
            name, docs, labels = self._record(f"{path}:{number}", record)
            others += name not in place
            if name in place:
                found.add(place[name], docs, labels)
        query, rows, labels = found.arrays()
        known = rows >= 0
        counts = {
            f"ranked queries not in {self.split}": others,
            "ranked documents not in the corpus": int((~known).sum()),
        }
        counts = {what: count for what, count in counts.items() if count}
        made = Lists.of(queries, collection.corpus, query[known], rows[known], labels[known], counts=counts)
        return replace(made, judged=self.label is None)

    def provenance(self) -> dict[str, str]:
        """What the file was."""
        return {"sha256": file_digest(data_file(self.path))}

    def _record(self, where: str, record: Any) -> tuple[str, list[str], np.ndarray]:
        """Query, documents best first, and their labels."""
        fits = isinstance(record, dict) and all(isinstance(record.get(name), list) for name in ("docid", "score"))
        if not fits or "qid" not in record or len(record["docid"]) != len(record["score"]):
            raise ValueError(f'{where}: a line is {{"qid": ..., "docid": [...], "score": [...]}}, as many of both')
        if not all(map(is_number, record["score"])):
            raise ValueError(f"{where}: scores are to be numbers")
        scores = np.array(record["score"], np.float32)
        order = np.argsort(scores if self.score == "rank" else -scores, kind="stable")
        labels = scores[order] if self.label is None else np.full(len(order), self.label, np.float32)
        return str(record["qid"]), [str(record["docid"][i]) for i in order], labels


class _Rows:
    """Documents by row, looked up in blocks: a file may name more ids than memory should hold."""

    def __init__(self, ids: DocIds):
        self.ids, self.pending = ids, list[str]()
        self.query, self.rows, self.labels = array("i"), array("i"), array("f")

    def add(self, query: int, docs: Sequence[str], labels: np.ndarray) -> None:
        self.query.frombytes(np.full(len(docs), query, np.int32).tobytes())
        self.labels.frombytes(labels.tobytes())
        self.pending += docs
        if len(self.pending) >= BLOCK:
            self._look_up()

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Query and row int32, label float32, of all that was added; row -1 where there is no such document."""
        self._look_up()
        return np.array(self.query), np.array(self.rows), np.array(self.labels)

    def _look_up(self) -> None:
        if self.pending:
            self.rows.frombytes(self.ids.rows(self.pending).astype(np.int32).tobytes())
            self.pending = []
