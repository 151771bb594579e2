"""nDCG with ranks that have a gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses._lists import above_zero, lists, mean, relative_gains

__all__ = ["ApproxNDCG"]


class ApproxNDCG:
    """-nDCG, mean over lists, with rank_i = 1 + sum over j != i of sigmoid((s_j - s_i) / temperature).

    Qin et al. (2010), gains 2^label - 1. It nears the true figure as the temperature goes to 0, and has less and less
    of a gradient. Lists whose labels are all 0 are left out; 0 where no other list is there. It takes memory for
    queries x passages x passages.
    """

    def __init__(self, temperature: float = 1.0):
        above_zero(temperature=temperature)
        self.temperature = temperature

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query without any passage, and for labels below 0.
        """
        scores, labels, kept = lists(scores, labels, mask)
        gains = relative_gains(labels)
        better = ((scores.unsqueeze(1) - scores.unsqueeze(2)) / self.temperature).sigmoid()
        ranks = 0.5 + (better * kept.unsqueeze(1)).sum(2)  # sigmoid(0) = 0.5 of the passage itself is in the sum
        return -mean((gains / torch.log2(1 + ranks)).sum(1), (gains > 0).any(1))
