"""A classifier over pairs as a torch module: what cross_encoder runs, and what is trained of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrieval.batching import pad
from retrieval.files import whole_folder
from retrieval.model_files import has_weights, load_whole

__all__ = ["PairClassifier", "new_classifier"]

TOKENIZED = 1024  # pairs at a time


class PairClassifier(nn.Module):
    """A query and a document, read together, to one score: the logit, or of two logits the difference."""

    def __init__(self, transformer: Any, tokenizer: Any, max_length: int):
        """`max_length` is of a pair; a longer one is cut at the end of the document."""
        super().__init__()
        self.transformer, self.tokenizer, self.max_length = transformer, tokenizer, max_length
        self.base: str | None = None  # hash of the weights that it began with

    def tokenize_pairs(self, queries: Sequence[str], docs: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch of pairs, cut to the longest."""
        tokens, types, _ = self.read(list(zip(queries, docs, strict=True)))
        return self.padded(tokens, types)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Scores float32 [pairs]."""
        logits = self.transformer(**batch).logits.float()
        return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]

    def checkpoint_activations(self) -> None:
        """Hold less of each layer while training, and compute it again for the gradient. Chen et al. (2016)."""
        self.transformer.gradient_checkpointing_enable({"use_reentrant": False})

    def save(self, folder: Path) -> None:
        """Write a folder that cross_encoder and sentence-transformers read."""
        with whole_folder(Path(folder)) as part:
            self.transformer.save_pretrained(part)
            self.tokenizer.model_max_length = self.max_length
            self.tokenizer.save_pretrained(part)

    def padded(self, tokens: Sequence[Sequence[int]], types: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """The batch of these token ids and types; the types are left out where the model has none."""
        side = self.tokenizer.padding_side
        ids, mask = pad(tokens, self.tokenizer.pad_token_id, side)
        batch = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self.tokenizer.model_input_names:
            batch["token_type_ids"] = pad(types, self.tokenizer.pad_token_type_id, side)[0]
        return {name: torch.from_numpy(value) for name, value in batch.items()}

    def read(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[list[int]], list[list[int]], int]:
        """Token ids and token types of each pair, types 0 where the model has none; how many had to be cut."""
        tokens: list[list[int]] = [[]] * len(pairs)
        types, cut = list(tokens), 0
        for way, places in self._ways(pairs):
            for start in range(0, len(places), TOKENIZED):
                chunk = places[start : start + TOKENIZED]
                found, pieces = self._read([pairs[i] for i in chunk], way)
                cut += int(np.count_nonzero(pieces > 1))
                for i, (ids, kind) in zip(chunk, found, strict=True):
                    tokens[i], types[i] = ids, kind
        return tokens, types, cut

    def _ways(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, np.ndarray]]:
        """How each pair is cut where it must be, and the places of the pairs."""
        room = self.max_length - self.tokenizer.num_special_tokens_to_add(pair=True)
        queries = list(dict.fromkeys(query for query, _ in pairs))
        asked = self.tokenizer(queries, add_special_tokens=False, verbose=False)["input_ids"] if queries else []
        long = {query for query, ids in zip(queries, asked, strict=True) if len(ids) >= room}
        is_long = np.array([query in long for query, _ in pairs], bool)
        return [("only_second", np.flatnonzero(~is_long)), ("longest_first", np.flatnonzero(is_long))]

    def _read(self, pairs: list[tuple[str, str]], way: str) -> tuple[list[tuple[list[int], list[int]]], np.ndarray]:
        """Ids and types of each pair, and into how many pieces the limit cuts it."""
        queries, documents = map(list, zip(*pairs, strict=True))
        whole = self.tokenizer(
            queries, documents, truncation=way, max_length=self.max_length, return_overflowing_tokens=True
        )
        source = np.asarray(whole["overflow_to_sample_mapping"])
        ids, kinds = whole["input_ids"], whole.get("token_type_ids")
        first = np.flatnonzero(np.diff(source, prepend=-1))
        return [(ids[i], kinds[i] if kinds else [0] * len(ids[i])) for i in first], np.bincount(source)


def new_classifier(folder: Path, seed: int, dtype: torch.dtype) -> Any:
    """The transformer of a folder under a classifier of one label that is drawn with this seed.

    Raises ValueError for a folder that has a classifier of its own.
    """
    from transformers import AutoConfig

    about = AutoConfig.from_pretrained(has_weights(folder))
    if any(name.endswith("ForSequenceClassification") for name in about.architectures or ()):
        raise ValueError(f"{folder} has a classifier of its own: leave seed out")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return load_whole("AutoModelForSequenceClassification", folder, dtype, new_head=True)
