"""Passages of past batches as further negatives: a queue of representations without a gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from training.collections import Group
from training.pieces import stack

__all__ = ["Past"]


class Past:
    """The last `size` passages that were trained on, as they were encoded then. He et al. (2020), MoCo's queue.

    They have label 0 for every query, and are masked where the query lists them or knows them to be relevant, where
    they are in the batch too, and where they are in the queue twice, but for the newest.
    """

    def __init__(self, size: int):
        if size < 0:
            raise ValueError(f"past is {size}; it is how many passages of past batches are kept, 0 for none")
        self.size = size
        self.rows, self.vectors = np.empty(0, np.int64), torch.empty(0)

    def joined(
        self, docs: Tensor, labels: Tensor, mask: Tensor, batch: Sequence[Group]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Representations, labels and mask with those of past passages behind them; the batch then joins the queue."""
        if not self.size:
            return docs, labels, mask
        kept, rows = self.vectors, self.rows
        columns = np.concatenate([group["rows"] for group in batch])
        made = docs, labels, mask
        if len(rows):
            allowed = torch.from_numpy(self._allowed(rows, columns, batch)).to(mask.device)
            none = labels.new_zeros(len(labels), len(rows))
            made = stack([docs, kept.to(docs)]), torch.cat([labels, none], 1), torch.cat([mask, allowed], 1)
        self.rows = np.concatenate([rows, columns])[-self.size :]
        self.vectors = (stack([kept.to(docs), docs.detach()]) if len(rows) else docs.detach())[-self.size :]
        return made

    def state(self) -> Mapping[str, Tensor]:
        """Rows and representations, oldest first."""
        return {"past.rows": torch.from_numpy(self.rows), "past.vectors": self.vectors.contiguous()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self.rows, self.vectors = state["past.rows"].numpy().copy(), state["past.vectors"].clone()

    @staticmethod
    def _allowed(rows: np.ndarray, columns: np.ndarray, batch: Sequence[Group]) -> np.ndarray:
        """bool [queries, queue]."""
        newest = np.zeros(len(rows), bool)
        newest[len(rows) - 1 - np.unique(rows[::-1], return_index=True)[1]] = True
        fresh = newest & ~np.isin(rows, columns)
        return np.stack([fresh & ~np.isin(rows, group["known"]) for group in batch])
