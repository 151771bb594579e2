"""How many products a search through an inverted index takes, made smooth."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Flops"]


class Flops:
    """weight * sum over dimensions of (mean over texts of |activation|)^2. Paria et al. (2020), SPLADE's regulariser.

    A dimension that many texts use costs more than many that few use: it makes postings short and even, where `l1`
    makes texts short. Queries and documents usually have weights of their own.
    """

    def __init__(self, weight: float):
        if not weight >= 0:
            raise ValueError(f"weight is {weight}; it must be 0 or above")
        self.weight = weight

    def __call__(self, representations: Tensor) -> Tensor:
        """The penalty, from representations [texts, width]. Raises ValueError for token vectors."""
        if representations.ndim != 2:
            raise ValueError(f"flops wants one vector a text, [texts, width], not {list(representations.shape)}")
        values = representations.to(torch.promote_types(representations.dtype, torch.float32))
        return self.weight * values.abs().mean(0).square().sum()
