"""Cross-encoders: a classifier that reads query and document together."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval.batching import distinct, in_batches
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

if TYPE_CHECKING:
    import torch

    from retrieval.trainable_cross_encoder import PairClassifier

__all__ = ["CrossEncoder"]


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
        seed: int | None = None,
    ):
        """`max_length` is of a pair, None what the folder says; a longer one is cut at the end of the document.

        A query that leaves no room for a document is cut together with it. `dtype` is float32 by default because a
        bfloat16 logit has 8 bits, and documents tie; auto is bfloat16 where processor or GPU computes in it.
        `batch_tokens` bounds a padded batch: by default 1,024 tokens on a processor and 65,536 on a GPU.
        `sha256` is checked against model.safetensors; `revision` is one of the hub's. `seed` draws a new classifier of
        one label for a folder that has none, to be trained; None refuses such a folder.
        """
        self.model, self.max_length, self.dtype = model, max_length, dtype
        self.revision, self.sha256, self._running = revision, sha256, Running(dtype, batch_tokens, device)
        self.seed = seed
        self.truncated_pairs = self.scored_pairs = 0  # of all so far

    def score(self, pairs: Iterable[tuple[str, str]]) -> np.ndarray:
        """float32 [pairs]. Equal pairs are scored once. Raises ValueError for NaN, with the pair."""
        import torch

        pairs, classifier, device = list(pairs), self._classifier, self._running.device
        tokens, types, cut = classifier.read(pairs)
        kinds, places = distinct([[*ids, *kind] for ids, kind in zip(tokens, types, strict=True)])
        scores = np.zeros(len(kinds), np.float32)

        def encode(part: np.ndarray) -> np.ndarray:
            halves = [(kinds[i][: len(kinds[i]) // 2], kinds[i][len(kinds[i]) // 2 :]) for i in part]
            batch = classifier.padded(*zip(*halves, strict=True))
            with torch.inference_mode():
                return classifier({name: value.to(device) for name, value in batch.items()}).cpu().numpy()

        lengths = [len(kind) // 2 for kind in kinds]
        for part, given in in_batches(encode, lengths, self._running.budget, device.type, "pairs"):
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
        classifier = self._classifier
        return {
            "reranker": "cross_encoder",
            "model": self.model,
            "revision": self.revision,
            "weights": self._weights,
            "tokenizer": tokenizer_hash(classifier.tokenizer),
            "max_length": classifier.max_length,
            "labels": classifier.transformer.config.num_labels,
            "dtype": str(classifier.transformer.dtype).removeprefix("torch."),
        } | ({} if self.seed is None else {"seed of the classifier": self.seed})

    def provenance(self) -> dict[str, Any]:
        """The contract, the size of batches, and how many pairs were scored and cut, for the manifest."""
        counts = {"scored pairs": self.scored_pairs, "truncated pairs": self.truncated_pairs}
        return {**self.contract(), **self._running.budget.about(), **counts}

    def trainable(self) -> PairClassifier:
        """A new float32 copy from the model's files, for a trainer to change."""
        import torch

        classifier = self._load(torch.float32)
        classifier.base = self._weights
        return classifier

    def around(self, module: PairClassifier) -> CrossEncoder:
        """The same reranker around a copy of a model in memory."""
        reranker = copy.copy(self)
        reranker.model, reranker.truncated_pairs, reranker.scored_pairs = "in memory", 0, 0
        classifier = copy.deepcopy(module).to(self._running.device, self._running.dtype).eval()
        reranker.__dict__ |= {"_weights": "in memory", "_classifier": classifier}
        return reranker

    def trained(self, folder: Path) -> CrossEncoder:
        """The same reranker with the model that a trainer wrote; its length is in its folder."""
        running = self._running
        return CrossEncoder(str(folder), None, self.dtype, running.batch_tokens, running.device_name)

    @cached_property
    def _folder(self) -> Path:
        return find_model(self.model, self.revision)

    @cached_property
    def _weights(self) -> str:
        return sha256(sorted(self._folder.glob("*.safetensors")))

    @cached_property
    def _classifier(self) -> PairClassifier:
        """The model, loaded when first used."""
        return self._load(self._running.dtype)

    def _load(self, dtype: torch.dtype) -> PairClassifier:
        """Model and tokenizer. Raises ValueError for a model that is no such classifier."""
        from transformers import AutoTokenizer

        from retrieval.trainable_cross_encoder import PairClassifier, new_classifier

        folder = has_weights(self._folder)
        check_sha256(folder / "model.safetensors", self.sha256)
        if self.seed is None:
            _refuse_more(folder)
            model = load_whole("AutoModelForSequenceClassification", folder, dtype, pooler=True)
        else:
            model = new_classifier(folder, self.seed, dtype)
        if model.config.num_labels not in (1, 2):
            raise ValueError(f"{self.model} has {model.config.num_labels} labels; a reranker has 1 or 2")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if tokenizer.pad_token_id is None:
            raise ValueError(f"{self.model}: its tokenizer has no pad_token, and pairs are scored in padded batches")
        check_length(folder, self.max_length, model.config)
        limit = self.max_length or token_limit(folder, tokenizer, model.config)
        if limit < tokenizer.num_special_tokens_to_add(pair=True) + 2:
            raise ValueError(f"max_length {limit} leaves no room for a query and a document")
        return PairClassifier(model, tokenizer, limit).to(self._running.device).eval()


def _refuse_more(folder: Path) -> None:
    """Raises ValueError for what sentence-transformers would do beyond the classifier: other modules, a prompt."""
    path, about = folder / "modules.json", folder / "config_sentence_transformers.json"
    modules = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    more = [one["type"] for one in modules if one["type"].rpartition(".")[2] != "Transformer" or one["path"]]
    if more:
        raise ValueError(f"{path}: {', '.join(more)}: known is a classifier alone, one Transformer")
    if about.is_file() and json.loads(about.read_text(encoding="utf-8")).get("default_prompt_name"):
        raise ValueError(f"{about} names a default prompt, which cross_encoder does not put before its pairs")
