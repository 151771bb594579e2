"""Likelihood of the list in the order of its labels."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from training.losses._lists import above_zero, known, lists

__all__ = ["ListMLE"]

Ties = Literal["stable", "shuffle"]


class ListMLE:
    """-log of the Plackett-Luce probability of the label order, mean over lists. Xia et al. (2008).

    That is the sum over places of log(sum of exp(s) from there on) - s, s = scores / temperature. `position_aware`
    weights the place r = 0, 1, ... of a list of n by 2^(n - r) - 1, over the sum of these weights (p-ListMLE, Lan et
    al. 2014, who do not divide).

    Passages of equal labels have no order. `stable` keeps that of the columns; `shuffle` draws one from `seed`, of
    its own for each row, the same at every step: what stands in a row is another query in each epoch. Most passages of
    a batch tie at label 0: lists of each query's own passages suit this loss better.
    """

    reads_scores = True

    def __init__(self, temperature: float = 1.0, position_aware: bool = False, ties: Ties = "stable", seed: int = 0):
        above_zero(temperature=temperature)
        known("ties", ties, Ties)
        self.temperature, self.position_aware, self.ties, self.seed = temperature, position_aware, ties, seed

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query without any passage.
        """
        scores, labels, kept = lists(scores, labels, mask)
        order = self._order(labels.masked_fill(~kept, -torch.inf))
        scores, kept = (scores / self.temperature).gather(1, order), kept.gather(1, order)
        # A finite filling, not -inf, of which the gradient of a cumulative sum would be NaN.
        filled = scores.masked_fill(~kept, torch.finfo(scores.dtype).min / 2)
        terms = torch.where(kept, filled.flip(1).logcumsumexp(1).flip(1) - scores, 0)
        if self.position_aware:
            terms = terms * _weights(kept, terms)
        return terms.sum(1).mean()

    def _order(self, labels: Tensor) -> Tensor:
        """Columns by descending label, int64 [queries, passages]."""
        if self.ties == "stable":
            return labels.sort(dim=1, descending=True, stable=True).indices
        drawn = np.random.default_rng(self.seed).random(labels.shape).argsort(1)
        first = torch.from_numpy(drawn).to(labels.device)
        return first.gather(1, labels.gather(1, first).sort(dim=1, descending=True, stable=True).indices)


def _weights(kept: Tensor, like: Tensor) -> Tensor:
    """(2^(n - r) - 1) / sum at place r of a list of n, both divided by 2^n, which would be too large."""
    places = torch.arange(kept.shape[1], dtype=like.dtype, device=like.device)
    weights = torch.exp2(-places) - torch.exp2(-kept.sum(1, keepdim=True).to(like.dtype))
    weights = torch.where(kept, weights, 0)
    return weights / weights.sum(1, keepdim=True)
