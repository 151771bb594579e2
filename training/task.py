"""What the training loop runs on: batches by their number, and the gradients of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

__all__ = ["Passes", "Task", "gathered"]


@dataclass(frozen=True)
class Passes:
    """How a step runs its module: wrapped for mixed precision and several processes, its gradients synchronised."""

    module: Callable[..., Any]
    backward: Callable[[Tensor], None]
    unsynced: Callable[[], AbstractContextManager]  # a context in which backward() only adds up in this process
    world_size: int
    process: int
    progress: int  # optimiser steps done
    sharded: bool  # a pass gathers weights from all processes, which so have to make as many


class Task(Protocol):
    """What the training loop runs on."""

    batch_size: int
    when_out_of_memory: str  # what to do then

    @property
    def module(self) -> nn.Module:
        """What is trained, its `model` what is measured and saved; its state is a checkpoint."""

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""

    def settings(self) -> dict[str, Any]:
        """All that determines the training but the optimiser, as plain values."""

    def collate(self, number: int, places: Sequence[int]) -> dict[str, Any]:
        """The batch of a number, of its `batch_size` items those at `places`; `names` are those of all its items."""

    def step(self, passes: Passes, inputs: dict[str, Any]) -> Tensor:
        """Add the gradients of a collated batch; its loss, detached."""

    def state(self) -> Mapping[str, Tensor]:
        """What a resumed run needs besides the weights."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""


def gathered(values: Tensor, passes: Passes) -> Tensor:
    """At least float32 values of all processes, those of this one with their gradient; shorter texts padded by zeros.

    The loss of what is gathered is to be multiplied by the number of processes: gradients are averaged over them.
    """
    values = values.to(torch.promote_types(values.dtype, torch.float32)).contiguous()
    if passes.world_size == 1:
        return values
    if values.ndim == 3:
        longest = torch.tensor(values.shape[1], device=values.device)
        torch.distributed.all_reduce(longest, torch.distributed.ReduceOp.MAX)
        values = nn.functional.pad(values, (0, 0, 0, int(longest) - values.shape[1])).contiguous()
    parts = [torch.empty_like(values) for _ in range(passes.world_size)]
    torch.distributed.all_gather(parts, values.detach())
    parts[passes.process] = values
    return torch.cat(parts)
