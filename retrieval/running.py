"""What a model runs on: device, dtype, and how many tokens at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from retrieval.batching import Budget
from retrieval.model_files import choose_device, choose_dtype

if TYPE_CHECKING:
    import torch

__all__ = ["BATCH_TOKENS", "Running"]

BATCH_TOKENS = {"cpu": 1024, "cuda": 65536, "mps": 8192}  # of a padded batch; on a processor each core has its own


@dataclass(frozen=True)
class Running:
    """The `dtype`, `batch_tokens` and `device` of a recipe; what they mean is found when it is asked for."""

    dtype_name: str
    batch_tokens: int | None
    device_name: str | None
    defaults: Mapping[str, int] = field(default_factory=lambda: BATCH_TOKENS)  # batch_tokens by kind of device

    @property
    def device(self) -> torch.device:
        """None is the GPU where there is one. Raises ValueError for a GPU that there is not."""
        return choose_device(self.device_name)

    @property
    def dtype(self) -> torch.dtype:
        """auto is bfloat16 where the device computes in it."""
        return choose_dtype(self.dtype_name, self.device)

    @cached_property
    def budget(self) -> Budget:
        """The tokens of a batch; one for the lifetime of the model."""
        return Budget(self.batch_tokens or self.defaults[self.device.type])
