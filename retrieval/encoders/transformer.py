"""Single-vector encoders."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval.adapters import adapted, adapter_hash, check_base, learns_prompt, sharing, virtual_tokens
from retrieval.batching import distinct, in_batches, pad, tokenize
from retrieval.compiled import chosen
from retrieval.model_files import (
    MINILM,
    PACKAGED,
    check_sha256,
    find_model,
    sha256,
    tokenizer_hash,
)
from retrieval.running import Running
from retrieval.threads import read_ahead
from retrieval.types import Dense, Pooling

if TYPE_CHECKING:
    import torch

    from retrieval.bi_encoder import BiEncoder

__all__ = ["Transformer"]

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
OF_QUERIES = ("query_prompt", "instruction")  # settings that no document depends on


class Transformer:
    """A bi-encoder from any Hugging Face or sentence-transformers folder; None means what the folder says.

    `dtype` auto is bfloat16 where processor or GPU computes in it.

    `batch_tokens` bounds a padded batch: by default 1,024 tokens on a processor, where each core takes a batch of
    its own, and 65,536 on a GPU. Out of memory halves it.

    `sha256` is checked against model.safetensors; `revision` is one of the hub's.
    `instruction` stands for {instruction} in `query_prompt`.
    `include_prompt` false pools without the prompt's tokens, as GritLM and Instructor do.
    `append_eos` ends each text with the end token where the tokenizer does not, also where it is cut.
    `dimensions` keeps the first so many, before normalisation (Kusupati et al. 2022, Matryoshka).
    `adapter` is a peft folder for both sides, LoRA (merged into the weights) or a soft prompt.
    `query_adapter` is one for queries alone, over `adapter`; documents keep the vectors that they have without it.
    Virtual tokens of a soft prompt are attended to and never pooled.
    `attention` packed puts the texts of a batch into one row without padding.
    `compiled` runs the transformer through torch.compile: the first batches wait for it.
    """

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
        instruction: str | None = None,
        include_prompt: bool | None = None,
        append_eos: bool = False,
        dimensions: int | None = None,
        adapter: str | None = None,
        query_adapter: str | None = None,
        attention: Literal["padded", "packed"] = "padded",
        compiled: bool = False,
    ):
        """What may be None is then as the folder says; the class says what is not obvious."""
        self.model, self.revision, self.sha256 = model, revision, sha256
        self.chosen: dict[str, Any] = dict(
            pooling=pooling,
            normalize=normalize,
            query_prompt=query_prompt,
            doc_prompt=doc_prompt,
            max_length=max_length,
            padding_side=padding_side,
            include_prompt=include_prompt,
            dimensions=dimensions,
            instruction=instruction,
        )
        self.dtype, self.batch_tokens, self.device = dtype, batch_tokens, device
        self._running = Running(dtype, batch_tokens, device)
        chosen("attention", attention, Literal["padded", "packed"])
        self.attention, self.compiled, self.append_eos = attention, compiled, append_eos
        self.adapter, self.query_adapter = adapter, query_adapter

    def encode_queries(self, texts: Sequence[str]) -> Dense:
        """Vectors float32 [texts, dimensions]."""
        prompt = self.bi_encoder.settings.prompt()
        return self._encode(self._read(texts, [prompt] * len(texts), True), True)

    @property
    def instructed(self) -> bool:
        """Whether its query prompt has a place for an instruction."""
        return self.bi_encoder.settings.instructed

    def encode_instructed(self, texts: Sequence[str], instructions: Sequence[str]) -> Dense:
        """Vectors float32 [texts, dimensions] of queries that have an instruction each."""
        settings = self.bi_encoder.settings
        return self._encode(self._read(texts, [settings.prompt(one) for one in instructions], True), True)

    def query_excess(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each query text, with its prompt and the special tokens, are beyond the longest."""
        model, prompt = self.bi_encoder, self.bi_encoder.settings.prompt()
        longest = model.longest(True)
        tokens = model.tokenizer([prompt + text for text in texts], truncation=False, verbose=False).input_ids
        return [max(0, len(ids) - longest) if longest else 0 for ids in tokens]

    def encode_docs(self, texts: Sequence[str]) -> Dense:
        """Vectors float32 [texts, dimensions]."""
        return self._encode(self._read(texts, [self.bi_encoder.settings.doc_prompt or ""] * len(texts)))

    def encode_chunks(self, chunks: Iterable[Sequence[str]]) -> Iterator[Dense]:
        """Documents chunk by chunk, the next one tokenised while this one is computed."""
        prompt = self.bi_encoder.settings.doc_prompt or ""
        own = copy.deepcopy(self.bi_encoder.tokenizer)  # one that two threads use at once fails

        def read(texts: Sequence[str]) -> _Read:
            return self._read(texts, [prompt] * len(texts), tokenizer=own)

        yield from map(self._encode, read_ahead(map(read, chunks)))

    def contract(self) -> Mapping[str, Any]:
        """Weights, settings, tokenizer and dtype: what two sets of vectors must share to be compared."""
        settings = asdict(self.bi_encoder.settings)
        return {
            "encoder": "transformer",
            "model": self.model,
            "revision": self.revision,
            "weights": self._weights,
            "tokenizer": tokenizer_hash(self.bi_encoder.tokenizer),
            **{name: value for name, value in settings.items() if name not in OF_QUERIES},
            "adapter": adapter_hash(self.adapter),
            "dimensions": self.bi_encoder.dimensions,
            "dtype": str(next(self.bi_encoder.parameters()).dtype).removeprefix("torch."),
            "queries": {**{name: settings[name] for name in OF_QUERIES}, "adapter": adapter_hash(self.query_adapter)},
        }

    def provenance(self) -> dict[str, Any]:
        """The contract, and what changes the last bits of a vector, for the manifest."""
        return {
            **self.contract(),
            **self._running.budget.about(),
            "attention": self.attention,
            "compiled": self.compiled,
        }

    def trainable(self) -> BiEncoder:
        """A new float32 copy from the model's files, for a trainer to change. Raises ValueError for soft prompts."""
        if self.query_adapter or (self.adapter and learns_prompt(self.adapter)):
            raise ValueError(f"{self.model}: only the model and a LoRA of both sides are trained here")
        model = self._load(None)
        model.base = self._base
        return model

    def trained(self, folder: Path) -> Transformer:
        """The same encoder with the model that a trainer wrote; prompts and the like are in its folder."""
        prompt, instruction = self.chosen["query_prompt"], self.chosen["instruction"]
        placed = {"query_prompt": prompt, "instruction": instruction} if prompt and instruction else {}
        return Transformer(str(folder), **self._run_as(), **placed)

    def around(self, module: BiEncoder) -> Transformer:
        """The same encoder around a copy of a model in memory; its texts are padded, and nothing is compiled."""
        encoder = copy.copy(self)
        encoder.model, encoder.attention, encoder.compiled = "in memory", "padded", False
        encoder.__dict__["_weights"] = "in memory"
        encoder.__dict__["bi_encoder"] = copy.deepcopy(module).to(self._running.device, self._running.dtype).eval()
        return encoder

    def wearing(self, adapter: Path) -> Transformer:
        """The same encoder with an adapter for queries alone. Raises ValueError for one trained on other weights."""
        check_base(str(adapter), self._base)
        names = ("revision", "sha256", "append_eos", "adapter")
        how: dict[str, Any] = {name: getattr(self, name) for name in names}
        return Transformer(self.model, **self.chosen, **self._run_as(), **how, query_adapter=str(adapter))

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are."""
        return find_model(self.model, self.revision)

    @property
    def separator(self) -> str | None:
        """The token that parts texts which are read together; where there is none, the one that ends a text."""
        return self.bi_encoder.tokenizer.sep_token or self.bi_encoder.tokenizer.eos_token

    @cached_property
    def bi_encoder(self) -> BiEncoder:
        """The model, loaded when first used."""
        model = self._load(self._running.dtype)
        if self.attention == "packed":
            self._pack(model)
        if self.query_adapter:
            self._wear_for_queries(model)
        if self.compiled:
            frozen = {"options": {"freezing": True}} if self._running.device.type == "cpu" else {}
            for queries in (False, True):
                model.side(queries).compile(dynamic=True, **frozen)
        return model

    def _run_as(self) -> dict[str, Any]:
        names = ("dtype", "batch_tokens", "device", "attention", "compiled")
        return {name: getattr(self, name) for name in names}

    def _load(self, dtype: torch.dtype | None) -> BiEncoder:
        """The model, its weights checked, in a dtype; None is float32."""
        import torch

        from retrieval.bi_encoder import BiEncoder, Settings, check_weights

        weights = check_weights(self.folder) / "model.safetensors"
        check_sha256(weights, self.sha256 or (MINILM_SHA256 if self.model in PACKAGED else None))
        dtype = dtype or torch.float32
        model = BiEncoder.load(self.folder, Settings(**self.chosen), dtype, self.append_eos)
        if self.chosen["instruction"] is not None:
            model.settings.prompt()  # one without a place is an error before anything is encoded
        if self.adapter:
            merge = not learns_prompt(self.adapter)
            model.transformer = adapted(model.transformer, self.adapter, merge, self._weights)
        return model.to(self._running.device, dtype)

    def _pack(self, model: BiEncoder) -> None:
        from retrieval.packing import pack_attention

        soft = [adapter for adapter in (self.adapter, self.query_adapter) if adapter and learns_prompt(adapter)]
        if soft:
            raise ValueError(f"attention: the virtual tokens of {soft[0]} cannot be packed; take attention: padded")
        pack_attention(model.transformer, self.model)

    def _wear_for_queries(self, model: BiEncoder) -> None:
        if virtual_tokens(model.transformer):
            raise ValueError(f"query_adapter: {self.adapter} is a soft prompt, over which no other adapter is worn")
        worn = adapted(sharing(model.transformer), self.query_adapter or "", merge=False, base=self._base)
        model.query_transformer = worn.to(self._running.device, self._running.dtype)

    @property
    def _base(self) -> str:
        """What an adapter of queries is trained on: the weights, with the adapter of both sides."""
        return f"{self._weights} with {adapter_hash(self.adapter)}" if self.adapter else self._weights

    @cached_property
    def _weights(self) -> str:
        return sha256(sorted(self.folder.rglob("*.safetensors")))

    def _read(
        self, texts: Sequence[str], prompts: Sequence[str], queries: bool = False, tokenizer: Any = None
    ) -> _Read:
        from retrieval.bi_encoder import prompt_length

        model = self.bi_encoder
        tokenizer = tokenizer or model.tokenizer
        prompted = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
        tokens, cut = tokenize(tokenizer, prompted, model.longest(queries))
        pooled_whole = model.settings.include_prompt is not False
        skipped = {p: 0 if pooled_whole or not p else prompt_length(tokenizer, p) for p in dict.fromkeys(prompts)}
        kinds, places = distinct([(skipped[prompt], *ids) for prompt, ids in zip(prompts, tokens, strict=True)])
        return _Read(texts, [list(ids) for _, *ids in kinds], np.array([kind[0] for kind in kinds]), places, cut)

    def _encode(self, read: _Read, queries: bool = False) -> Dense:
        import torch

        vectors = np.zeros((len(read.tokens), self.bi_encoder.dimensions), np.float32)
        virtual = virtual_tokens(self.bi_encoder.side(queries))

        def encode(part: np.ndarray) -> np.ndarray | float:
            if not read.tokens[part[0]]:  # the longest of the batch: a text without tokens has the zero vector
                return 0.0
            with torch.inference_mode():
                return self._forward([read.tokens[i] for i in part], read.skipped[part], queries)

        lengths = [len(ids) + virtual for ids in read.tokens]
        what = "queries" if queries else "documents"
        for part, found in in_batches(encode, lengths, self._running.budget, self._running.device.type, what):
            vectors[part] = found
        if not np.isfinite(vectors).all():
            text = next(t for t, i in zip(read.texts, read.places, strict=True) if not np.isfinite(vectors[i]).all())
            raise ValueError(f"{self.model} in {self.dtype} gives NaN or infinity for {text[:60]!r}")
        return Dense(vectors[read.places], read.cut)

    def _forward(self, tokens: list[list[int]], skipped: np.ndarray, queries: bool) -> np.ndarray:
        import torch

        model = self.bi_encoder
        left_out = torch.from_numpy(skipped).to(self._running.device) if skipped.any() else None
        if self.attention == "packed":
            from retrieval.packing import packed_states

            states, mask = packed_states(model.side(queries), tokens, self._running.device)
            return model.finish(states, mask, left_out).cpu().numpy()
        # behind virtual tokens, padding would move a text away from them
        side = "right" if virtual_tokens(model.side(queries)) else model.tokenizer.padding_side
        ids, mask = (
            torch.from_numpy(a).to(self._running.device) for a in pad(tokens, model.tokenizer.pad_token_id, side)
        )
        batch = {"input_ids": ids, "attention_mask": mask}
        return model(batch if left_out is None else batch | {"skipped": left_out}, queries).cpu().numpy()


@dataclass(frozen=True, eq=False)
class _Read:
    """Tokenised texts, each kind once."""

    texts: Sequence[str]
    tokens: list[list[int]]  # of each kind
    skipped: np.ndarray  # int64 [kinds], tokens of the prompt that are not pooled
    places: list[int]  # of each text among the kinds
    cut: int
