"""A checkpoint that weighs the entries of its tokenizer's vocabulary: batches of texts to sparse vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.batching import Budget, distinct, in_batches, tokenize
from retrieval.model_files import check_length, choose_device, choose_dtype, sha256, token_limit, tokenizer_hash
from retrieval.types import Sparse

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_array

    Weigh = Callable[[dict[str, torch.Tensor]], torch.Tensor]  # padded batch -> float32 [texts, vocabulary]

__all__ = ["SparseModel", "largest", "refuse_no_terms"]

LOGITS = {"cpu": 2**25, "cuda": 2**29, "mps": 2**27}  # tokens x vocabulary: how many a batch may hold


@dataclass(frozen=True)
class SparseModel:
    """The tokenizer and the settings of a transformer's folder, and the way from texts to sparse vectors."""

    folder: Path
    max_length: int | None = None
    dtype: str = "auto"
    batch_tokens: int | None = None
    device: str | None = None
    weights: str | None = None  # their hash, where they are not those of the folder

    def encode(self, weigh: Weigh, texts: Sequence[str], terms: int | None, what: str) -> Sparse:
        """The weights that a model gives, the `terms` largest of each text; a batch is made sparse at once.

        Raises ValueError with the text for NaN and infinity.
        """
        from scipy.sparse import csr_array, vstack

        tokens, cut = tokenize(self.tokenizer, texts, self.limit)
        kinds, places = distinct(tokens)

        def encode(part: np.ndarray) -> csr_array:
            found = self._weights(weigh, [list(kinds[i]) for i in part])
            if not np.isfinite(found.data).all():
                row = int(np.searchsorted(found.indptr, np.argmin(np.isfinite(found.data)), side="right")) - 1
                text = texts[places.index(int(part[row]))]
                raise ValueError(f"{self.folder} in {self.dtype} gives NaN or infinity for {text[:60]!r}")
            return largest(found, terms)

        device, lengths = choose_device(self.device).type, [len(ids) for ids in kinds]
        parts = list(in_batches(encode, lengths, self.budget, device, what))
        if not parts:
            return Sparse(csr_array((0, self.width), dtype=np.float32))
        back = np.argsort(np.concatenate([part for part, _ in parts]))
        return Sparse(vstack([block for _, block in parts], format="csr")[back[places]], cut)

    def look_up(self, table: np.ndarray, texts: Sequence[str], terms: int | None) -> Sparse:
        """The entry in a table float32 [vocabulary] of each token that a text has, however often; no model runs."""
        from scipy.sparse import csr_array

        tokens, cut = tokenize(self.tokenizer, texts, self.limit)
        kept = [np.unique(np.array(ids, np.int32)) for ids in tokens]
        kept = [ids[table[ids] != 0] for ids in kept]
        ids = np.concatenate([np.empty(0, np.int32), *kept])
        offsets = np.cumsum([0, *map(len, kept)], dtype=np.int32)
        found = csr_array((table[ids].astype(np.float32), ids, offsets), shape=(len(texts), self.width))
        return Sparse(largest(found, terms), cut)

    def about(self) -> dict[str, Any]:
        """Weights, tokenizer, length, vocabulary and dtype, for a contract."""
        return {
            "weights": self.weights or self._weights_hash,
            "tokenizer": tokenizer_hash(self.tokenizer),
            "max_length": self.limit,
            "vocabulary": self.width,
            "dtype": str(self.torch_dtype).removeprefix("torch."),
        }

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, which pads on the right: these models count positions from the left."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, padding_side="right")

    @cached_property
    def budget(self) -> Budget:
        """The tokens of a batch; one for the lifetime of the encoder."""
        return Budget(self.batch_tokens or max(1, LOGITS[choose_device(self.device).type] // self.width))

    @cached_property
    def limit(self) -> int:
        """The most tokens of a text, special ones included."""
        check_length(self.folder, self.max_length, self._config)
        return self.max_length or token_limit(self.folder, self.tokenizer, self._config)

    @property
    def width(self) -> int:
        """The size of the vocabulary."""
        return self._config.vocab_size

    @cached_property
    def vocabulary(self) -> list[str]:
        """The token of each id; an id that the tokenizer never gives is called after its number."""
        count = min(len(self.tokenizer), self.width)
        tokens = [*self.tokenizer.convert_ids_to_tokens(range(count)), *[None] * (self.width - count)]
        return [f"[id {i}]" if token is None else token for i, token in enumerate(tokens)]

    @property
    def special(self) -> list[int]:
        """The ids of [CLS], [SEP], [UNK] and the like."""
        return sorted(self.tokenizer.all_special_ids)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype that the model runs in."""
        return choose_dtype(self.dtype, choose_device(self.device))

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.folder)

    @cached_property
    def _weights_hash(self) -> str:
        return sha256(sorted(self.folder.glob("*.safetensors")))

    def _weights(self, weigh: Weigh, tokens: list[list[int]]) -> csr_array:
        import torch
        from scipy.sparse import csr_array

        if not tokens[0]:  # the longest of the batch: a text without tokens has no weights
            return csr_array((len(tokens), self.width), dtype=np.float32)
        batch = self.tokenizer.pad({"input_ids": tokens}, return_tensors="pt")
        with torch.inference_mode():
            weights = weigh({name: value.to(choose_device(self.device)) for name, value in batch.items()})
            rows, ids = weights.nonzero(as_tuple=True)
            data = weights[rows, ids].cpu().numpy()
        offsets = np.searchsorted(rows.cpu().numpy(), np.arange(len(tokens) + 1)).astype(np.int32)
        return csr_array((data, ids.cpu().numpy().astype(np.int32), offsets), shape=(len(tokens), self.width))


def largest(matrix: csr_array, terms: int | None) -> csr_array:
    """The `terms` largest weights of each row, ties by lower id; all for None."""
    from scipy.sparse import csr_array

    counts = np.diff(matrix.indptr)
    if terms is None or not len(counts) or counts.max() <= terms:
        return matrix
    rows = np.repeat(np.arange(len(counts)), counts)
    best = np.lexsort((matrix.indices, -matrix.data, rows))
    kept = np.sort(best[np.arange(len(best)) - matrix.indptr[rows] < terms])
    offsets = np.cumsum([0, *np.minimum(counts, terms)], dtype=np.int32)
    return csr_array((matrix.data[kept], matrix.indices[kept], offsets), shape=matrix.shape)


def refuse_no_terms(**limits: int | None) -> None:
    """Raises ValueError for a limit below 1."""
    for name, limit in limits.items():
        if limit is not None and limit < 1:
            raise ValueError(f"{name} is {limit}: keep at least 1, or all with null")
