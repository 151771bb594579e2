"""Squared difference between the margins of a model and those of its teacher."""

from __future__ import annotations

from torch import Tensor

from training.losses._lists import above_zero, lists, mean, places

__all__ = ["MarginMSE"]


class MarginMSE:
    """((s_p - s_n) / temperature - (t_p - t_n))^2, mean over all (query, negative) pairs. Hofstätter et al. (2020).

    The first passage of a row is the positive p, every other one a negative n, and labels are the teacher's scores t:
    it wants each query's own list (the trainer's `in_batch: false`), positive first, not the passages of the batch.
    Scores and labels must have one scale: a teacher's logits reach over 20, cosines over 2, which a `temperature` of
    0.1 makes 20.
    """

    of_own_list = reads_scores = first_is_positive = True

    def __init__(self, temperature: float = 1.0):
        above_zero(temperature=temperature)
        self.temperature = temperature

    def __call__(self, scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, from scores and labels [queries, passages]; where the mask is False there is no passage.

        Raises ValueError for a query whose first passage is masked.
        """
        scores, labels, kept = lists(scores, labels, mask)
        if not bool(kept[:, 0].all()):
            bad = places(~kept[:, 0])
            raise ValueError(f"the first passage, which is the positive, is masked in rows {bad} of the batch")
        scores = scores / self.temperature
        margins, wanted = scores[:, :1] - scores[:, 1:], labels[:, :1] - labels[:, 1:]
        return mean((margins - wanted).square(), kept[:, 1:])
