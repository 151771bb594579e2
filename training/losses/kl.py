"""Kullback-Leibler divergence of the scores' distribution from that of the labels."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses._lists import above_zero, lists, log_softmax

__all__ = ["KL"]


class KL:
    """KL(softmax(labels / label_temperature) || softmax(scores / temperature)) over a query's row, mean over queries.

    Labels are grades or a teacher's scores. Every passage of the batch is in the row, those of other queries with
    label 0; ListNet (Cao et al. 2007) differs by a constant and has the same gradient. `rescale` multiplies the loss
    by both temperatures, so that its gradient keeps its size (Hinton et al. 2015: the square of their common one).
    """

    reads_scores = True

    def __init__(self, temperature: float = 1.0, label_temperature: float = 1.0, rescale: bool = False):
        above_zero(temperature=temperature, label_temperature=label_temperature)
        self.temperature, self.label_temperature, self.rescale = temperature, label_temperature, rescale

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query without any passage.
        """
        scores, labels, kept = lists(scores, labels, mask)
        wanted = log_softmax(labels / self.label_temperature, kept)
        given = log_softmax(scores / self.temperature, kept)
        loss = (wanted.exp() * torch.where(kept, wanted - given, 0)).sum(1).mean()
        return loss * self.temperature * self.label_temperature if self.rescale else loss
