"""ColBERT: one short vector per token, compared by late interaction."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval.batching import in_batches, pad
from retrieval.colbert_files import ColbertFiles, Settings
from retrieval.colbert_tokens import Batch, Reader, known
from retrieval.model_files import (
    check_length,
    check_sha256,
    find_model,
    has_weights,
    load_whole,
    sha256,
    tokenizer_hash,
)
from retrieval.running import Running
from retrieval.threads import read_ahead
from retrieval.types import Tokens

if TYPE_CHECKING:
    import torch

    from retrieval.trainable_colbert import TokenEncoder

__all__ = ["ColBERT"]


class ColBERT:
    """L2-normalised vectors of all tokens of a text. Khattab and Zaharia (2020); Santhanam et al. (2022).

    The model is a folder of ColBERT's own (a transformer whose weights hold `linear.weight`) or of PyLate (modules.json
    with a Dense). A text without tokens of its own has no vectors.
    """

    def __init__(
        self,
        model: str,
        query_length: int | None = None,
        doc_length: int | None = None,
        query_marker: str | None = None,
        doc_marker: str | None = None,
        augment: bool | None = None,
        attend_to_augmentation: bool | None = None,
        skip_punctuation: bool | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        batch_tokens: int | None = None,
        device: str | None = None,
        revision: str | None = None,
        sha256: str | None = None,
        projection: int = 128,
        seed: int | None = None,
    ):
        """None means what the folder says (artifact.metadata, or config_sentence_transformers.json), else ColBERTv2's.

        That is: lengths 32 and 180, special tokens and marker included; markers [unused0] and [unused1], each one
        token of the vocabulary, "" for none, put after the first token; `augment` fills queries up to their length
        with [MASK], which the other tokens do not attend to unless `attend_to_augmentation`; `skip_punctuation`
        leaves out the vectors of a document's punctuation. `dtype`, `batch_tokens`, `device`, `revision` and
        `sha256` are those of `transformer`. `seed` draws a new projection to `projection` dimensions for a folder that
        has none, to be trained; None refuses such a folder.
        """
        self.model, self.revision, self.sha256 = model, revision, sha256
        self.chosen: dict[str, Any] = dict(
            query_length=query_length,
            doc_length=doc_length,
            query_marker=query_marker,
            doc_marker=doc_marker,
            augment=augment,
            attend_to_augmentation=attend_to_augmentation,
            skip_punctuation=skip_punctuation,
        )
        self.projection, self.seed = projection, seed
        self.dtype, self._running = dtype, Running(dtype, batch_tokens, device)

    def encode_queries(self, texts: Sequence[str]) -> Tokens:
        """Vectors float32 [tokens, token dimensions], packed; `query_length` of each where queries are augmented."""
        return self._encode(self._reader.queries(texts), "queries")

    def encode_docs(self, texts: Sequence[str]) -> Tokens:
        """Vectors float32 [tokens, token dimensions], packed, in the order of each text."""
        return self._encode(self._reader.documents(texts), "documents")

    def encode_chunks(self, chunks: Iterable[Sequence[str]]) -> Iterator[Tokens]:
        """Documents chunk by chunk, the next one tokenised while this one is encoded."""
        for texts in read_ahead(map(self._reader.documents, chunks)):
            yield self._encode(texts, "documents")

    def vocabulary(self) -> Sequence[str]:
        """The token of each id."""
        tokenizer = self._reader.tokenizer
        return tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))

    def token_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids int64 of the tokens that have vectors, of each text as a document, in the order of the vectors."""
        found = self._reader.documents(texts)
        kinds = [np.array(ids, np.int64)[kept] for ids, kept in zip(found.kinds, found.kept, strict=True)]
        return [kinds[place] for place in found.places]

    def contract(self) -> Mapping[str, Any]:
        """All that determines its output; what only queries depend on is under `queries`."""
        reader = self._reader
        about = asdict(reader.settings)
        queries = ("query_length", "query_marker", "augment", "attend_to_augmentation")
        return {
            "encoder": "colbert",
            "model": self.model,
            "revision": self.revision,
            "weights": self._weights,
            "tokenizer": tokenizer_hash(reader.tokenizer),
            "doc_length": about["doc_length"],
            "doc_marker": about["doc_marker"],
            "skipped": reader.tokenizer.convert_ids_to_tokens(list(reader.skipped)),
            "token_dimensions": self._width,
            "dtype": str(self._running.dtype).removeprefix("torch."),
            "queries": {name: about[name] for name in queries},
        } | ({} if self.seed is None else {"seed of the projection": self.seed})

    def provenance(self) -> dict[str, Any]:
        """The contract, for the manifest, and the size of a batch."""
        return {**self.contract(), **self._running.budget.about()}

    def _encode(self, texts: Batch, what: str) -> Tokens:
        """Vectors of the `kept` tokens of each text, written to their place as each batch is done."""
        kept = [np.count_nonzero(keep) for keep in texts.kept]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])
        vectors = np.empty((int(offsets[-1]), self._width), np.float32)
        filled = np.array([i for i, ids in enumerate(texts.kinds) if ids], int)  # in no batch: a text without tokens

        def encode(part: np.ndarray) -> list[np.ndarray]:
            return self._vectors(texts, filled[part])

        lengths = [len(ids) for ids in texts.kinds if ids]
        for part, found in in_batches(encode, lengths, self._running.budget, self._running.device.type, what):
            for i, of_text in zip(filled[part], found, strict=True):
                vectors[offsets[i] : offsets[i + 1]] = of_text
        self._refuse_nan(texts, Tokens(vectors, offsets))
        every = Tokens(vectors, offsets)
        if len(texts.places) != len(texts.kinds):
            every = every.take(texts.places)
        return replace(every, truncated=texts.cut)

    def _refuse_nan(self, texts: Batch, found: Tokens) -> None:
        bad = np.flatnonzero(~np.isfinite(found.vectors).all(axis=1))
        if len(bad):
            kind = int(np.searchsorted(found.offsets, bad[0], side="right")) - 1
            text = texts.texts[texts.places.index(kind)]
            raise ValueError(f"{self.model} in {self.dtype} gives NaN or infinity for {text[:60]!r}")

    def _vectors(self, texts: Batch, part: np.ndarray) -> list[np.ndarray]:
        """float32 [kept tokens, token dimensions] of each text of a batch."""
        import torch

        ids, _ = pad([texts.kinds[i] for i in part], self._reader.tokenizer.pad_token_id or 0)
        mask = np.arange(ids.shape[1]) < np.array([texts.attended[i] for i in part])[:, None]
        with torch.inference_mode():
            states = self._tokens.project(
                torch.from_numpy(ids).to(self._running.device), torch.from_numpy(mask).to(self._running.device)
            )
            found = torch.nn.functional.normalize(states.float(), dim=-1).cpu().numpy()
        return [line[: len(texts.kept[i])][texts.kept[i]] for line, i in zip(found, part, strict=True)]

    def trainable(self) -> TokenEncoder:
        """A new float32 copy from the model's files, for a trainer to change."""
        import torch

        module = self._load(torch.float32)
        module.reader, module.base = copy.deepcopy(module.reader), self._weights
        return module

    def around(self, module: TokenEncoder) -> ColBERT:
        """The same encoder around a copy of a model in memory."""
        encoder = copy.copy(self)
        encoder.model = "in memory"
        copied = copy.deepcopy(module).to(self._running.device, self._running.dtype).eval()
        encoder.__dict__ |= {"_files": self._files, "_reader": copied.reader, "_weights": "in memory"}
        encoder.__dict__["_tokens"] = copied
        return encoder

    def trained(self, folder: Path) -> ColBERT:
        """The same encoder with the model that a trainer wrote; lengths, markers and the like are in its folder."""
        batch_tokens, device = self._running.batch_tokens, self._running.device_name
        return ColBERT(str(folder), dtype=self.dtype, batch_tokens=batch_tokens, device=device)

    @cached_property
    def _files(self) -> ColbertFiles:
        return ColbertFiles.read(find_model(self.model, self.revision), bare=self.seed is not None)

    @property
    def _width(self) -> int:
        return self._files.width if self.seed is None else self.projection

    @cached_property
    def _reader(self) -> Reader:
        """Tokenizer and settings. Raises ValueError for lengths that leave no room, and for what does not fit."""
        from transformers import AutoConfig, AutoTokenizer

        folder, given = self._files.transformer, {name: v for name, v in self.chosen.items() if v is not None}
        settings = Settings(**{**self._files.said, **given})
        config = AutoConfig.from_pretrained(folder)
        for length in (settings.query_length, settings.doc_length):
            check_length(folder, length, config)
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
        least = len(tokenizer("").input_ids) + 1 + bool(settings.query_marker or settings.doc_marker)
        if min(settings.query_length, settings.doc_length) < least:
            raise ValueError(f"query_length and doc_length are {least} at least: special tokens, marker and one token")
        if settings.attend_to_augmentation and not settings.augment:
            raise ValueError("attend_to_augmentation needs augment: there is no [MASK] to attend to")
        words = self._files.skipped if settings.skip_punctuation else ()
        skipped = {token for token in (known(tokenizer, word) for word in words) if token is not None}
        return Reader(tokenizer, settings, sorted(skipped), folder)

    @cached_property
    def _tokens(self) -> TokenEncoder:
        """The model, loaded when first used."""
        return self._load(self._running.dtype)

    def _load(self, dtype: torch.dtype) -> TokenEncoder:
        from retrieval.trainable_colbert import TokenEncoder, new_projection

        files = self._files
        check_sha256(has_weights(files.transformer) / "model.safetensors", self.sha256)
        layers = files.projections() if self.seed is None else None
        model = load_whole("AutoModel", files.transformer, dtype)
        if layers is None:
            layers = [new_projection(model.config.hidden_size, self.projection, self.seed or 0)]
        return TokenEncoder(model, layers, self._reader).to(self._running.device, dtype).eval()

    @cached_property
    def _weights(self) -> str:
        return sha256(sorted(self._files.folder.rglob("*.safetensors")))
