"""What tunings of queries alone share: documents are frozen, so that their vectors and indexes stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

__all__ = ["queries_alone", "wearing"]


def queries_alone(model: Any, tuning: Any, transformer: Callable[[nn.Module], nn.Module]) -> None:
    """Freeze a bi-encoder, and let its queries pass what `transformer` makes of the frozen one.

    Raises ValueError for a model that has no side of queries, or has a tuned one.
    """
    from retrieval.bi_encoder import BiEncoder

    name = type(tuning).__name__
    if not isinstance(model, BiEncoder):
        raise ValueError(
            f"{name} trains queries alone, which {type(model).__name__} cannot: take the encoder transformer, or tune "
            "both sides"
        )
    if model.query_transformer is not None:
        raise ValueError(f"{name}: the queries of this model pass a transformer of their own already")
    model.requires_grad_(False)
    model.query_transformer = transformer(model.transformer)


def wearing(encoder: Any, folder: Any, tuning: Any) -> Any:
    """The encoder with an adapter of queries. Raises ValueError for one that wears none, or another model's."""
    if not hasattr(encoder, "wearing"):
        raise ValueError(f"{type(tuning).__name__}: {type(encoder).__name__} wears no adapter, transformer does")
    return encoder.wearing(folder)
