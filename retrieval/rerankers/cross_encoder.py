"""Cross-encoders: a classifier that reads query and document together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from retrieval.batching import distinct, in_batches, pad
from retrieval.model_files import (
    check_length,
    check_sha256,
    find_model,
    has_weights,
    load_whole,
    sha256,
    token_limit,
    tokenizer_hash,
)
from retrieval.running import Running

__all__ = ["CrossEncoder"]

TOKENIZED = 1024  # pairs at a time


class _Loaded(NamedTuple):
    model: Any
    tokenizer: Any
    max_length: int


class CrossEncoder:
    """A sequence classifier over pairs (Nogueira and Cho 2019), from a Hugging Face or sentence-transformers folder.

    The score is the logit where the model has one label, without the sigmoid that sentence-transformers puts on it by
    default: the order is the same, and large scores stay apart. With two labels, not relevant and relevant, it is the
    difference of their logits, which is the order of the second's probability.
    """

    def __init__(
        self,
        model: str,
        max_length: int | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32",
        batch_tokens: int | None = None,
        device: str | None = None,
        revision: str | None = None,
        sha256: str | None = None,
    ):
        """`max_length` is of a pair, None what the folder says; a longer one is cut at the end of the document.

        A query that leaves no room for a document is cut together with it. `dtype` is float32 by default because a
        bfloat16 logit has 8 bits, and documents tie; auto is bfloat16 where processor or GPU computes in it.
        `batch_tokens` bounds a padded batch: by default 1,024 tokens on a processor and 65,536 on a GPU.
        `sha256` is checked against model.safetensors; `revision` is one of the hub's.
        """
        self.model, self.max_length, self.dtype = model, max_length, dtype
        self.revision, self.sha256, self._running = revision, sha256, Running(dtype, batch_tokens, device)
        self.truncated_pairs = self.scored_pairs = 0  # of all so far

    def score(self, pairs: Iterable[tuple[str, str]]) -> np.ndarray:
        """float32 [pairs]. Equal pairs are scored once. Raises ValueError for NaN, with the pair."""
        import torch

        pairs = list(pairs)
        tokens, types, cut = self._tokenize(pairs)
        kinds, places = distinct([[*ids, *kind] for ids, kind in zip(tokens, types, strict=True)])
        scores = np.zeros(len(kinds), np.float32)

        def encode(part: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return self._forward([kinds[i] for i in part])

        lengths = [len(kind) // 2 for kind in kinds]
        for part, given in in_batches(encode, lengths, self._running.budget, self._running.device.type, "pairs"):
            scores[part] = given
        found = scores[places] if pairs else scores
        if not np.isfinite(found).all():
            query, text = pairs[int(np.argmin(np.isfinite(found)))]
            raise ValueError(f"{self.model} in {self.dtype} gives NaN or infinity for {query[:60]!r}, {text[:60]!r}")
        self.truncated_pairs += cut
        self.scored_pairs += len(pairs)
        return found

    def contract(self) -> Mapping[str, Any]:
        """Weights, tokenizer, length and dtype: what two scores must share to be compared."""
        loaded = self._loaded
        return {
            "reranker": "cross_encoder",
            "model": self.model,
            "revision": self.revision,
            "weights": self._weights,
            "tokenizer": tokenizer_hash(loaded.tokenizer),
            "max_length": loaded.max_length,
            "labels": loaded.model.config.num_labels,
            "dtype": str(loaded.model.dtype).removeprefix("torch."),
        }

    def provenance(self) -> dict[str, Any]:
        """The contract, the size of batches, and how many pairs were scored and cut, for the manifest."""
        counts = {"scored pairs": self.scored_pairs, "truncated pairs": self.truncated_pairs}
        return {**self.contract(), **self._running.budget.about(), **counts}

    @cached_property
    def _folder(self) -> Path:
        return find_model(self.model, self.revision)

    @cached_property
    def _weights(self) -> str:
        return sha256(sorted(self._folder.glob("*.safetensors")))

    @cached_property
    def _loaded(self) -> _Loaded:
        """Model and tokenizer, loaded when first used. Raises ValueError for a model that is no such classifier."""
        from transformers import AutoTokenizer

        folder = has_weights(self._folder)
        check_sha256(folder / "model.safetensors", self.sha256)
        _refuse_more(folder)
        kind = "AutoModelForSequenceClassification"
        model = load_whole(kind, folder, self._running.dtype, pooler=True).to(self._running.device)
        if model.config.num_labels not in (1, 2):
            raise ValueError(f"{self.model} has {model.config.num_labels} labels; a reranker has 1 or 2")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if tokenizer.pad_token_id is None:
            raise ValueError(f"{self.model}: its tokenizer has no pad_token, and pairs are scored in padded batches")
        check_length(folder, self.max_length, model.config)
        limit = self.max_length or token_limit(folder, tokenizer, model.config)
        if limit < tokenizer.num_special_tokens_to_add(pair=True) + 2:
            raise ValueError(f"max_length {limit} leaves no room for a query and a document")
        return _Loaded(model, tokenizer, limit)

    def _tokenize(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[list[int]], list[list[int]], int]:
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
        _, tokenizer, limit = self._loaded
        room = limit - tokenizer.num_special_tokens_to_add(pair=True)
        queries = list(dict.fromkeys(query for query, _ in pairs))
        asked = tokenizer(queries, add_special_tokens=False, verbose=False)["input_ids"] if queries else []
        long = {query for query, ids in zip(queries, asked, strict=True) if len(ids) >= room}
        is_long = np.array([query in long for query, _ in pairs], bool)
        return [("only_second", np.flatnonzero(~is_long)), ("longest_first", np.flatnonzero(is_long))]

    def _read(self, pairs: list[tuple[str, str]], way: str) -> tuple[list[tuple[list[int], list[int]]], np.ndarray]:
        """Ids and types of each pair, and into how many pieces the limit cuts it."""
        _, tokenizer, limit = self._loaded
        queries, documents = map(list, zip(*pairs, strict=True))
        whole = tokenizer(queries, documents, truncation=way, max_length=limit, return_overflowing_tokens=True)
        source = np.asarray(whole["overflow_to_sample_mapping"])
        ids, kinds = whole["input_ids"], whole.get("token_type_ids")
        first = np.flatnonzero(np.diff(source, prepend=-1))
        return [(ids[i], kinds[i] if kinds else [0] * len(ids[i])) for i in first], np.bincount(source)

    def _forward(self, kinds: list[tuple[int, ...]]) -> np.ndarray:
        """float32 [pairs], from ids and types one after the other."""
        import torch

        model, tokenizer, _ = self._loaded
        halves = [len(kind) // 2 for kind in kinds]
        side = tokenizer.padding_side
        ids, mask = pad([kind[:half] for kind, half in zip(kinds, halves, strict=True)], tokenizer.pad_token_id, side)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in tokenizer.model_input_names:
            types = [kind[half:] for kind, half in zip(kinds, halves, strict=True)]
            inputs["token_type_ids"] = pad(types, tokenizer.pad_token_type_id, side)[0]
        batch = {name: torch.from_numpy(value).to(self._running.device) for name, value in inputs.items()}
        logits = model(**batch).logits.float().cpu().numpy()
        return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def _refuse_more(folder: Path) -> None:
    """Raises ValueError for what sentence-transformers would do beyond the classifier: other modules, a prompt."""
    path, about = folder / "modules.json", folder / "config_sentence_transformers.json"
    modules = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    more = [one["type"] for one in modules if one["type"].rpartition(".")[2] != "Transformer" or one["path"]]
    if more:
        raise ValueError(f"{path}: {', '.join(more)}: known is a classifier alone, one Transformer")
    if about.is_file() and json.loads(about.read_text(encoding="utf-8")).get("default_prompt_name"):
        raise ValueError(f"{about} names a default prompt, which cross_encoder does not put before its pairs")
