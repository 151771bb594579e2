"""The size of a text's representation."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["L1"]


class L1:
    """weight * sum over dimensions of |activation|, mean over texts: it sets what is small in each text to 0.

    Zamani et al. (2018); SPLADE's alternative to `flops`, and what its queries often have.
    """

    def __init__(self, weight: float):
        if not weight >= 0:
            raise ValueError(f"weight is {weight}; it must be 0 or above")
        self.weight = weight

    def __call__(self, representations: Tensor) -> Tensor:
        """The penalty, from representations [texts, width]. Raises ValueError for token vectors."""
        if representations.ndim != 2:
            raise ValueError(f"l1 wants one vector a text, [texts, width], not {list(representations.shape)}")
        values = representations.to(torch.promote_types(representations.dtype, torch.float32))
        return self.weight * values.abs().sum(1).mean()
