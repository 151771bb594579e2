"""Squared 2-Wasserstein distance between Gaussians fitted to the rows of scores and of labels ("ws2" of SyCL)."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses._lists import above_zero, lists
from training.losses.infonce import InfoNCE

__all__ = ["Wasserstein"]


class Wasserstein:
    """||mean X - mean Y||^2 + tr(C_X) + tr(C_Y) - 2 tr((C_X C_Y)^(1/2)), after SyCL (arXiv 2503.23239).

    The rows of X = softmax(scores / temperature) and Y = softmax(labels) are samples of two Gaussians over the
    passages of the batch, with covariances C_X and C_Y; labels have no temperature. It is one figure for a batch:
    passages of other queries hold most of Y (89 % at 64 queries of 4), so the batch size changes the objective.
    Exchanging rows of the scores changes nothing: the loss does not tie a query to its own passages. Start from an
    encoder that does, and do not read the value as quality. The target is scores that differ as the labels do, times
    the temperature: unit vectors need a low one.

    `infonce_weight` is our remedy, not of the paper: so much of InfoNCE is added, of each query's passages of the
    highest label against all others. A small one (0.03) helps scores that start at random to the order within a
    query's passages; to bring them to their own query as well takes more, or another start.

    A masked cell has probability 0 in its row of X and of Y; a passage masked in every row is as good as removed.
    """

    of_batch = True

    def __init__(self, temperature: float = 1.0, infonce_weight: float = 0.0, infonce_temperature: float = 1.0):
        above_zero(temperature=temperature, infonce_temperature=infonce_temperature)
        if not infonce_weight >= 0:
            raise ValueError(f"infonce_weight is {infonce_weight}; it must be 0 (off) or above")
        self.temperature, self.infonce_weight = temperature, infonce_weight
        self.infonce_temperature = infonce_temperature
        self.infonce = InfoNCE(infonce_temperature)
        self.needs_positive = infonce_weight > 0

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages], computed in float64.

        Raises ValueError for a query without any passage, or, where InfoNCE is added, without a positive.
        """
        dtype = torch.promote_types(scores.dtype, torch.float32)
        scores, labels, kept = lists(scores.double(), labels, mask)
        given = (scores / self.temperature).masked_fill(~kept, -torch.inf).softmax(1)
        wanted = labels.masked_fill(~kept, -torch.inf).softmax(1)
        loss = _distance(given, wanted)
        if self.infonce_weight:
            highest = labels == labels.masked_fill(~kept, -torch.inf).amax(1, keepdim=True)
            loss = loss + self.infonce_weight * self.infonce(scores, highest & (labels > 0), kept)
        return loss.to(dtype)


def _distance(x: Tensor, y: Tensor) -> Tensor:
    """Between the Gaussians fitted to the rows of x and of y, float64 [samples, dimensions]."""
    ex, ey = x - x.mean(0), y - y.mean(0)
    means = (x.mean(0) - y.mean(0)).square().sum()
    # tr((C_X C_Y)^(1/2)) is the nuclear norm of a samples x samples matrix: no covariance matrix is needed.
    traces = ex.square().sum() + ey.square().sum() - 2 * _nuclear_norm(ex @ ey.T, noise=x.norm() * y.norm())
    return means + traces / max(len(x) - 1, 1)


def _nuclear_norm(matrix: Tensor, noise: Tensor) -> Tensor:
    """Sum of singular values; its gradient is U V' over those above rounding, as the others have no direction.

    The centred rows always leave one singular value at 0, and equal rows leave all of them there.
    """
    left, values, right = torch.linalg.svd(matrix.detach())
    true = values > 8 * torch.finfo(values.dtype).eps * noise.detach()
    return ((left * true) @ right * matrix).sum()
