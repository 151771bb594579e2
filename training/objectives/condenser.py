"""Condenser: late layers speak to the masked words through one vector alone, so that they put the text into it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from retrieval.bi_encoder import BiEncoder
from training.masked_language import Guesser, Hider, Layer, behind_vector, check_share, embedded, pooled, seeded

__all__ = ["Condenser"]


class Condenser:
    """Masked language from the last layer, and from a head over its vector and an earlier layer. Gao and Callan (2021).

    The head, of `layers` layers, reads the vector that the encoder's pooling makes of the last layer (its [CLS] where
    pooling is cls) and the states of the tokens in layer `early`, None being the one in the middle.
    """

    def __init__(self, mask: float = 0.15, layers: int = 2, early: int | None = None, seed: int = 0):
        """`mask` is the share of the tokens that is hidden; `seed` is that of the new weights."""
        self.mask = check_share("mask", mask)
        if layers < 1:
            raise ValueError(f"layers is {layers}; the head has 1 or more")
        self.layers, self.early, self.seed = layers, early, seed

    def head(self, model: BiEncoder) -> CondenserHead:
        """The encoder with its head. Raises ValueError for a model that is not like BERT, or has no such layer."""
        return CondenserHead(model, self)


class CondenserHead(nn.Module):
    """Texts to the sum of both losses."""

    def __init__(self, encoder: BiEncoder, objective: Condenser):
        super().__init__()
        self._hider, self._objective = Hider(encoder, "condenser"), objective
        config = encoder.transformer.config
        last, early = config.num_hidden_layers, objective.early
        self.early = last // 2 if early is None else early
        if not 1 <= self.early < last:
            raise ValueError(f"early is {self.early}, of a model with {last} layers: take one from 1 to {last - 1}")

        self.layers = seeded(
            lambda: nn.ModuleList(Layer(config) for _ in range(objective.layers)), encoder, objective.seed
        )
        self.guesser = seeded(lambda: Guesser(config), encoder, objective.seed + 1)
        self.encoder = encoder

    def batch(self, texts: Sequence[str], rng: np.random.Generator) -> dict[str, Tensor]:
        """The texts with some of their tokens hidden, and what these were."""
        batch = self._hider.read(texts)
        seen, labels = self._hider.hide(batch["input_ids"].numpy(), self._objective.mask, rng)
        return {**batch, "input_ids": seen, "labels": labels}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss, a scalar."""
        return torch.stack(self.losses(batch)).sum()

    def losses(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """That of the last layer and that of the head."""
        taken = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
        found = self.encoder.transformer(**taken, output_hidden_states=True)
        late, early = found.last_hidden_state, found.hidden_states[self.early]
        visible = batch["attention_mask"].bool()[:, None]
        states = behind_vector(pooled(self.encoder, late, batch["attention_mask"]), early)
        for layer in self.layers:
            states = layer(states, states, visible)
        labels, embeddings = batch["labels"], embedded(self.encoder)
        return self.guesser.loss(late, labels, embeddings), self.guesser.loss(states, labels, embeddings)
