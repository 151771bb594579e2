"""Token vectors of documents as searches want them: in tiles of whole documents, or a few documents at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.types import Representations, Tokens

if TYPE_CHECKING:
    from retrieval.token_vectors import TokenStore

__all__ = ["TokenTiles", "checked"]


class TokenTiles:
    """A TokenStore, or Tokens in memory, behind one face."""

    def __init__(self, vectors: TokenStore | Tokens, tokens: int):
        """`tokens` is about how many a tile holds; a document is never cut."""
        self.vectors, self.tokens = vectors, tokens
        self.offsets = np.asarray(vectors.offsets, np.int64)
        self.lengths = np.diff(self.offsets)
        self.width = int(vectors.vectors.shape[1] if isinstance(vectors, Tokens) else vectors.shape[1])

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[tuple[int, Tokens]]:
        """First row and documents of each tile."""
        whole: Any = [(0, self.vectors)] if isinstance(self.vectors, Tokens) else self.vectors.tiles()
        for first, part in whole:
            for start, stop in self._cuts(part.offsets):
                offsets = part.offsets[start : stop + 1]
                # a copy: torch wants memory it may write to, a read-only map is none
                yield (
                    first + start,
                    Tokens(np.array(part.vectors[offsets[0] : offsets[-1]], np.float32), offsets - offsets[0]),
                )

    def rows(self, rows: np.ndarray) -> Tokens:
        """These documents."""
        return self.vectors.take(rows) if isinstance(self.vectors, Tokens) else self.vectors.rows(rows)

    def _cuts(self, offsets: np.ndarray) -> Iterator[tuple[int, int]]:
        start = 0
        while start < len(offsets) - 1:
            stop = int(np.searchsorted(offsets, offsets[start] + self.tokens, side="right")) - 1
            stop = min(max(stop, start + 1), len(offsets) - 1)
            yield start, stop
            start = stop


def checked(queries: Representations, width: int, what: str) -> Tokens:
    """The queries. Raises TypeError for another kind, ValueError for another width and for NaN."""
    if not isinstance(queries, Tokens):
        raise TypeError(f"{what} searches token vectors, not {type(queries).__name__}: take an encoder such as colbert")
    if queries.vectors.shape[1] != width:
        wide = queries.vectors.shape[1]
        raise ValueError(f"queries have {wide} token dimensions, the index has {width}: not of the same encoder")
    if not np.isfinite(queries.vectors).all():
        bad = np.flatnonzero(~np.isfinite(queries.vectors).all(axis=1))[0]
        raise ValueError(f"query {int(np.searchsorted(queries.offsets, bad, side='right')) - 1} is not finite")
    return queries
