"""InfoNCE, with one or several positives per query."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

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
    """

    def __init__(self, temperature: float = 1.0, form: Form = "mean_log"):
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; it must be above 0")
        if form not in get_args(Form):
            raise ValueError(f"there is no form {form!r}: choose from {', '.join(get_args(Form))}")
        self.temperature, self.form = temperature, form

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query without a positive.
        """
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) / self.temperature
        kept = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
        positive = (labels > 0) & kept
        if not bool(positive.any(1).all()):
            rows = ", ".join(map(str, torch.nonzero(~positive.any(1)).flatten().tolist()))
            raise ValueError(f"no positive (label > 0, not masked) in rows {rows} of the batch: leave such queries out")
        if self.form == "excl_other_pos":
            return _mean(_against_negatives(scores, kept, positive), positive)
        terms = -scores.masked_fill(~kept, -torch.inf).log_softmax(1)
        if self.form == "log_sum":
            return -(-terms).masked_fill(~positive, -torch.inf).logsumexp(1).mean()
        return (
            _mean(terms, positive)
            if self.form == "mean_log"
            else torch.where(positive, terms, 0).sum() / positive.sum()
        )


def _mean(terms: Tensor, positive: Tensor) -> Tensor:
    """Over each row's positives, then over rows."""
    return (torch.where(positive, terms, 0).sum(1) / positive.sum(1)).mean()


def _against_negatives(scores: Tensor, kept: Tensor, positive: Tensor) -> Tensor:
    # A finite filling, not -inf: a row without any negative would have the gradient of an empty logsumexp, NaN.
    filling = torch.finfo(scores.dtype).min / 2
    negatives = scores.masked_fill(positive | ~kept, filling).logsumexp(1, keepdim=True)
    return -F.logsigmoid(scores.masked_fill(~kept, 0) - negatives)
