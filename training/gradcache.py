"""GradCache: the gradient of a large batch in the memory of a small one. Gao et al. (2021), arXiv 2101.06983."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Chunk", "cached_step", "chunks", "stack"]

Batch = Mapping[str, Tensor]
Module = Callable[..., tuple[Tensor | None, ...]]


@dataclass(frozen=True)
class Chunk:
    """A part of the texts of one side, without the padding that only other parts need."""

    side: str
    batch: Batch


def chunks(side: str, batch: Batch, tokens: int) -> list[Chunk]:
    """Parts of at most so many padded tokens, one text at least, in order; `batch` has the texts first."""
    mask = batch["attention_mask"]
    lengths = mask.sum(1).tolist()
    cuts, longest = [0], 0
    for place, length in enumerate(lengths):
        longest = max(longest, length)
        if place > cuts[-1] and longest * (place + 1 - cuts[-1]) > tokens:
            cuts.append(place)
            longest = length
    bounds = zip(cuts, [*cuts[1:], len(lengths)], strict=True)
    return [Chunk(side, trimmed({name: value[start:end] for name, value in batch.items()})) for start, end in bounds]


def trimmed(batch: Batch) -> dict[str, Tensor]:
    """A batch without the columns that no text has a token in."""
    mask = batch["attention_mask"]
    used = torch.nonzero(mask.any(0)).flatten()
    if not len(used):
        return {name: value[:, :1] if value.shape[1:] == mask.shape[1:] else value for name, value in batch.items()}
    own = slice(int(used[0]), int(used[-1]) + 1)
    return {name: value[:, own] if value.shape[1:] == mask.shape[1:] else value for name, value in batch.items()}


def stack(parts: Sequence[Tensor]) -> Tensor:
    """Representations one after the other; those of tokens padded with zeros to the longest."""
    if parts[0].ndim == 3:
        longest = max(part.shape[1] for part in parts)
        parts = [F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts]
    return torch.cat(list(parts))


def cached_step(
    module: Module,
    parts: Sequence[Chunk],
    loss: Callable[[Mapping[str, Tensor]], Tensor],
    backward: Callable[[Tensor], None],
    unsynced: Callable[[], AbstractContextManager] = nullcontext,
) -> Tensor:
    """Add the gradients of `loss` of all representations, by side, without holding the graph of more than one chunk.

    Each chunk passes `module(**{side: batch})` twice with the same random numbers: first for its representations alone,
    then for the gradients that these got from the loss. With several processes only the last chunk synchronises.
    """
    states, found = [], []
    for part in parts:
        states.append(_Random(part.batch))
        with torch.no_grad():
            found.append(_only(module(**{part.side: part.batch})).detach().requires_grad_())
    sides = dict.fromkeys(part.side for part in parts)
    by_side = {
        side: stack([one for one, part in zip(found, parts, strict=True) if part.side == side]) for side in sides
    }
    value = loss(by_side)
    value.backward()  # type: ignore[no-untyped-call]
    for place, (part, state, one) in enumerate(zip(parts, states, found, strict=True)):
        last = place == len(parts) - 1
        with state.again(), nullcontext() if last else unsynced():
            made = _only(module(**{part.side: part.batch}))
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
