"""GradCache: the gradient of a large batch in the memory of a small one. Gao et al. (2021), arXiv 2101.06983."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor

from training.pieces import Batch, Piece, whole

__all__ = ["cached_step"]

Module = Callable[..., tuple[Tensor | None, ...]]


def cached_step(
    module: Module,
    sides: Mapping[str, Sequence[Piece]],
    loss: Callable[[Mapping[str, Tensor]], Tensor],
    backward: Callable[[Tensor], None],
    unsynced: Callable[[], AbstractContextManager] = nullcontext,
) -> Tensor:
    """Add the gradients of `loss` of all representations, by side, without holding the graph of more than one piece.

    Each piece passes `module(**{side: batch})` twice with the same random numbers: first for its representations alone,
    then for the gradients that these got from the loss. A side without a gradient, such as frozen documents, passes
    once. With several processes only the last pass synchronises, so the last side that has gradients has to have those
    of all parameters.
    """
    passed = [
        # the last piece has the shortest texts: it shows whether its side has a gradient
        _Passed(module, side, piece, own[-1].places is piece.places, unsynced)
        for side, own in sides.items()
        for piece in own
    ]
    by_side = {
        side: whole([piece.places for piece in own], [one.found for one in passed if one.side == side])
        for side, own in sides.items()
    }
    value = loss(by_side)
    value.backward()  # type: ignore[no-untyped-call]
    trained = {one.side for one in passed if one.has_gradient}
    again = [one for one in passed if one.side in trained]
    for one in again:
        with nullcontext() if one is again[-1] else unsynced():
            backward(one.again(module))
    return value.detach()


class _Passed:
    """What a module made of a piece, and how to make it again with a gradient."""

    def __init__(
        self, module: Module, side: str, piece: Piece, shows: bool, unsynced: Callable[[], AbstractContextManager]
    ):
        self.side, self.batch, self.random = side, piece.batch, _Random(piece.batch)
        with torch.set_grad_enabled(shows), unsynced():
            made = _only(module(**{side: piece.batch}))
        self.has_gradient, self.found = made.requires_grad, made.detach().requires_grad_()

    def again(self, module: Module) -> Tensor:
        """A scalar whose gradient is the part of the loss's that went through this piece."""
        with self.random.again():
            made = _only(module(**{self.side: self.batch}))
        return (made * cast(Tensor, self.found.grad)).sum()


def _only(made: tuple[Tensor | None, ...]) -> Tensor:
    return next(one for one in made if one is not None)


class _Random:
    """The state of the random numbers that a chunk's dropout draws from."""

    def __init__(self, batch: Batch):
        device = next(iter(batch.values())).device
        self.devices = [device] if device.type == "cuda" else []
        self.cpu = torch.get_rng_state()
        self.gpu = [torch.cuda.get_rng_state(one) for one in self.devices]

    @contextmanager
    def again(self) -> Iterator[None]:
        """The numbers of the first time, without a trace on those to come."""
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.cpu)
            for device, state in zip(self.devices, self.gpu, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
