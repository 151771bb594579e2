"""Many sets of free vectors optimised side by side: every operation is one call for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log, sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Batch"]

BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's


@dataclass
class _Vectors:
    """A number for each number of the vectors, in one piece, so that Adam is a few calls."""

    flat: Tensor
    queries: Tensor  # [problems, dimensions, queries], a view of it; queries last, as matrix products are quickest
    documents: Tensor  # [problems, dimensions, documents], the rest of it

    @classmethod
    def of(cls, queries: Tensor, documents: Tensor) -> _Vectors:
        flat = queries.new_empty(queries.numel() + documents.numel())
        views = flat[: queries.numel()].view(queries.shape), flat[queries.numel() :].view(documents.shape)
        for view, values in zip(views, (queries, documents), strict=True):
            view.copy_(values)
        return cls(flat, *views)

    @classmethod
    def like(cls, other: _Vectors) -> _Vectors:
        return cls.of(other.queries.new_zeros(other.queries.shape), other.documents.new_zeros(other.documents.shape))

    def kept(self, rows: Tensor, queries: int, documents: int) -> _Vectors:
        return _Vectors.of(self.queries[rows, :, :queries], self.documents[rows, :, :documents])


class Batch:
    """Problems padded to the largest, of one k. What pads takes no part: a query has no share of the loss, a document
    a score of -inf, a dimension is 0 in all vectors and so has no gradient.

    The loss is the cross-entropy of softmax(queries documents^T / temperature) over all documents, a query's mass on
    its k relevant ones, 1/k each; its gradient in the scores is softmax - 1/k.
    """

    def __init__(
        self,
        starts: Sequence[tuple[np.ndarray, np.ndarray]],
        relevant: Sequence[np.ndarray],
        temperature: float,
        device: torch.device,
        dtype: str,
    ):
        """`starts` are vectors of queries and documents, `relevant` the rows of each query's documents."""
        import torch

        self.temperature, self.k = temperature, relevant[0].shape[1]
        self.sizes = [(len(queries), len(documents)) for queries, documents in starts]
        numbers = getattr(torch, dtype)

        def there(values: np.ndarray, kind: torch.dtype = numbers) -> Tensor:
            return torch.from_numpy(values).to(device, kind)

        self.at = _Vectors.of(*(there(_unit(_padded([one[part].T for one in starts]))) for part in (0, 1)))
        self.mean, self.square = _Vectors.like(self.at), _Vectors.like(self.at)
        self.relevant = there(_padded([one.T for one in relevant]), torch.int64)  # [problems, k, queries]
        self.share = there(_padded([np.full(count, 1 / count) for count, _ in self.sizes]))  # [problems, queries]
        self.absent = there(
            _padded([np.zeros((count, 1)) for _, count in self.sizes], -inf)
        )  # [problems, documents, 1]
        self._room()

    def step(self, number: int, learning_rate: float) -> Tensor:
        """Adam's step of that number, from 1, and vectors of length 1 again; the losses before it, [problems]."""
        import torch

        losses = self._gradient()
        mean, square, gradient = self.mean.flat, self.square.flat, self.gradient.flat
        mean.lerp_(gradient, 1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        debt = sqrt(1 - BETAS[1] ** number)  # Adam's corrections of the two means, put into the step and epsilon
        torch.sqrt(square, out=gradient).add_(EPSILON * debt)
        self.at.flat.addcdiv_(mean, gradient, value=-learning_rate * debt / (1 - BETAS[0] ** number))
        for vectors in (self.at.queries, self.at.documents):
            vectors.div_(vectors.square().sum(1, keepdim=True).sqrt_())
        return losses

    def look(self) -> tuple[Tensor, Tensor]:
        """Accuracies and losses now, [problems]. A document that ties with a relevant one is put before it."""
        import torch

        scores = torch.baddbmm(self.absent, self.documents, self.at.queries, alpha=1 / self.temperature)
        own = scores.gather(1, self.relevant)
        losses = ((scores.logsumexp(1) - own.mean(1)) * self.share).sum(1)
        most = scores.shape[1] - self.k  # counted by those below, of which no number that is none has any
        missed = torch.stack([(scores < one).sum(1) < most for one in own.split(1, 1)], 1)
        missed &= (self.share > 0).unsqueeze(1)
        judged = self.k * (self.share > 0).sum(1)
        return 1 - missed.sum((1, 2)).double() / judged, losses

    def keep(self, rows: Tensor) -> None:
        """Go on with the problems of these places only, int64."""
        self.sizes = [self.sizes[row] for row in rows.tolist()]
        queries, documents = (max(size[part] for size in self.sizes) for part in (0, 1))
        self.at, self.mean, self.square = (
            one.kept(rows, queries, documents) for one in (self.at, self.mean, self.square)
        )
        self.relevant = self.relevant[rows, :, :queries]
        self.share, self.absent = self.share[rows, :queries], self.absent[rows, :documents]
        self._room()

    def _room(self) -> None:
        """What a step computes lies where that of the step before lay."""
        self.documents = self.at.documents.transpose(1, 2)
        problems, dimensions, queries = self.at.queries.shape
        self.gradient = _Vectors.like(self.at)
        self.scores = self.at.flat.new_empty(problems, self.documents.shape[1], queries)
        self.weighted = self.at.flat.new_empty(problems, dimensions, queries)

    def _gradient(self) -> Tensor:
        """The losses; their gradients in `gradient`.

        Powers of 2 are three times as quick as those of e. No score is above 1 / temperature, so none overflows.
        """
        import torch

        scores, k = self.scores, self.k
        alpha = 1 / (log(2) * self.temperature)
        torch.baddbmm(self.absent, self.documents, self.at.queries, alpha=alpha, out=scores).exp2_()
        mass = scores.sum(1)  # [problems, queries]
        own = scores.gather(1, self.relevant).log2_().mean(1)
        losses = torch.linalg.vecdot(mass.log2().sub_(own), self.share).mul_(log(2))
        scores.scatter_add_(1, self.relevant, mass.mul(-1 / k).unsqueeze(1).expand(self.relevant.shape))
        weight = (self.share / mass).mul_(1 / self.temperature).unsqueeze(1)
        torch.bmm(self.at.documents, scores, out=self.gradient.queries).mul_(weight)
        torch.mul(self.at.queries, weight, out=self.weighted)
        torch.bmm(self.weighted, scores.transpose(1, 2), out=self.gradient.documents)
        return losses


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The same, what pads made of length 1, as it has to stay: 0 / 0 is no number."""
    vectors[:, 0][~vectors.any(axis=1)] = 1
    return vectors


def _padded(parts: Sequence[np.ndarray], fill: float = 0) -> np.ndarray:
    """The parts in one array, each at the front, the rest of which is `fill`."""
    shape = np.max([part.shape for part in parts], axis=0)
    whole = np.full((len(parts), *shape), fill, parts[0].dtype)
    for number, part in enumerate(parts):
        whole[number][tuple(map(slice, part.shape))] = part
    return whole
