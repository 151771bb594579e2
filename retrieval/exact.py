"""Exact search by matrix products: what they may be wrong by, and who takes them in on each device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from retrieval.candidates import Candidates

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["EPSILON", "SLACK", "TINY", "fixed_sum", "full_precision", "gamma", "multiply", "size_of_tiles"]

EPSILON = 2.0**-24  # unit round-off of float32
SLACK = 32  # candidates beyond k, where they are taken by number
TINY = 2.0**-126  # a float32 below may count as zero
CELLS = 1 << 21  # products that a thread of the processor holds at a time: they stay in the cache
LEAST = 128  # documents that it multiplies at a time, or a multiple of that: rows of products start on cache lines


def gamma(terms: int) -> float:
    """The relative error of a float32 sum of products, in whatever order: n u / (1 - n u). Higham (2002), 3.1."""
    return terms * EPSILON / (1 - terms * EPSILON)


def multiply(queries: np.ndarray, device: torch.device, tiles: Iterator[tuple[int, Tensor]], found: Candidates) -> None:
    """Multiply float32 [queries, dimensions] with tiles on the device, and hand on what may be a candidate."""
    import torch

    asked, products = torch.from_numpy(queries).to(device), torch.empty(0)
    for first, tile in tiles:
        if device.type != "cpu":
            gather_there(asked, first, tile, found)
            continue
        shape = len(asked), len(tile)
        if products.numel() < shape[0] * shape[1]:
            products = torch.empty(shape[0] * shape[1])
        product = products[: shape[0] * shape[1]].view(shape)
        torch.mm(asked, tile.T, out=product)
        found.gather(first, product.numpy())


def size_of_tiles(queries: int, documents: int, threads: int) -> int:
    """How many documents a thread of the processor should multiply with so many queries at a time."""
    return LEAST * max(1, min(CELLS // max(queries, 1), -(-documents // (4 * threads))) // LEAST)


def gather_there(asked: Tensor, first: int, tile: Tensor, found: Candidates) -> None:
    """Multiply on the device of both, and bring back no more than what reaches the limits known by now."""
    import torch

    product = asked @ tile.T
    limits = torch.from_numpy(found.limits).to(asked.device)
    if product.shape[1] > found.k and np.isneginf(found.limits).any():
        least = product.topk(found.k, dim=1, sorted=False).values.amin(dim=1)
        limits = torch.maximum(limits, least - torch.from_numpy(found.slack).to(asked.device))
    query, doc = (product >= limits[:, None]).nonzero(as_tuple=True)
    found.add(first, query.cpu().numpy(), doc.cpu().numpy(), product[query, doc].cpu().numpy())


def fixed_sum(values: Tensor) -> Tensor:
    """The sum over the last axis by halving: elementwise additions only, so the same bits on every device."""
    import torch

    width = 1 << max(values.shape[-1] - 1, 0).bit_length()
    values = torch.nn.functional.pad(values, (0, width - values.shape[-1]))
    while width > 1:
        width //= 2
        values = values[..., :width] + values[..., width:]
    return values[..., 0]


class full_precision:
    """Matrix products in full float32, whatever the program asked for elsewhere (no TF32, no bfloat16)."""

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")

    def __exit__(self, *error: object) -> None:
        import torch

        torch.set_float32_matmul_precision(self.before)
