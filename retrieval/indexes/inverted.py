"""The inverted index: exact search with weighted terms, for BM25 and learned sparse vectors alike."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval.array_files import ArrayFiles, writing
from retrieval.compiled import chosen
from retrieval.inversion import BLOCK, Inversion
from retrieval.order import PAD
from retrieval.sparse_search import Impacts, Ties, WeightedTerms, search
from retrieval.types import Representations, Sparse

if TYPE_CHECKING:
    from retrieval.torch_sparse import TorchSearch

__all__ = ["Inverted"]


class Inverted:
    """Postings by term. The same list for every thread count, device and with or without pruning.

    `ties: lucene` puts the lower document id first among equal scores, as Anserini does, and lowers such scores by the
    least that float32 can, so that the order shows in them: for parity checks alone.
    """

    nested = True

    def __init__(
        self,
        ties: Literal["trec_eval", "lucene"] = "trec_eval",
        prune: bool = True,
        threads: int | None = None,
        device: str | None = None,
    ):
        """None for threads is all cores. `device` searches with torch there instead, exhaustively."""
        chosen("ties", ties, Literal["trec_eval", "lucene"])
        if device is not None and threads is not None:
            raise ValueError("threads are the processor's: leave them out where a device is named")
        self.ties, self.prune, self.threads, self.device = ties, prune, threads, device

    def build(self, vectors: Any, rank: np.ndarray) -> None:
        """Index a SparseStore, or Quantised, in its own folder, or open the index made before."""
        folder = vectors.folder / "inverted"
        if not folder.is_dir():
            self._build(vectors, folder)
        files = ArrayFiles(folder)
        if (files.about["documents"], files.about["vectors"]) != (len(rank), vectors.digest):
            raise ValueError(
                f"{folder} is not of the vectors beside it, or of another corpus: delete it, it is built again"
            )
        self.open(Impacts.of(files["offsets"], files["docs"], files["values"]), rank)

    def open(self, impacts: Impacts, rank: np.ndarray) -> None:
        """Search these postings; `rank` is DocIds.rank."""
        self.__dict__.pop("_on_device", None)
        self.impacts = impacts
        self.order = Ties.of(np.asarray(rank) if self.ties == "trec_eval" else len(rank) - 1 - np.asarray(rank))

    def search(self, queries: Representations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 and scores float32 [queries, min(k, documents)]: documents with a positive product, then -1."""
        if not isinstance(queries, Sparse):
            raise TypeError(f"inverted searches sparse vectors, not {type(queries).__name__}")
        matrix: Any = queries.matrix
        if matrix.shape[1] >= len(self.impacts.offsets):
            wide = len(self.impacts.offsets) - 1
            raise ValueError(f"queries have {matrix.shape[1]} dimensions, the index {wide}: not of the same encoder")
        bounds, terms = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        return self.find(WeightedTerms(bounds, terms, matrix.data.astype(np.float64)), k)

    def find(self, queries: WeightedTerms, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The same for terms given by their numbers. Raises ValueError for a weight that is negative or no number."""
        bad = np.flatnonzero(~(queries.weights >= 0) | np.isinf(queries.weights))
        if len(bad):
            query = int(np.searchsorted(queries.bounds, bad[0], "right")) - 1
            raise ValueError(f"query {query}: the weight of a term is {queries.weights[bad[0]]}; weights are 0 or more")
        k = min(k, len(self.order.rank))
        if self.device is None:
            rows, scores = search(self.impacts, queries, k, self.order, self.threads, self.prune)
        else:
            rows, scores = self._on_device.search(queries, k)
        return (rows, scores) if self.ties == "trec_eval" else (rows, falling(rows, scores))

    @cached_property
    def _on_device(self) -> TorchSearch:
        from retrieval.torch_sparse import TorchSearch

        return TorchSearch(self.impacts, self.order, str(self.device))

    def _build(self, vectors: Any, folder: Path) -> None:
        with writing(folder) as part:
            inversion = Inversion(part.folder, BLOCK)
            for chunk in vectors.chunks():
                inversion.add(np.diff(chunk.indptr).astype(np.int64), chunk.indices.astype(np.int32), chunk.data)
            inversion.finish(part, vectors.shape[1])
            part.finish({"documents": vectors.shape[0], "vectors": vectors.digest})


def falling(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores that fall from each result to the next: equal ones lowered by one float32 after another."""
    steps = np.arange(scores.shape[1])
    bits = np.where(rows == PAD, 0, scores.view(np.int32).astype(np.int64)) + steps
    lowered = (np.minimum.accumulate(bits, axis=1) - steps).astype(np.int32).view(np.float32)
    return np.where(rows == PAD, -np.inf, lowered).astype(np.float32)
