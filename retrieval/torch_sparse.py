"""Exact search with weighted terms by torch's sparse tensors, on a GPU or any other device.

Products are rounded to the grid of retrieval.sparse_search, so float64 sums are exact in whatever order a device adds
them up, and the lists are those of the compiled search.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from retrieval.sparse_search import Impacts, Prepared, Ties, WeightedTerms, prepared, unpack

__all__ = ["TorchSearch"]

CELLS = 1 << 24  # sums held at a time


class TorchSearch:
    """Postings on a device."""

    def __init__(self, index: Impacts, ties: Ties, device: str):
        """Copy the postings there. Raises ValueError where there is no such device."""
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device {device!r}: this machine, or this build of torch, has no CUDA device")
        self.index, self.rank, self.row_of_rank = index, self._there(ties.rank), ties.rows
        self.docs, self.impacts = self._there(index.docs), self._there(_floats(index.impacts))

    def search(self, queries: WeightedTerms, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 and scores float32 [queries, k] of the documents with a positive score, best first, -1 pads."""
        count, documents = len(queries.bounds) - 1, len(self.rank)
        keys = np.full((count, k), np.iinfo(np.int64).min)
        asked = prepared(self.index, queries, None)
        postings = np.diff(self.index.offsets)[asked.terms]
        before = np.concatenate([[0], np.cumsum(postings)])[asked.bounds]  # postings of the queries up to each
        last = 0
        while k and last < count:
            first, most = last, max(1, CELLS // documents)
            fitting = int(np.searchsorted(before, before[first] + CELLS // 4, "right")) - 1
            last = min(max(fitting, first + 1), first + most, count)
            scores = self._scores(asked, first, last, documents)
            bits = scores.view(torch.int32).to(torch.int64) << 32
            found = torch.where(scores > 0, bits | self.rank, np.iinfo(np.int64).min)
            keys[first:last] = found.topk(k, dim=1).values.flip(1).cpu().numpy()
        return unpack(keys, self.row_of_rank)

    def _scores(self, asked: Prepared, first: int, last: int, documents: int) -> Tensor:
        """float32 [queries, documents]: every posting of every term, summed where query and document are the same."""
        bounds = asked.bounds[first : last + 1]
        terms, weights = asked.terms[bounds[0] : bounds[-1]], asked.weights[bounds[0] : bounds[-1]]
        query = np.repeat(np.arange(last - first), np.diff(bounds))
        starts, counts = self.index.offsets[terms], self.index.offsets[terms + 1] - self.index.offsets[terms]
        entry = torch.repeat_interleave(self._there(np.arange(len(terms))), self._there(counts))
        before = np.cumsum(counts) - counts
        place = torch.arange(len(entry), device=self.device) + self._there(starts - before)[entry]
        magic = self._there(asked.magic[first:last][query])[entry]
        values = self._there(weights)[entry] * self.impacts[place].double() + magic - magic
        where = torch.stack([self._there(query)[entry], self.docs[place].long()])
        return (
            torch.sparse_coo_tensor(where, values, (last - first, documents), check_invariants=False).to_dense().float()
        )

    def _there(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(array)).to(self.device)


def _floats(impacts: np.ndarray) -> np.ndarray:
    """Integers as floats that hold them: torch has no arithmetic for some kinds of integer."""
    if impacts.dtype.kind == "f":
        return impacts
    return impacts.astype(np.float32 if impacts.max(initial=0) < 1 << 24 else np.float64)
