"""SPLADE as a torch module: what the encoder splade runs, and what is trained of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retrieval.files import whole_folder
from retrieval.sentence_folder import write_json

__all__ = ["MaskedLanguageWeights"]


class MaskedLanguageWeights(nn.Module):
    """Texts to weights float32 [texts, vocabulary]: max over tokens of log(1 + relu(logit)). Formal et al. (2021)."""

    table: Tensor | None

    def __init__(self, transformer: Any, tokenizer: Any, max_length: int, activation: str, table: Tensor | None = None):
        """`activation` relu, or log1p_relu for the log of that once more.

        `table` float32 [vocabulary] is what a token of a query weighs where no model runs for queries: it is not
        trained.
        """
        super().__init__()
        self.transformer, self.tokenizer, self.max_length = transformer, tokenizer, max_length
        self.activation = activation
        self.register_buffer("table", table, persistent=False)
        self.base: str | None = None  # hash of the weights that it began with

    def tokenize_queries(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch."""
        return self.tokenize_docs(texts)

    def tokenize_docs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch."""
        found = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.max_length,
            return_token_type_ids=False,
            return_tensors="pt",
        )
        return dict(found)

    def forward(self, batch: dict[str, Tensor], queries: bool = False) -> Tensor:
        """Weights float32 [texts, vocabulary] of a tokenised batch."""
        mask = batch["attention_mask"].bool()
        if queries and self.table is not None:
            found = torch.zeros(len(mask), len(self.table), device=mask.device)
            return found.scatter_(1, batch["input_ids"], self.table[batch["input_ids"]] * mask)
        padded = not bool(mask.all())  # where nothing is, attention may take its fastest path
        inputs = {name: value for name, value in batch.items() if padded or name != "attention_mask"}
        logits = self.transformer(**inputs).logits
        if padded:
            logits = logits.masked_fill_(~mask[..., None], 0)
        # the same as the max of the activations, which rise; amax is faster, and would keep the logits for a gradient
        highest = logits.max(1).values if torch.is_grad_enabled() else logits.amax(1)
        weights = highest.float().relu().log1p()
        return weights.log1p() if self.activation == "log1p_relu" else weights

    def score(self, queries: Tensor, docs: Tensor) -> Tensor:
        """Inner products [queries, docs]."""
        return queries @ docs.T

    def checkpoint_activations(self) -> None:
        """Hold less of each layer while training, and compute it again for the gradient. Chen et al. (2016)."""
        self.transformer.gradient_checkpointing_enable({"use_reentrant": False})

    def save(self, folder: Path) -> None:
        """Write a folder that splade and sentence-transformers' SparseEncoder read; a table goes into idf.json."""
        pooling = {"pooling_strategy": "max", "activation_function": self.activation}
        size = {"embedding_dimension": self.transformer.config.vocab_size}
        kinds = ["sentence_transformers.base.modules.transformer.Transformer"]
        kinds += ["sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling"]
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": kind}
            for i, (path, kind) in enumerate(zip(["", "1_SpladePooling"], kinds, strict=True))
        ]
        text = {"text": {"method": "forward", "method_output_name": "logits"}}
        task = {"transformer_task": "fill-mask", "modality_config": text, "module_output_name": "token_embeddings"}
        about = {"model_type": "SparseEncoder", "prompts": {"query": "", "document": ""}, "default_prompt_name": None}
        with whole_folder(Path(folder)) as part:
            self.transformer.save_pretrained(part)
            self.tokenizer.model_max_length = self.max_length
            self.tokenizer.save_pretrained(part)
            write_json(part / "modules.json", modules)
            write_json(part / "1_SpladePooling" / "config.json", pooling | size)
            write_json(part / "sentence_bert_config.json", {**task, "max_seq_length": self.max_length})
            write_json(part / "config_sentence_transformers.json", {**about, "similarity_fn_name": "dot"})
            if self.table is not None:
                write_json(part / "idf.json", self._table())

    def _table(self) -> dict[str, float]:
        """Token -> weight, of those that weigh anything."""
        table = self.table.tolist()  # type: ignore[union-attr]
        tokens = self.tokenizer.convert_ids_to_tokens(range(min(len(self.tokenizer), len(table))))
        return {token: weight for token, weight in zip(tokens, table, strict=False) if weight and token is not None}
