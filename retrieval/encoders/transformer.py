"""Single-vector encoders."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval.batching import batches, distinct, in_batches, tokenize
from retrieval.model_files import (
    MINILM,
    PACKAGED,
    check_sha256,
    choose_device,
    choose_dtype,
    find_model,
    sha256,
    tokenizer_hash,
)
from retrieval.types import Dense, Pooling

if TYPE_CHECKING:
    import torch

    from retrieval.bi_encoder import BiEncoder

__all__ = ["Transformer"]

log = logging.getLogger(__name__)

BATCH_TOKENS = {"cpu": 1024, "cuda": 65536, "mps": 8192}
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Transformer:
    """A bi-encoder from any Hugging Face or sentence-transformers folder; None means what the folder says."""

    def __init__(
        self,
        model: str = MINILM,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        query_prompt: str | None = None,
        doc_prompt: str | None = None,
        max_length: int | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        batch_tokens: int | None = None,
        device: str | None = None,
        revision: str | None = None,
        sha256: str | None = None,
        padding_side: Literal["left", "right"] | None = None,
    ):
        """`dtype` auto is bfloat16 where processor or GPU computes in it.

        `batch_tokens` bounds a padded batch: by default 1,024 tokens on a processor, where each core takes a batch of
        its own, and 65,536 on a GPU.

        `sha256` is checked against model.safetensors; `revision` is one of the hub's.
        """
        self.model, self.revision, self.sha256 = model, revision, sha256
        self.chosen: dict[str, Any] = dict(
            pooling=pooling,
            normalize=normalize,
            query_prompt=query_prompt,
            doc_prompt=doc_prompt,
            max_length=max_length,
            padding_side=padding_side,
        )
        self.dtype, self.batch_tokens, self.device = dtype, batch_tokens, device

    def encode_queries(self, texts: Sequence[str]) -> Dense:
        """Vectors float32 [texts, dimensions]."""
        return self._encode(texts, self.bi_encoder.settings.query_prompt, "queries")

    def encode_docs(self, texts: Sequence[str]) -> Dense:
        """Vectors float32 [texts, dimensions]."""
        return self._encode(texts, self.bi_encoder.settings.doc_prompt, "documents")

    def contract(self) -> Mapping[str, Any]:
        """Weights, settings, tokenizer and dtype: what two sets of vectors must share to be compared."""
        return {
            "encoder": "transformer",
            "model": self.model,
            "revision": self.revision,
            "weights": self._weights,
            "tokenizer": tokenizer_hash(self.bi_encoder.tokenizer),
            **asdict(self.bi_encoder.settings),
            "dimensions": self.bi_encoder.dimensions,
            "dtype": str(next(self.bi_encoder.parameters()).dtype).removeprefix("torch."),
        }

    def provenance(self) -> dict[str, Any]:
        """The contract, for the manifest."""
        return dict(self.contract())

    def trainable(self) -> BiEncoder:
        """A new float32 copy from the model's files, for a trainer to change."""
        return self._load(None)

    def trained(self, folder: Path) -> Transformer:
        """The same encoder with the model that a trainer wrote; prompts and the like are in its folder."""
        return Transformer(str(folder), dtype=self.dtype, batch_tokens=self.batch_tokens, device=self.device)

    @classmethod
    def of(cls, bi_encoder: BiEncoder, like: Transformer) -> Transformer:
        """An encoder around a copy of a model in memory, which encodes as another one does."""
        import copy

        encoder = cls("in memory", dtype=like.dtype, batch_tokens=like.batch_tokens, device=like.device)
        encoder.__dict__["bi_encoder"] = copy.deepcopy(bi_encoder).to(encoder._device, encoder._dtype).eval()
        return encoder

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are."""
        return find_model(self.model, self.revision)

    @cached_property
    def bi_encoder(self) -> BiEncoder:
        """The model, loaded when first used."""
        return self._load(self._dtype)

    def _load(self, dtype: torch.dtype | None) -> BiEncoder:
        """The model, its weights checked, in a dtype; None is float32."""
        import torch

        from retrieval.bi_encoder import BiEncoder, Settings, check_weights

        weights = check_weights(self.folder) / "model.safetensors"
        check_sha256(weights, self.sha256 or (MINILM_SHA256 if self.model in PACKAGED else None))
        return BiEncoder.load(self.folder, Settings(**self.chosen), dtype or torch.float32).to(self._device)

    @cached_property
    def _weights(self) -> str:
        if self.model == "in memory":
            return "in memory"
        return sha256(sorted(self.folder.rglob("*.safetensors")))

    @property
    def _device(self) -> torch.device:
        return choose_device(self.device)

    @property
    def _dtype(self) -> torch.dtype:
        return choose_dtype(self.dtype, self._device)

    def _encode(self, texts: Sequence[str], prompt: str | None, what: str) -> Dense:
        import torch

        settings = self.bi_encoder.settings
        tokens, cut = tokenize(self.bi_encoder.tokenizer, texts, settings.max_length, prompt or "")
        kinds, places = distinct(tokens)
        vectors = np.zeros((len(kinds), self.bi_encoder.dimensions), np.float32)

        def encode(part: np.ndarray) -> np.ndarray | float:
            if not kinds[part[0]]:  # the longest of the batch: a text without tokens has the zero vector
                return 0.0
            with torch.inference_mode():
                return self._forward([list(kinds[i]) for i in part])

        device = self._device.type
        parts = batches([len(ids) for ids in kinds], self.batch_tokens or BATCH_TOKENS[device])
        for part, found in in_batches(encode, parts, device, what):
            vectors[part] = found
        if not np.isfinite(vectors).all():
            text = next(text for text, i in zip(texts, places, strict=True) if not np.isfinite(vectors[i]).all())
            raise ValueError(f"{self.model} in {self.dtype} gives NaN or infinity for {text[:60]!r}")
        return Dense(vectors[places], cut)

    def _forward(self, tokens: list[list[int]]) -> np.ndarray:
        batch = self.bi_encoder.tokenizer.pad({"input_ids": tokens}, return_tensors="pt")
        return self.bi_encoder({name: value.to(self._device) for name, value in batch.items()}).cpu().numpy()
