"""Hinge of each positive with the hardest negative."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses._lists import above_zero, lists, mean

__all__ = ["Triplet"]


class Triplet:
    """max(0, margin - s_p + s_n), n the highest-scored negative, mean over (query, positive) pairs.

    Positives are the passages with a label above 0, negatives all others of the row. For lists of one positive and one
    negative it is the triplet loss (Schroff et al. 2015), in scores: of unit vectors, half the squared distances. With
    more negatives it is the "batch hard" form (Hermans et al. 2017; Faghri et al. 2018); `hinge` takes the mean of all.
    Queries without a positive or a negative have no pair; without any pair it is 0.
    """

    def __init__(self, margin: float = 0.5):
        above_zero(margin=margin)
        self.margin = margin

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query without any passage.
        """
        scores, labels, kept = lists(scores, labels, mask)
        positive, negative = labels > 0, kept & (labels <= 0)
        hardest = scores.masked_fill(~negative, torch.finfo(scores.dtype).min / 2).amax(1, keepdim=True)
        return mean((self.margin - scores + hardest).relu(), positive & negative.any(1, keepdim=True))
