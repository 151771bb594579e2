"""Training data: the passages listed for each query, with labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from retrieval.types import Queries

__all__ = ["Lists", "Passages"]


class Passages(Protocol):
    """Texts by row: a corpus, or several one after the other."""

    fingerprint: str

    def __len__(self) -> int: ...

    def texts(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Title and text of these rows, in the order asked."""


@dataclass(frozen=True, eq=False)
class Lists:
    """Queries, and for each the passages listed for it in the order of their source; ids in memory, texts on disk."""

    queries: Queries
    passages: Passages
    offsets: np.ndarray  # int64 [queries + 1]: the list of query q is offsets[q] to offsets[q + 1]
    rows: np.ndarray  # int32 [listed], of `passages`; a list has no row twice
    labels: np.ndarray  # float32 [listed], grades; what is relevant is told by them
    targets: np.ndarray | None = None  # float32 [listed], a teacher's scores: what a loss is given instead of labels
    times: np.ndarray | None = None  # float64 [queries], how often each comes in an epoch on average; None is once
    counts: Mapping[str, int] = field(default_factory=dict)  # what was left out or made up for on the way here

    def __post_init__(self) -> None:
        listed = int(self.offsets[-1])
        arrays = {"rows": self.rows, "labels": self.labels, "targets": self.targets}
        sizes = {name: len(array) for name, array in arrays.items() if array is not None}
        if len(self.offsets) != len(self.queries) + 1 or set(sizes.values()) != {listed}:
            raise ValueError(
                f"{len(self.queries)} queries, {len(self.offsets) - 1} lists of {listed} passages in all, {sizes}"
            )
        if self.times is not None and len(self.times) != len(self.queries):
            raise ValueError(f"{len(self.times)} times for {len(self.queries)} queries")

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def query(self) -> np.ndarray:
        """int64 [listed], the place of the query of each entry."""
        return np.repeat(np.arange(len(self.queries)), np.diff(self.offsets))

    def fingerprint(self) -> str:
        """The same for the same queries, passages, labels, targets and times."""
        digest = hashlib.sha256(self.passages.fingerprint.encode())
        for array in (self.offsets, self.rows, self.labels, self.targets, self.times):
            digest.update(b"-" if array is None else array.tobytes())
        for text in (*self.queries.ids, *self.queries.texts):
            digest.update(text.encode() + b"\0")
        return digest.hexdigest()
