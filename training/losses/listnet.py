"""Cross-entropy between the labels, made a distribution over the list, and the softmax of the scores."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from training.losses._lists import above_zero, known, lists, log_softmax, mean

__all__ = ["ListNet"]

Target = Literal["softmax", "label_sum", "unnormalised"]


class ListNet:
    """-sum(target log softmax(scores / temperature)) of each list, mean over lists. Cao et al. (2007), top one.

    The target is made of the labels:

    - `softmax`: their softmax, as in the paper; it differs from `kl` by a constant;
    - `label_sum`: they over their sum; lists whose labels are all 0 are left out;
    - `unnormalised`: they as they are, so that a list weighs as much as its labels sum to.
    """

    reads_scores = True

    def __init__(self, temperature: float = 1.0, target: Target = "softmax"):
        above_zero(temperature=temperature)
        known("target", target, Target)
        self.temperature, self.target = temperature, target

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query without any passage, and for labels below 0 where they are not put to a softmax.
        """
        scores, labels, kept = lists(scores, labels, mask)
        terms = torch.where(kept, -log_softmax(scores / self.temperature, kept), 0)
        if self.target == "softmax":
            return (log_softmax(labels, kept).exp() * terms).sum(1).mean()
        if bool((labels < 0).any()):
            lowest = float(labels.min())
            raise ValueError(f"a label is {lowest:g}; target {self.target!r} wants labels from 0 on: softmax takes any")
        entropies, sums = (labels * terms).sum(1), labels.sum(1)
        if self.target == "unnormalised":
            return entropies.mean()
        return mean(entropies / sums.masked_fill(sums == 0, 1), sums > 0)
