"""The trainable faces of encoders and rerankers: a tokenised batch to tensors with a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["PairTrainable", "Trainable", "VectorLoss"]


class Trainable(Protocol):
    """A torch module that maps texts to representations and compares these.

    Representations are one tensor, its first axis the texts: vectors float [texts, width], or those of tokens [texts,
    tokens, width], where a token without a vector is all zeros and never the best. A module may have
    `tokenize_instructed(texts, instructions)` for queries that carry an instruction each, where it is searched with it.
    """

    def tokenize_queries(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch of queries, prompts and truncation applied; every tensor has the texts first."""

    def tokenize_docs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch of documents, prompts and truncation applied; every tensor has the texts first."""

    def forward(self, batch: dict[str, Tensor], queries: bool = False) -> Tensor:
        """The representations of a tokenised batch of documents, or of queries."""

    def score(self, queries: Tensor, docs: Tensor) -> Tensor:
        """Scores [queries, docs] of every query with every document."""

    def save(self, folder: Path) -> None:
        """Write the model into a new folder."""


class PairTrainable(Protocol):
    """A torch module that scores a query and a document read together."""

    def tokenize_pairs(self, queries: Sequence[str], docs: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch of pairs; every tensor has the pairs first."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Scores [pairs]."""

    def save(self, folder: Path) -> None:
        """Write the model into a new folder."""


@runtime_checkable
class VectorLoss(Protocol):
    """A loss that compares the representations in ways of its own, such as cut to their first dimensions."""

    step: int  # optimiser steps done, for what it draws at random

    def of_vectors(self, queries: Tensor, docs: Tensor, model: Trainable, labels: Tensor, mask: Tensor) -> Tensor:
        """A scalar; `model.score` is the usual comparison, `labels` and `mask` are [queries, docs]."""
