"""InfoNCE, with one or several positives per query."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses._lists import above_zero, known, lists, log_softmax, places

__all__ = ["InfoNCE"]

Form = Literal["mean_log", "pair_mean", "log_sum", "excl_other_pos"]


class InfoNCE:
    """Each query's positives (label > 0) against every passage of the batch. Van den Oord et al. (2018).

    With one positive per query the forms agree: -log softmax(scores / temperature) at the positive, mean over queries.
    With several:

    - `mean_log`: that term, mean over a query's positives, then over queries;
    - `pair_mean`: that term, mean over all (query, positive) pairs of the batch (LIMIT, Weller et al. 2025);
    - `log_sum`: -log of the positives' summed probability;
    - `excl_other_pos`: as `mean_log`, but no positive is in the denominator of another one.

    A query with m positives cannot bring the first two below ln m; the last two reach 0.

    `symmetric` adds the other direction, each passage that is some query's positive against the queries, and takes the
    mean of both (Radford et al. 2021). A column must then be the same passage for every query, as it is in a batch but
    not in lists of each query's own passages.
    """

    needs_positive = True

    def __init__(self, temperature: float = 1.0, form: Form = "mean_log", symmetric: bool = False):
        above_zero(temperature=temperature)
        known("form", form, Form)
        self.temperature, self.form, self.symmetric = temperature, form, symmetric
        self.of_batch = symmetric

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query without a positive.
        """
        scores, labels, kept = lists(scores, labels, mask)
        positive = labels > 0
        if not bool(positive.any(1).all()):
            bad = places(~positive.any(1))
            raise ValueError(f"no positive (label > 0, not masked) in rows {bad} of the batch: leave such queries out")
        loss = self._one_way(scores / self.temperature, kept, positive)
        if not self.symmetric:
            return loss
        found = positive.any(0)
        back = (part.T[found] for part in (scores / self.temperature, kept, positive))
        return (loss + self._one_way(*back)) / 2

    def _one_way(self, scores: Tensor, kept: Tensor, positive: Tensor) -> Tensor:
        """The loss of rows against columns."""
        if self.form == "excl_other_pos":
            return _mean(_against_negatives(scores, kept, positive), positive)
        terms = -log_softmax(scores, kept)
        if self.form == "log_sum":
            return -(-terms).masked_fill(~positive, -torch.inf).logsumexp(1).mean()
        if self.form == "pair_mean":
            return torch.where(positive, terms, 0).sum() / positive.sum()
        return _mean(terms, positive)


def _mean(terms: Tensor, positive: Tensor) -> Tensor:
    """Over each row's positives, then over rows."""
    return (torch.where(positive, terms, 0).sum(1) / positive.sum(1)).mean()


def _against_negatives(scores: Tensor, kept: Tensor, positive: Tensor) -> Tensor:
    # A finite filling, not -inf: a row without any negative would have the gradient of an empty logsumexp, NaN.
    filling = torch.finfo(scores.dtype).min / 2
    negatives = scores.masked_fill(positive | ~kept, filling).logsumexp(1, keepdim=True)
    return -F.logsigmoid(scores - negatives)
