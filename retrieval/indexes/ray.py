"""Any index, parted over the actors of a Ray cluster, with an exact merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from retrieval.order import PAD, order
from retrieval.protocols import Index
from retrieval.ray_engine import started
from retrieval.types import Representations
from retrieval.vectors import VectorStore

__all__ = ["Ray"]


class Ray:
    """An index of a part of the corpus in each actor; an exact index gives the lists that it gives alone.

    The machines see one file system: each actor opens the stored vectors and reads its rows.
    """

    def __init__(self, index: Index, actors: int = 2, gpus_each: float = 0):
        """`gpus_each` is what an actor asks the cluster for."""
        if actors < 1:
            raise ValueError(f"actors is {actors}: at least 1 is needed")
        self.index, self.actors, self.gpus_each = index, actors, gpus_each

    def build(self, vectors: VectorStore | np.ndarray, rank: np.ndarray) -> None:
        """Part the rows evenly, and index each part where it will be searched."""
        ray = started()
        self.rank, self.parts = rank, []
        bounds = np.linspace(0, len(vectors), min(self.actors, max(len(vectors), 1)) + 1).astype(int)
        where = str(vectors.folder.absolute()) if isinstance(vectors, VectorStore) else ray.put(vectors)
        part = ray.remote(_Part)
        for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            options = {"num_gpus": self.gpus_each} if self.gpus_each else {"num_cpus": 0.1}
            self.parts.append(part.options(**options).remote(self.index, where, start, stop, rank[start:stop]))

    def search(self, queries: Representations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 and scores float32 [queries, min(k, documents)], in the one order."""
        ray = started()
        asked = ray.put(queries)
        found = ray.get([part.search.remote(asked, k) for part in self.parts])
        rows = np.concatenate([rows for rows, _ in found], axis=1)
        scores = np.concatenate([scores for _, scores in found], axis=1)
        return order(rows, scores, self.rank, min(k, len(self.rank)))

    def provenance(self) -> dict[str, Any]:
        """How the index is parted."""
        return {"actors": len(self.parts), "index of each": type(self.index).__name__}


class _Part:
    """The index of the rows from `start` to `stop`, in an actor."""

    def __init__(self, index: Any, where: str | np.ndarray, start: int, stop: int, rank: np.ndarray):
        whole = VectorStore(Path(where)).rows(np.arange(start, stop)) if isinstance(where, str) else where[start:stop]
        self.index, self.start = index, start
        self.index.build(whole, rank)

    def search(self, queries: Representations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the whole corpus, and scores."""
        rows, scores = self.index.search(queries, k)
        return np.where(rows == PAD, PAD, rows + self.start).astype(np.int32), scores
