"""ColBERT as a torch module: what the encoder colbert runs, and what is trained of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrieval.batching import pad
from retrieval.bi_encoder import Projection
from retrieval.colbert_tokens import Batch, Reader
from retrieval.files import whole_folder
from retrieval.sentence_folder import write_json

__all__ = ["TokenEncoder", "new_projection"]

SIMILARITIES = 2**27  # of query tokens with document tokens, how many are held at a time
BELOW = -2.0  # any cosine


class TokenEncoder(nn.Module):
    """Texts to the vectors of their tokens, float32 [texts, tokens, width] of length 1; zeros where there is none."""

    def __init__(self, transformer: Any, projections: Iterable[nn.Module], reader: Reader):
        super().__init__()
        self.transformer, self.reader = transformer, reader
        self.projections = nn.ModuleList(projections)
        self.base: str | None = None  # hash of the weights that it began with

    def tokenize_queries(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch of queries; attention_mask says which tokens are theirs, [MASK] included."""
        return self._padded(self.reader.queries(texts))

    def tokenize_instructed(self, texts: Sequence[str], instructions: Sequence[str]) -> dict[str, Tensor]:
        """Raises ValueError, as searching with such queries does."""
        raise ValueError("the queries carry instructions, which ColBERT does not take: choose another encoder")

    def tokenize_docs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """A padded batch of documents; `kept` says which tokens have vectors."""
        return self._padded(self.reader.documents(texts))

    def forward(self, batch: dict[str, Tensor], queries: bool = False) -> Tensor:
        """Vectors float32 [texts, tokens, width] of a tokenised batch."""
        vectors = nn.functional.normalize(self.project(batch["input_ids"], batch["attended"]).float(), dim=-1)
        return vectors.masked_fill(~batch["kept"][..., None], 0)

    def project(self, ids: Tensor, attended: Tensor) -> Tensor:
        """Ids int64 and bool [texts, tokens], which may be attended to, to projected states."""
        mask = None if attended.all() else attended.long()
        states = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
        for projection in self.projections:
            states = projection(states)
        return states

    def score(self, queries: Tensor, docs: Tensor) -> Tensor:
        """MaxSim [queries, docs]: the sum over query tokens of the max over document tokens of their product.

        A document without vectors is below all others.
        """
        there = docs.detach().ne(0).any(-1)
        asked = queries.detach().ne(0).any(-1)
        step = max(1, SIMILARITIES // max(1, queries.shape[1] * there.numel()))
        parts = zip(queries.split(step), asked.split(step), strict=True)
        return torch.cat([_max_sim(part, docs, own, there) for part, own in parts])

    def checkpoint_activations(self) -> None:
        """Hold less of each layer while training, and compute it again for the gradient. Chen et al. (2016)."""
        self.transformer.gradient_checkpointing_enable({"use_reentrant": False})

    def save(self, folder: Path) -> None:
        """Write a folder of PyLate's layout, which colbert reads."""
        with whole_folder(Path(folder)) as part:
            self.transformer.save_pretrained(part)
            self.reader.tokenizer.save_pretrained(part)
            kinds = ["sentence_transformers.models.Transformer", *["pylate.models.Dense.Dense"] * len(self.projections)]
            paths = [f"{i}_Dense" if i else "" for i in range(len(kinds))]
            modules = [
                {"idx": i, "name": str(i), "path": path, "type": kind}
                for i, (path, kind) in enumerate(zip(paths, kinds, strict=True))
            ]
            write_json(part / "modules.json", modules)
            write_json(part / "config_sentence_transformers.json", self._about())
            for projection, path in zip(self.projections, paths[1:], strict=True):
                (part / path).mkdir()
                layer = projection if isinstance(projection, Projection) else Projection(projection, nn.Identity())  # type: ignore
                layer.write(part / path)

    def _about(self) -> dict[str, Any]:
        settings, skipped = self.reader.settings, self.reader.skipped
        words = self.reader.tokenizer.convert_ids_to_tokens(list(skipped))
        return {
            "model_type": "ColBERT",
            "query_prefix": settings.query_marker,
            "document_prefix": settings.doc_marker,
            "query_length": settings.query_length,
            "document_length": settings.doc_length,
            "do_query_expansion": settings.augment,
            "attend_to_expansion_tokens": settings.attend_to_augmentation,
            "skiplist_words": words,
            "prompts": {},
            "similarity_fn_name": "MaxSim",
        }

    def _padded(self, texts: Batch) -> dict[str, Tensor]:
        padding = self.reader.tokenizer.pad_token_id or 0
        # a text without tokens of its own still has one to attend to, and that has no vector
        ids, own = pad([texts.kinds[place] or (padding,) for place in texts.places], padding)
        kept = np.zeros(ids.shape, bool)
        for row, place in enumerate(texts.places):
            kept[row, : len(texts.kept[place])] = texts.kept[place]
        attended = np.arange(ids.shape[1]) < np.array([[max(1, texts.attended[place])] for place in texts.places])
        found = {"input_ids": ids, "attention_mask": own, "attended": attended, "kept": kept}
        return {name: torch.from_numpy(value) for name, value in found.items()}


def _max_sim(queries: Tensor, docs: Tensor, asked: Tensor, there: Tensor) -> Tensor:
    similar = torch.einsum("qtw,dsw->qtds", queries, docs).masked_fill_(~there, BELOW)
    return torch.einsum("qtd,qt->qd", similar.max(-1).values, asked.to(similar.dtype))


def new_projection(width: int, dimensions: int, seed: int) -> nn.Linear:
    """A projection without a bias, as BERT draws its layers."""
    projection = nn.Linear(width, dimensions, bias=False)
    nn.init.normal_(projection.weight, std=0.02, generator=torch.Generator().manual_seed(seed))
    return projection
