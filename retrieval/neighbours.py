"""The corpus graph: the documents nearest to each document, found once, in numbered files that are whole or absent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from retrieval.composed import found, settings
from retrieval.corpus import Corpus
from retrieval.files import digest, whole_file
from retrieval.order import PAD
from retrieval.protocols import Retriever
from retrieval.types import Dense, Queries
from retrieval.vectors import VectorStore

__all__ = ["Neighbours"]

PART = 8192  # documents per file: what a kill may cost
VERSION = 1


class Neighbours:
    """The graph of a corpus, memory-mapped: int32 [documents, k], nearest first, the document itself left out."""

    def __init__(self, paths: Sequence[Path], documents: int, k: int):
        """Open the files. Raises ValueError that names the first one that is not what was written."""
        self.parts = [np.load(path, mmap_mode="r") for path in paths]
        for i, (path, part) in enumerate(zip(paths, self.parts, strict=True)):
            wanted = (min(PART, documents - i * PART), k)
            if part.dtype != np.int32 or part.shape != wanted:
                raise ValueError(f"{path} holds {part.dtype} {part.shape}, not int32 {wanted}: delete it")

    @classmethod
    def build(cls, corpus: Corpus, retriever: Retriever, k: int, folder: Path) -> Neighbours:
        """The graph that an opened retriever gives, below `folder`; files that are there are kept, so a kill goes on.

        A document is searched by its stored vector where the retriever has dense ones, else by its text as a query.
        """
        about = {"version": VERSION, "corpus": corpus.fingerprint, "k": k, "retriever": settings(retriever)}
        place = folder / f"{corpus.fingerprint[:16]}-{digest(about)}"
        spans = [(start, min(start + PART, len(corpus))) for start in range(0, len(corpus), PART)]
        paths = [place / f"part-{number:05d}.npy" for number in range(len(spans))]
        todo = [number for number, path in enumerate(paths) if not path.is_file()]
        for number in tqdm(todo, desc="corpus graph", unit=" parts", disable=len(todo) < 2):
            _write(paths[number], _nearest(corpus, retriever, np.arange(*spans[number]), k))
        if todo:
            with whole_file(place / "about.json") as part:
                part.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        return cls(paths, len(corpus), k)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """int32 [rows, k], -1 where a document has fewer."""
        rows = np.asarray(rows, np.int64)
        nearest = np.empty((len(rows), self.parts[0].shape[1]), np.int32)
        for number in np.unique(rows // PART):
            places = np.flatnonzero(rows // PART == number)
            nearest[places] = self.parts[number][rows[places] - number * PART]
        return nearest


def _nearest(corpus: Corpus, retriever: Retriever, rows: np.ndarray, k: int) -> np.ndarray:
    run = found(retriever, _as_queries(corpus, retriever, rows), k + 1, corpus)
    kept = (run.rows != rows[:, None]) & (run.rows != PAD)
    first = np.argsort(~kept, axis=1, kind="stable")[:, :k]  # those that are kept, in their order
    nearest = np.full((len(rows), k), PAD, np.int32)
    taken = np.where(np.take_along_axis(kept, first, 1), np.take_along_axis(run.rows, first, 1), PAD)
    nearest[:, : taken.shape[1]] = taken
    return nearest


def _as_queries(corpus: Corpus, retriever: Retriever, rows: np.ndarray) -> Queries:
    store: Any = getattr(retriever, "store", None)
    vectors = Dense(store.rows(rows)) if isinstance(store, VectorStore) else None
    texts = [""] * len(rows) if vectors else corpus.texts(rows)
    return Queries(corpus.ids.take(rows), texts, representations=vectors)


def _write(path: Path, nearest: np.ndarray) -> None:
    with whole_file(path) as part, open(part, "wb") as file:
        np.save(file, nearest)
