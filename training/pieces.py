"""A batch in pieces of texts of like length, so that little of what is computed is padding."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Batch", "Piece", "pieces", "stack", "whole"]

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Piece:
    """Some texts of a batch, without the padding that only others need."""

    places: Tensor  # int64 [texts], in the batch
    batch: Batch


def pieces(batch: Batch, tokens: int, alike: bool = False) -> list[Piece]:
    """The texts by length, longest first, in pieces of at most so many padded tokens, one text at least.

    Every tensor of `batch` has the texts first, and `attention_mask` says which columns a text needs. `alike`, every
    process, of as many texts, makes as many pieces.
    """
    lengths = batch["attention_mask"].sum(1)
    order = lengths.argsort(descending=True, stable=True)
    longest = lengths[order].clamp(min=1).tolist()
    cuts = [0]
    for place in range(len(order)):
        if place > cuts[-1] and longest[cuts[-1]] * (place + 1 - cuts[-1]) > tokens:
            cuts.append(place)
    if alike:
        cuts = _as_many(cuts, len(order), order.device)
    bounds = zip(cuts, [*cuts[1:], len(order)], strict=True)
    return [Piece(order[start:end], _trimmed(batch, order[start:end])) for start, end in bounds]


def whole(places: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    """Representations of pieces, in the order of the batch."""
    return stack(parts)[torch.cat(list(places)).argsort()]


def stack(parts: Sequence[Tensor]) -> Tensor:
    """Representations one after the other; those of tokens padded with zeros to the longest."""
    if parts[0].ndim == 3:
        longest = max(part.shape[1] for part in parts)
        parts = [F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts]
    return torch.cat(list(parts))


def _as_many(cuts: list[int], texts: int, device: torch.device) -> list[int]:
    """Further cuts, each of the piece of most texts in half, up to those of the process that has most."""
    most = torch.tensor(len(cuts), device=device)
    torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
    cuts = list(cuts)
    while len(cuts) < int(most):
        start, end = max(pairwise([*cuts, texts]), key=lambda piece: piece[1] - piece[0])
        insort(cuts, (start + end) // 2)
    return cuts


def _trimmed(batch: Batch, places: Tensor) -> Batch:
    """These texts, without the columns on either side that none of them has a token in."""
    chosen = {name: value[places] for name, value in batch.items()}
    mask = chosen["attention_mask"]
    used = torch.nonzero(mask.any(0)).flatten().tolist() or [0]
    own = slice(used[0], used[-1] + 1)
    return {name: value[:, own] if value.shape == mask.shape else value for name, value in chosen.items()}
