"""Logistic loss of each pair of passages of which one has the higher label."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from training.losses._lists import Log, Reduction, above_zero, known, lists, ordered_pairs, pair_loss, reduced

__all__ = ["RankNet"]

Weight = Literal["difference", "squared_difference"]


class RankNet:
    """log(1 + exp(-sigma (s_i - s_j))) over the pairs of a list with label i above label j. Burges et al. (2005).

    `reduction`: `mean` over the pairs of the batch, their `sum`, or `list_mean`, the sums of the lists, mean over
    lists. `weight` multiplies a pair by the difference of its labels, or of their squares. Without any pair it is 0.
    It takes memory for queries x passages x passages.
    """

    reads_scores = True

    def __init__(
        self, sigma: float = 1.0, reduction: Reduction = "mean", log: Log = "natural", weight: Weight | None = None
    ):
        above_zero(sigma=sigma)
        known("reduction", reduction, Reduction)
        known("log", log, Log)
        if weight is not None:
            known("weight", weight, Weight)
        self.sigma, self.reduction, self.log, self.weight = sigma, reduction, log, weight

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query without any passage.
        """
        scores, labels, kept = lists(scores, labels, mask)
        terms = pair_loss(scores, self.sigma, self.log)
        if self.weight is not None:
            grades = labels if self.weight == "difference" else labels.square()
            terms = terms * (grades.unsqueeze(2) - grades.unsqueeze(1)).abs()
        return reduced(terms, ordered_pairs(labels, kept), self.reduction)
