"""Hinge of each positive with every negative."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from training.losses._lists import above_zero, known, lists, reduced

__all__ = ["Hinge"]

Reduction = Literal["mean", "sum"]


class Hinge:
    """max(0, margin - s_p + s_n) over all (query, positive, negative) triples of the batch, their mean or sum.

    Positives are the passages with a label above 0, negatives all others of the row, so that in a batch those of other
    queries are negatives too (in-batch margin ranking, as SE-PQA's retrievers are trained with). `triplet` takes the
    hardest negative only. Without any triple it is 0. It takes memory for queries x passages x passages.
    """

    def __init__(self, margin: float = 0.5, reduction: Reduction = "mean"):
        above_zero(margin=margin)
        known("reduction", reduction, Reduction)
        self.margin, self.reduction = margin, reduction

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query without any passage.
        """
        scores, labels, kept = lists(scores, labels, mask)
        triples = (labels > 0).unsqueeze(2) & (kept & (labels <= 0)).unsqueeze(1)
        terms = (self.margin - scores.unsqueeze(2) + scores.unsqueeze(1)).relu()
        return reduced(terms, triples, self.reduction)
