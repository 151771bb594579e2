"""Pre-training on texts alone: an objective's head over an encoder, and batches of passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrieval.lists import Passages
from training.task import Passes

__all__ = ["Reconstruction"]


class Reconstruction:
    """Batches of passages, epoch after epoch, each epoch in an order of its own; passages without text are left out.

    What is hidden of a text follows from the seed and the number of its batch; with several processes each hides parts
    of its own texts, so that another number of them trains on other masks.
    """

    when_out_of_memory = "lower trainer.batch_size, or set trainer.checkpoint_activations"

    def __init__(self, head: nn.Module, passages: Passages, about: Mapping[str, Any], batch_size: int, seed: int):
        """`head` is what an Objective makes of an encoder; `about` is what the settings tell of it.

        Raises ValueError for fewer passages than make one batch.
        """
        self.module: nn.Module = _Whole(head)
        self.passages, self.about, self.batch_size, self.seed = passages, dict(about), batch_size, seed
        filled = [bool(text.strip()) for start in range(0, len(passages), 4096) for text in _texts(passages, start)]
        self.rows = np.flatnonzero(np.array(filled, bool))
        if len(self.rows) < batch_size:
            raise ValueError(f"{len(self.rows)} passages do not make a batch of {batch_size}: lower batch_size")

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self.rows) // self.batch_size

    def settings(self) -> dict[str, Any]:
        """What is read, and how it is hidden."""
        return {"objective": self.about, "passages": self.passages.fingerprint, "texts": len(self.rows)}

    def collate(self, number: int, places: Sequence[int]) -> dict[str, Any]:
        """These texts of the batch, parts of them hidden."""
        epoch, place = divmod(number, self.per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        rows = order[place * self.batch_size : (place + 1) * self.batch_size]
        texts = self.passages.texts(rows[list(places)])
        rng = np.random.default_rng([self.seed, number, places[0]])
        head: Any = self.module.head
        return {"names": [f"row {row}" for row in rows], "texts": head.batch(texts, rng)}

    def step(self, passes: Passes, inputs: dict[str, Any]) -> Tensor:
        """Add the gradients of the mean loss of all processes."""
        loss = passes.module(inputs["texts"])
        passes.backward(loss)
        mean = loss.detach()
        if passes.world_size > 1:
            mean = mean.clone()
            torch.distributed.all_reduce(mean)
            mean /= passes.world_size
        return mean

    def state(self) -> Mapping[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to take up."""


class _Whole(nn.Module):
    """A head, and the encoder in it as what is measured and saved."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    @property
    def model(self) -> Any:
        return self.head.encoder

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.head(batch)


def _texts(passages: Passages, start: int) -> list[str]:
    return passages.texts(np.arange(start, min(start + 4096, len(passages))))
