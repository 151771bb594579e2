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
    then for the gradients that these got from the loss. With several processes only the last one synchronises, so the
    last side has to have all parameters that are trained.
    """
    parts = [(side, piece) for side, own in sides.items() for piece in own]
    states, found = [], []
    for side, piece in parts:
        states.append(_Random(piece.batch))
        with torch.no_grad():
            found.append(_only(module(**{side: piece.batch})).detach().requires_grad_())
    by_side = {
        side: whole(
            [piece.places for piece in own], [one for one, (of, _) in zip(found, parts, strict=True) if of == side]
        )
        for side, own in sides.items()
    }
    value = loss(by_side)
    value.backward()  # type: ignore[no-untyped-call]
    for place, ((side, piece), state, one) in enumerate(zip(parts, states, found, strict=True)):
        last = place == len(parts) - 1
        with state.again(), nullcontext() if last else unsynced():
            made = _only(module(**{side: piece.batch}))
            if made.requires_grad or last:
                backward((made * cast(Tensor, one.grad)).sum())
    return value.detach()


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
