"""nDCG of a soft permutation of the list."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses._lists import above_zero, discounts, lists, mean, relative_gains

__all__ = ["NeuralNDCG"]

TOLERANCE = 1e-6  # of the sums of rows and columns from 1, at which Sinkhorn scaling stops


class NeuralNDCG:
    """-nDCG, mean over lists, of the gains 2^label - 1 in the order of NeuralSort. Pobrotyn and Białobrzeski (2021).

    Row i of NeuralSort (Grover et al. 2019) is softmax(((n + 1 - 2i) s - A) / temperature), A_j = sum |s_j - s_m|: a
    soft choice of the i-th best. Its columns need not sum to 1, so that one good passage can be counted at every place;
    Sinkhorn scaling, of at most `sinkhorn_rounds`, makes them. Without it (0 rounds) training gets stuck at a
    loss near -1 with the lists still in disorder. Taking the discounts to the passages in place of the gains to the
    ranks (the transposed form) is the same sum.

    Lists whose labels are all 0 are left out; 0 where no other list is there. It takes memory for queries x passages
    x passages, twice for each round: it wants short lists.
    """

    def __init__(self, temperature: float = 1.0, sinkhorn_rounds: int = 50):
        above_zero(temperature=temperature)
        if sinkhorn_rounds < 0:
            raise ValueError(f"sinkhorn_rounds is {sinkhorn_rounds}; it must be 0 (off) or above")
        self.temperature, self.sinkhorn_rounds = temperature, sinkhorn_rounds

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query without any passage, and for labels below 0.
        """
        scores, labels, kept = lists(scores, labels, mask)
        gains = relative_gains(labels)
        logs = sinkhorn(neural_sort(scores, kept, self.temperature), self.sinkhorn_rounds)
        ordered = (logs.exp() @ gains.unsqueeze(2)).squeeze(2)
        return -mean((ordered * discounts(ordered.shape[1], ordered)).sum(1), (gains > 0).any(1))


def neural_sort(scores: Tensor, kept: Tensor, temperature: float) -> Tensor:
    """Logs of the soft permutation, [queries, ranks, passages]; in a list of n, masked passages share ranks past n."""
    count = kept.sum(1, keepdim=True)
    ranks = torch.arange(1, scores.shape[1] + 1, device=scores.device)
    apart = (scores.unsqueeze(2) - scores.unsqueeze(1)).abs() * kept.unsqueeze(1)
    slopes = (count + 1 - 2 * ranks).to(scores.dtype).unsqueeze(2)
    logits = (slopes * scores.unsqueeze(1) - apart.sum(2).unsqueeze(1)) / temperature
    inside, real = (ranks <= count).unsqueeze(2), kept.unsqueeze(1)
    logits = logits.masked_fill(inside != real, -torch.inf).masked_fill(~inside & ~real, 0)
    return logits.log_softmax(2)


def sinkhorn(logs: Tensor, rounds: int) -> Tensor:
    """Logs scaled until columns and rows sum to 1, each list until its own do; as logs, so that no sum is ever 0."""
    done = torch.zeros(len(logs), 1, 1, dtype=torch.bool, device=logs.device)
    for _ in range(rounds):
        logs = torch.where(done, logs, logs.log_softmax(1).log_softmax(2))
        done = (logs.detach().exp().sum(1, keepdim=True) - 1).abs().amax(2, keepdim=True) < TOLERANCE
        if bool(done.all()):
            break
    return logs
