"""Kullback-Leibler divergence of the scores' distribution from that of the labels."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["KL"]


class KL:
    """KL(softmax(labels / label_temperature) || softmax(scores / temperature)) over a query's row, mean over queries.

    Labels are grades or a teacher's scores. Every passage of the batch is in the row, those of other queries with
    label 0; ListNet (Cao et al. 2007) differs by a constant and has the same gradient. `rescale` multiplies the loss
    by both temperatures, so that its gradient keeps its size (Hinton et al. 2015: the square of their common one).
    """

    def __init__(self, temperature: float = 1.0, label_temperature: float = 1.0, rescale: bool = False):
        for name, value in (("temperature", temperature), ("label_temperature", label_temperature)):
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        self.temperature, self.label_temperature, self.rescale = temperature, label_temperature, rescale

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query without any passage.
        """
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        kept = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
        if not bool(kept.any(1).all()):
            rows = ", ".join(map(str, torch.nonzero(~kept.any(1)).flatten().tolist()))
            raise ValueError(f"every passage is masked in rows {rows} of the batch: leave such queries out")
        wanted = _log_softmax(labels.to(scores.dtype) / self.label_temperature, kept)
        given = _log_softmax(scores / self.temperature, kept)
        loss = (wanted.exp() * torch.where(kept, wanted - given, 0)).sum(1).mean()
        return loss * self.temperature * self.label_temperature if self.rescale else loss


def _log_softmax(values: Tensor, kept: Tensor) -> Tensor:
    return values.masked_fill(~kept, -torch.inf).log_softmax(1)
