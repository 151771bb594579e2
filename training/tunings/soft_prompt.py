"""Virtual tokens before the queries of a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.tunings._queries import queries_alone, wearing

__all__ = ["SoftPrompt"]


class SoftPrompt:
    """Only `tokens` embeddings before each query are trained. Lester et al. (2021), prompt tuning.

    Every weight of the encoder is frozen, so that a document index is used again.
    """

    def __init__(self, tokens: int = 16, init_text: str | None = None, seed: int = 0):
        """They begin as the embeddings of `init_text`, repeated or cut, or of entries of the vocabulary at random."""
        if tokens < 1:
            raise ValueError(f"tokens is {tokens}: a soft prompt has at least 1")
        self.tokens, self.init_text, self.seed = tokens, init_text, seed

    def prepare(self, model: Any) -> None:
        """Raises ValueError for a model that is no bi-encoder, or has too few positions."""
        import peft
        import torch

        from retrieval.adapters import sharing

        config = peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=self.tokens)
        queries_alone(model, self, lambda transformer: peft.get_peft_model(sharing(transformer), config))
        positions = getattr(model.transformer.config, "max_position_embeddings", None)
        if positions and self.tokens >= positions:
            raise ValueError(f"tokens is {self.tokens}, and the model has {positions} positions for prompt and query")
        embeddings = model.transformer.get_input_embeddings().weight
        first = torch.tensor(self._first(model.tokenizer, len(embeddings)), device=embeddings.device)
        with torch.no_grad():
            model.query_transformer.get_parameter("prompt_encoder.default.embedding.weight").copy_(embeddings[first])

    def save(self, model: Any, folder: Path) -> None:
        """Write a folder of peft's, with the hash of the weights that the prompt belongs to."""
        from retrieval.adapters import save_adapter

        save_adapter(model.query_transformer, folder, model.base)

    def trained(self, encoder: Any, folder: Path) -> Any:
        """The encoder with the prompt before its queries. Raises ValueError for a prompt of another model."""
        return wearing(encoder, folder, self)

    def _first(self, tokenizer: Any, entries: int) -> list[int]:
        """The ids that the virtual tokens begin as."""
        if self.init_text is None:
            return np.random.default_rng(self.seed).integers(entries, size=self.tokens).tolist()
        ids = tokenizer(self.init_text, add_special_tokens=False).input_ids
        if not ids:
            raise ValueError(f"init_text {self.init_text!r} has no token: give words, or leave it out")
        return [ids[i % len(ids)] for i in range(self.tokens)]
