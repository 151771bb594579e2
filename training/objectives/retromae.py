"""RetroMAE: a weak decoder rebuilds a text from its vector, so that the vector must hold it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from retrieval.bi_encoder import BiEncoder
from training.masked_language import (
    IGNORED,
    Guesser,
    Hider,
    Layer,
    behind_vector,
    check_share,
    embedded,
    pooled,
    seeded,
)

__all__ = ["RetroMAE"]

Decoding = Literal["basic", "enhanced"]


class RetroMAE:
    """Masked language twice: by the encoder, and by a decoder of one layer that sees its vector. Xiao et al. (2022).

    The decoder has the vector that the encoder's pooling gives (of [CLS] where pooling is cls), the embeddings of the
    text with more of it hidden, and no state of a token.

    - `basic`: it guesses the `decoder_mask` tokens that are hidden from it;
    - `enhanced`: it guesses every token from its position, the vector, and other tokens of which each is hidden from
      it with probability `decoder_mask`.
    """

    def __init__(
        self, encoder_mask: float = 0.3, decoder_mask: float = 0.5, decoding: Decoding = "enhanced", seed: int = 0
    ):
        """Shares of the tokens; `seed` is that of the new weights."""
        if decoding not in get_args(Decoding):
            raise ValueError(f"there is no decoding {decoding!r}: choose from {', '.join(get_args(Decoding))}")
        self.encoder_mask = check_share("encoder_mask", encoder_mask)
        self.decoder_mask = check_share("decoder_mask", decoder_mask)
        self.decoding, self.seed = decoding, seed

    def head(self, model: BiEncoder) -> RetroMAEHead:
        """The encoder with its decoder. Raises ValueError for a model that is not like BERT."""
        return RetroMAEHead(model, self)


class RetroMAEHead(nn.Module):
    """Texts to the sum of both losses."""

    def __init__(self, encoder: BiEncoder, objective: RetroMAE):
        super().__init__()
        self._hider, self._objective = Hider(encoder, "retromae"), objective
        config = encoder.transformer.config
        self.decoder = seeded(lambda: Layer(config), encoder, objective.seed)
        self.guesser = seeded(lambda: Guesser(config), encoder, objective.seed + 1)
        self.encoder = encoder

    def batch(self, texts: Sequence[str], rng: np.random.Generator) -> dict[str, Tensor]:
        """The texts as the encoder sees them and as the decoder does, with what each is to guess."""
        batch = self._hider.read(texts)
        ids = batch["input_ids"].numpy()
        seen, labels = self._hider.hide(ids, self._objective.encoder_mask, rng)
        return {**batch, "input_ids": seen, "labels": labels} | self._for_decoder(ids, rng)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss, a scalar."""
        return torch.stack(self.losses(batch)).sum()

    def losses(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """That of the encoder and that of the decoder."""
        taken = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
        states, embeddings = self.encoder.transformer(**taken).last_hidden_state, embedded(self.encoder)
        decoded = self.decode(pooled(self.encoder, states, batch["attention_mask"]), batch)
        return (
            self.guesser.loss(states, batch["labels"], embeddings),
            self.guesser.loss(decoded, batch["decoder_labels"], embeddings),
        )

    def decode(self, vectors: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The decoder's states [texts, tokens, width] from the texts' vectors and their tokens as it sees them."""
        embed = self.encoder.transformer.embeddings
        states = behind_vector(vectors, embed(input_ids=batch["decoder_ids"]))
        visible = batch["attention_mask"].bool()[:, None]
        if self._objective.decoding == "basic":
            return self.decoder(states, states, visible)
        asking = embed(inputs_embeds=vectors[:, None].expand_as(states))  # the vector at each position
        return self.decoder(asking, states, visible & batch["visible"])

    def _for_decoder(self, ids: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        share = self._objective.decoder_mask
        if self._objective.decoding == "basic":
            hidden, guessed = self._hider.hide(ids, share, rng)
            return {"decoder_ids": hidden, "decoder_labels": guessed}
        texts, tokens = ids.shape
        visible = (rng.random((texts, tokens, tokens)) >= share) & ~np.eye(tokens, dtype=bool)
        visible[:, :, 0] = True  # the vector
        labels = np.where(self._hider.words(ids), ids, IGNORED)
        arrays = {"decoder_ids": ids, "decoder_labels": labels, "visible": visible}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
