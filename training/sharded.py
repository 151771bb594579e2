"""Weights, gradients and optimiser spread over processes by accelerate's FSDP 2; files as of one process."""

from __future__ import annotations

import copy
import os
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import disable_fsdp_ram_efficient_loading
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

__all__ = ["fill", "launched_sharded", "load_optimiser", "prepare_launch", "sharding", "whole_optimiser"]


def launched_sharded() -> bool:
    """Whether accelerate was told to use FSDP."""
    return _told("ACCELERATE_USE_FSDP")


def prepare_launch() -> None:
    """Let each process load whole models. Raises ValueError for what accelerate was told and training cannot do."""
    if _told("ACCELERATE_USE_DEEPSPEED"):
        raise ValueError(
            "DeepSpeed is not supported: its engine owns the backward pass, and a GradCache step has several; launch "
            "with FSDP (fsdp_version: 2), which shards the same, or with plain data parallelism"
        )
    if not launched_sharded():
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ValueError("FSDP 1 is not supported: set fsdp_version: 2 in accelerate's config")
    if _told("FSDP_OFFLOAD_PARAMS"):
        raise ValueError("FSDP's fsdp_offload_params is not supported: set it to false in accelerate's config")
    if _told("FSDP_ACTIVATION_CHECKPOINTING"):
        raise ValueError(
            "fsdp_activation_checkpointing draws other dropout the second time: set it to false in accelerate's "
            "config, and trainer.checkpoint_activations to true"
        )
    disable_fsdp_ram_efficient_loading()  # on by default: other processes than the first would load empty models


def sharding(whole: nn.Module, plugin: Any, bfloat16: bool) -> nn.Module:
    """A copy to be sharded, layers one by one, gradients added up in float32; `whole` stays to be measured and saved.

    Sets `plugin`, accelerate's, to the precision.
    """
    module = copy.deepcopy(whole)
    module._no_split_modules = _layers(module)  # type: ignore[assignment]
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    plugin.mixed_precision_policy = half if bfloat16 else MixedPrecisionPolicy()
    return module


def fill(whole: nn.Module, sharded: nn.Module) -> None:
    """Give a whole module in every process the weights of a sharded one, gathered one by one."""
    own = whole.state_dict()
    for name, value in sharded.state_dict().items():
        own[name].copy_(_gathered(value))


def whole_optimiser(optimiser: Any) -> dict[str, Any]:
    """The state of an optimiser of sharded weights as it would be of whole ones, gathered."""
    return tree_map(
        lambda value: _gathered(value).cpu() if isinstance(value, DTensor) else value, optimiser.state_dict()
    )


def load_optimiser(optimiser: Any, path: Path) -> None:
    """Take up what `whole_optimiser` gave, of each weight's state the part that is this process's."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for place, own in state["state"].items():
        for name, value in own.items():
            if value.ndim:  # not the number of steps
                own[name] = _part(value, weights[place])
    optimiser.load_state_dict(state)


def _gathered(value: Tensor) -> Tensor:
    return value.full_tensor().detach() if isinstance(value, DTensor) else value


def _part(value: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _layers(module: nn.Module) -> list[str]:
    """The classes of a transformer's layers that can be gathered alone: others are used, or shared, outside them."""
    named = {name for part in module.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    uses = Counter(id(weight) for _, weight in module.named_parameters(remove_duplicate=False))
    layers = [part for part in module.modules() if type(part).__name__ in named]
    tied = {type(part).__name__ for part in layers if any(uses[id(weight)] > 1 for weight in part.parameters())}
    embeds = {type(part).__name__ for part in layers if any(isinstance(one, nn.Embedding) for one in part.modules())}
    return sorted({type(part).__name__ for part in layers} - tied - embeds)


def _told(name: str) -> bool:
    return os.environ.get(name, "false").lower() == "true"
