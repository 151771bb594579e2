"""ColBERT: one short vector per token, compared by late interaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval.batching import distinct, in_batches, pad, tokenize
from retrieval.colbert_files import ColbertFiles, Settings
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
    ):
        """None means what the folder says (artifact.metadata, or config_sentence_transformers.json), else ColBERTv2's.

        That is: lengths 32 and 180, special tokens and marker included; markers [unused0] and [unused1], each one
        token of the vocabulary, "" for none, put after the first token; `augment` fills queries up to their length
        with [MASK], which the other tokens do not attend to unless `attend_to_augmentation`; `skip_punctuation`
        leaves out the vectors of a document's punctuation. `dtype`, `batch_tokens`, `device`, `revision` and
        `sha256` are those of `transformer`.
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
        self.dtype, self._running = dtype, Running(dtype, batch_tokens, device)

    def encode_queries(self, texts: Sequence[str]) -> Tokens:
        """Vectors float32 [tokens, token dimensions], packed; `query_length` of each where queries are augmented."""
        about = self._settings
        plain = self._tokens(texts, about.query_length, about.query_marker)
        if not about.augment:
            return self._encode(plain, "queries")
        mask = self._mask_token
        kinds = [(*ids, *[mask] * (about.query_length - len(ids))) if ids else ids for ids in plain.kinds]
        attended = [len(ids) for ids in (kinds if about.attend_to_augmentation else plain.kinds)]
        kept = [np.ones(len(ids), bool) for ids in kinds]
        return self._encode(replace(plain, kinds=kinds, attended=attended, kept=kept), "queries")

    def encode_docs(self, texts: Sequence[str]) -> Tokens:
        """Vectors float32 [tokens, token dimensions], packed, in the order of each text."""
        return self._encode(self._documents(texts), "documents")

    def encode_chunks(self, chunks: Iterable[Sequence[str]]) -> Iterator[Tokens]:
        """Documents chunk by chunk, the next one tokenised while this one is encoded."""
        for texts in read_ahead(map(self._documents, chunks)):
            yield self._encode(texts, "documents")

    def vocabulary(self) -> Sequence[str]:
        """The token of each id."""
        return self._tokenizer.convert_ids_to_tokens(list(range(len(self._tokenizer))))

    def token_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids int64 of the tokens that have vectors, of each text as a document, in the order of the vectors."""
        found = self._documents(texts)
        kinds = [np.array(ids, np.int64)[kept] for ids, kept in zip(found.kinds, found.kept, strict=True)]
        return [kinds[place] for place in found.places]

    def contract(self) -> Mapping[str, Any]:
        """All that determines its output; what only queries depend on is under `queries`."""
        about = asdict(self._settings)
        queries = ("query_length", "query_marker", "augment", "attend_to_augmentation")
        return {
            "encoder": "colbert",
            "model": self.model,
            "revision": self.revision,
            "weights": self._weights,
            "tokenizer": tokenizer_hash(self._tokenizer),
            "doc_length": about["doc_length"],
            "doc_marker": about["doc_marker"],
            "skipped": self._tokenizer.convert_ids_to_tokens(self._skipped),
            "token_dimensions": self._files.width,
            "dtype": str(self._running.dtype).removeprefix("torch."),
            "queries": {name: about[name] for name in queries},
        }

    def provenance(self) -> dict[str, Any]:
        """The contract, for the manifest, and the size of a batch."""
        return {**self.contract(), **self._running.budget.about()}

    def _documents(self, texts: Sequence[str]) -> Batch:
        found = self._tokens(texts, self._settings.doc_length, self._settings.doc_marker)
        return replace(found, kept=[~np.isin(ids, self._skipped) for ids in found.kinds])

    def _tokens(self, texts: Sequence[str], limit: int, marker: str) -> Batch:
        tokens, cut = tokenize(self._tokenizer, texts, limit - bool(marker))
        differing, places = distinct(tokens)
        bare = tuple(self._tokenizer("").input_ids)
        placed = (self._marker(marker),) if marker else ()
        kinds = [(*ids[:1], *placed, *ids[1:]) if ids != bare else () for ids in differing]
        lengths = [len(ids) for ids in kinds]
        return Batch(texts, kinds, lengths, [np.ones(length, bool) for length in lengths], places, cut)

    def _encode(self, texts: Batch, what: str) -> Tokens:
        """Vectors of the `kept` tokens of each text, written to their place as each batch is done."""
        kept = [np.count_nonzero(keep) for keep in texts.kept]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])
        vectors = np.empty((int(offsets[-1]), self._files.width), np.float32)
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

        ids, _ = pad([texts.kinds[i] for i in part], self._tokenizer.pad_token_id or 0)
        mask = np.arange(ids.shape[1]) < np.array([texts.attended[i] for i in part])[:, None]
        with torch.inference_mode():
            states = self._project(
                torch.from_numpy(ids).to(self._running.device), torch.from_numpy(mask).to(self._running.device)
            )
            found = torch.nn.functional.normalize(states.float(), dim=-1).cpu().numpy()
        return [line[: len(texts.kept[i])][texts.kept[i]] for line, i in zip(found, part, strict=True)]

    @cached_property
    def _files(self) -> ColbertFiles:
        return ColbertFiles.read(find_model(self.model, self.revision))

    @cached_property
    def _settings(self) -> Settings:
        given = {name: value for name, value in self.chosen.items() if value is not None}
        settings = Settings(**{**self._files.said, **given})
        for length in (settings.query_length, settings.doc_length):
            check_length(self._files.transformer, length, self._config)
        bare = len(self._tokenizer("").input_ids)
        least = bare + 1 + bool(settings.query_marker or settings.doc_marker)
        if min(settings.query_length, settings.doc_length) < least:
            raise ValueError(f"query_length and doc_length are {least} at least: special tokens, marker and one token")
        if settings.attend_to_augmentation and not settings.augment:
            raise ValueError("attend_to_augmentation needs augment: there is no [MASK] to attend to")
        return settings

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._files.transformer, padding_side="right")

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self._files.transformer)

    @property
    def _mask_token(self) -> int:
        if self._tokenizer.mask_token_id is None:
            raise ValueError(f"{self._files.transformer} has no [MASK] token to augment with: set augment to false")
        return self._tokenizer.mask_token_id

    def _marker(self, marker: str) -> int:
        found = self._known(marker)
        if found is None:
            raise ValueError(
                f"marker {marker!r} is no token of {self._files.transformer}: give query_marker and doc_marker, "
                'such as "[unused0]" and "[unused1]" of BERT, or "" for none'
            )
        return found

    @cached_property
    def _skipped(self) -> list[int]:
        """The ids of the tokens that documents get no vector for."""
        if not self._settings.skip_punctuation:
            return []
        found = [self._known(symbol) for symbol in self._files.skipped]
        return sorted({token for token in found if token is not None})

    def _known(self, token: str) -> int | None:
        found = self._tokenizer.convert_tokens_to_ids(token)
        return None if found is None or found == self._tokenizer.unk_token_id else found

    @cached_property
    def _project(self) -> Any:
        """Ids and mask [texts, tokens] to projected states; the model is loaded when first used."""
        files, device, dtype = self._files, self._running.device, self._running.dtype
        check_sha256(has_weights(files.transformer) / "model.safetensors", self.sha256)
        layers = [layer.to(device, dtype) for layer in files.projections()]
        model = load_whole("AutoModel", files.transformer, dtype).to(device)

        def project(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            states = model(input_ids=ids, attention_mask=None if mask.all() else mask.long()).last_hidden_state
            for layer in layers:
                states = layer(states)
            return states

        return project

    @cached_property
    def _weights(self) -> str:
        return sha256(sorted(self._files.folder.rglob("*.safetensors")))


@dataclass(frozen=True)
class Batch:
    """Texts as token ids; texts of the same tokens are one kind."""

    texts: Sequence[str]
    kinds: Sequence[tuple[int, ...]]
    attended: Sequence[int]  # how many of the tokens of each kind may be attended to, from the first
    kept: Sequence[np.ndarray]  # bool [tokens] of each kind: which of them have vectors
    places: list[int]  # the kind of each text
    cut: int  # texts that were longer than their limit
