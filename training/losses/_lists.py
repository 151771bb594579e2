"""What the losses share: a row of scores and labels per query, masked cells of which hold nothing."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "Log",
    "Reduction",
    "above_zero",
    "discounts",
    "known",
    "lists",
    "log_softmax",
    "mean",
    "ordered_pairs",
    "pair_loss",
    "places",
    "reduced",
    "relative_gains",
]

Log = Literal["natural", "log2"]
Reduction = Literal["mean", "sum", "list_mean"]


def above_zero(**values: float) -> None:
    """Raises ValueError that names the first value that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be above 0")


def known(name: str, value: Any, options: Any) -> None:
    """Raises ValueError where a value is none of those of a Literal."""
    if value not in get_args(options):
        raise ValueError(f"there is no {name} {value!r}: choose from {', '.join(map(str, get_args(options)))}")


def lists(scores: Tensor, labels: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and labels, float32 or float64 [queries, passages], 0 where masked, and what is kept, bool.

    Raises ValueError for a query without any passage.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    kept = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    if not bool(kept.any(1).all()):
        raise ValueError(f"every passage is masked in rows {places(~kept.any(1))} of the batch: leave such queries out")
    return scores.masked_fill(~kept, 0), labels.to(scores.dtype).masked_fill(~kept, 0), kept


def places(which: Tensor) -> str:
    """The places where a bool [queries] is True, for a message."""
    return ", ".join(map(str, torch.nonzero(which).flatten().tolist()))


def log_softmax(values: Tensor, kept: Tensor) -> Tensor:
    """Over what is kept of each row; -inf elsewhere."""
    return values.masked_fill(~kept, -torch.inf).log_softmax(1)


def mean(terms: Tensor, counted: Tensor) -> Tensor:
    """Of the terms that are counted; 0, with a gradient of 0, where none is."""
    return torch.where(counted, terms, 0).sum() / counted.sum().clamp(min=1)


def reduced(terms: Tensor, counted: Tensor, reduction: Reduction) -> Tensor:
    """The mean or sum of the terms that are counted, or the mean over lists (the first axis) of their sums."""
    if reduction == "mean":
        return mean(terms, counted)
    total = torch.where(counted, terms, 0).sum()
    return total / len(terms) if reduction == "list_mean" else total


def ordered_pairs(labels: Tensor, kept: Tensor) -> Tensor:
    """Whether passage i has a higher label than passage j, bool [queries, i, j]."""
    return kept.unsqueeze(2) & kept.unsqueeze(1) & (labels.unsqueeze(2) > labels.unsqueeze(1))


def pair_loss(scores: Tensor, sigma: float, log: Log) -> Tensor:
    """log(1 + exp(-sigma (s_i - s_j))), [queries, i, j]."""
    terms = F.softplus(-sigma * (scores.unsqueeze(2) - scores.unsqueeze(1)))
    return terms / math.log(2) if log == "log2" else terms


def discounts(count: int, like: Tensor) -> Tensor:
    """1 / log2(1 + rank) of the ranks from 1 to `count`."""
    return 1 / torch.log2(torch.arange(2, count + 2, dtype=like.dtype, device=like.device))


def relative_gains(labels: Tensor, k: int | None = None) -> Tensor:
    """2^label - 1 over the DCG of the list's best order, cut at k; 0 in a list whose labels are all 0.

    Raises ValueError for labels below 0, which are no grades.
    """
    if bool((labels < 0).any()):
        raise ValueError(f"a label is {float(labels.min()):g}; gains 2^label - 1 want grades from 0 on")
    gains = torch.exp2(labels) - 1
    best = gains.sort(1, descending=True).values[:, :k]
    ideal = (best * discounts(best.shape[1], gains)).sum(1, keepdim=True)
    return gains / ideal.masked_fill(ideal == 0, 1)
