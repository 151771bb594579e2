"""Any loss on representations cut to their first dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from retrieval.protocols import Loss
from training.trainable import Trainable

__all__ = ["Matryoshka"]


class Matryoshka:
    """Weighted sum of a loss over representations cut to `dims` first columns. Kusupati et al. (2022).

    The full width counts only where it is among the dims. Vectors are cut, and so is each vector of token vectors.
    With `normalize` what is cut is brought to length 1 again, as it must be where the encoder gives unit vectors;
    for one that does not, whose scores are products of unequal lengths, set it to false.

    `weights` are 1 unless given, one for each of the dims. `sampled` draws so many of the dims at each step, from
    `seed` and `step`, the optimiser steps done, which the trainer sets.
    """

    def __init__(
        self,
        loss: Loss,
        dims: Sequence[int],
        weights: Sequence[float] | None = None,
        normalize: bool = True,
        sampled: int | None = None,
        seed: int = 0,
    ):
        if not dims or min(dims) < 1:
            raise ValueError(f"dims are {list(dims)}; name the widths to cut to, each 1 or above")
        if len({*dims}) < len(dims):
            raise ValueError(f"dims are {list(dims)}; name each width once")
        _check_weights(weights, len(dims))
        if getattr(loss, "of_own_list", False):
            raise ValueError(f"matryoshka compares the passages of a batch, and {type(loss).__name__} a query's own")
        if sampled is not None and not 1 <= sampled <= len(dims):
            raise ValueError(f"sampled is {sampled}; of {len(dims)} dims 1 to {len(dims)} can be drawn")
        self.loss, self.dims, self.weights = loss, list(dims), list(weights or [1.0] * len(dims))
        self.normalize, self.sampled, self.seed = normalize, sampled, seed
        self.needs_positive = getattr(loss, "needs_positive", False)
        self.step = 0

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Raises TypeError: scores cannot be cut."""
        raise TypeError("matryoshka cuts representations, of which scores have none: use its inner loss here")

    def of_vectors(self, queries: Tensor, docs: Tensor, model: Trainable, labels: Tensor, mask: Tensor) -> Tensor:
        """The loss, from representations [texts, ..., width]; `model.score` compares what is cut of them.

        Raises ValueError for dims beyond the width.
        """
        width = queries.shape[-1]
        if max(self.dims) > width:
            raise ValueError(f"matryoshka dims {self.dims} go beyond the {width} dimensions of the encoder")
        losses = [
            self.weights[place]
            * self.loss(model.score(*(self._cut(side, self.dims[place]) for side in (queries, docs))), labels, mask)
            for place in self._drawn()
        ]
        return torch.stack(losses).sum()

    def _cut(self, vectors: Tensor, width: int) -> Tensor:
        cut = vectors[..., :width]
        if not self.normalize:
            return cut
        lengths = torch.linalg.vector_norm(cut, dim=-1, keepdim=True)
        return cut / lengths.masked_fill(lengths == 0, 1)  # absent tokens stay zeros

    def _drawn(self) -> list[int]:
        """Places of the dims of this call."""
        if self.sampled is None:
            return list(range(len(self.dims)))
        rng = np.random.default_rng([self.seed, self.step])
        self.step += 1
        return sorted(rng.choice(len(self.dims), self.sampled, replace=False).tolist())


def _check_weights(weights: Sequence[float] | None, count: int) -> None:
    if weights is not None and len(weights) != count:
        raise ValueError(f"{len(weights)} weights for {count} dims; give one for each")
    if weights is not None and not min(weights) > 0:
        raise ValueError(f"weights are {list(weights)}; each must be above 0")
