"""LambdaRank and the LambdaLoss family: pairs weighted by what they mean to nDCG."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from training.losses._lists import (
    Log,
    Reduction,
    above_zero,
    discounts,
    known,
    lists,
    ordered_pairs,
    pair_loss,
    reduced,
    relative_gains,
)

__all__ = ["LambdaLoss"]

Weighting = Literal["none", "lambdarank", "ndcg1", "ndcg2", "ndcg2pp"]


class LambdaLoss:
    """w log(1 + exp(-sigma (s_i - s_j))) over the pairs with label i above label j. Wang et al. (2018).

    Passages are ranked by their scores. With G = (2^label - 1) / ideal DCG and d(r) = 1 / log2(1 + r), a pair of ranks
    r_i and r_j has the weight, which is a constant for the gradient:

    - `none`: 1, which is RankNet;
    - `lambdarank`: |d(r_i) - d(r_j)| |G_i - G_j|, the change of nDCG when both change places (Burges et al. 2006);
    - `ndcg1`: G_i d(r_i), over all ordered pairs, i with itself included;
    - `ndcg2`: |d(|r_i - r_j|) - d(|r_i - r_j| + 1)| |G_i - G_j|;
    - `ndcg2pp`: `mu` times `ndcg2`, plus `lambdarank`.

    `k` keeps the pairs of which both are among the first k, and cuts the ideal DCG there. `reduction` is `mean` over
    the kept pairs of the batch, their `sum`, or `list_mean`, the sums of the lists, mean over lists. Lists whose
    labels are all 0 are left out; without any pair it is 0. It takes memory for queries x passages x passages.
    """

    def __init__(
        self,
        weighting: Weighting = "ndcg2pp",
        mu: float = 10.0,
        sigma: float = 1.0,
        k: int | None = None,
        reduction: Reduction = "mean",
        log: Log = "log2",
    ):
        above_zero(mu=mu, sigma=sigma, **({} if k is None else {"k": k}))
        known("weighting", weighting, Weighting)
        known("reduction", reduction, Reduction)
        known("log", log, Log)
        self.weighting, self.mu, self.sigma, self.k = weighting, mu, sigma, k
        self.reduction, self.log = reduction, log

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query without any passage, and for labels below 0.
        """
        scores, labels, kept = lists(scores, labels, mask)
        gains = relative_gains(labels, self.k)
        ranks = _ranks(scores.detach().masked_fill(~kept, -torch.inf))
        if self.k is not None:
            kept = kept & (ranks < self.k)
        pairs = ordered_pairs(labels, kept)
        if self.weighting == "ndcg1":
            pairs = kept.unsqueeze(2) & kept.unsqueeze(1) & (gains > 0).any(1)[:, None, None]
        terms = self._weights(gains, ranks) * pair_loss(scores, self.sigma, self.log)
        return reduced(terms, pairs, self.reduction)

    def _weights(self, gains: Tensor, ranks: Tensor) -> Tensor:
        """[queries, i, j], from gains and ranks (from 0) [queries, passages]."""
        table = discounts(ranks.shape[1] + 1, gains)
        if self.weighting == "none":
            return torch.ones_like(gains).unsqueeze(2)
        if self.weighting == "ndcg1":
            return (gains * table[ranks]).unsqueeze(2)
        swapped = _apart(table[ranks])
        apart = _apart(ranks)
        near = (table[(apart - 1).clamp(min=0)] - table[apart]).abs()
        place = {"lambdarank": swapped, "ndcg2": near, "ndcg2pp": self.mu * near + swapped}[self.weighting]
        return place * _apart(gains)


def _apart(values: Tensor) -> Tensor:
    """|v_i - v_j|, [queries, i, j]."""
    return (values.unsqueeze(2) - values.unsqueeze(1)).abs()


def _ranks(scores: Tensor) -> Tensor:
    """The rank of each passage from 0, of equal scores in the order of columns."""
    return scores.sort(dim=1, descending=True, stable=True).indices.argsort(1)
