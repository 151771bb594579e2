"""Texts as ColBERT reads them: marker, length, [MASK] up to the length of a query, and which tokens have vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.batching import distinct, tokenize
from retrieval.colbert_files import Settings

__all__ = ["Batch", "Reader"]


@dataclass(frozen=True)
class Batch:
    """Texts as token ids; texts of the same tokens are one kind."""

    texts: Sequence[str]
    kinds: Sequence[tuple[int, ...]]
    attended: Sequence[int]  # how many of the tokens of each kind may be attended to, from the first
    kept: Sequence[np.ndarray]  # bool [tokens] of each kind: which of them have vectors
    places: list[int]  # the kind of each text
    cut: int  # texts that were longer than their limit


@dataclass(frozen=True)
class Reader:
    """A tokenizer, which pads on the right, and what is done with its tokens."""

    tokenizer: Any
    settings: Settings
    skipped: Sequence[int]  # ids of the tokens that documents get no vector for
    folder: Path  # for errors

    def queries(self, texts: Sequence[str]) -> Batch:
        """Queries, filled up with [MASK] to their length where they are augmented."""
        about = self.settings
        plain = self._tokens(texts, about.query_length, about.query_marker)
        if not about.augment:
            return plain
        mask = self._mask_token
        kinds = [(*ids, *[mask] * (about.query_length - len(ids))) if ids else ids for ids in plain.kinds]
        attended = [len(ids) for ids in (kinds if about.attend_to_augmentation else plain.kinds)]
        return replace(plain, kinds=kinds, attended=attended, kept=[np.ones(len(ids), bool) for ids in kinds])

    def documents(self, texts: Sequence[str]) -> Batch:
        """Documents, of which skipped tokens have no vectors."""
        found = self._tokens(texts, self.settings.doc_length, self.settings.doc_marker)
        return replace(found, kept=[~np.isin(ids, self.skipped) for ids in found.kinds])

    def _tokens(self, texts: Sequence[str], limit: int, marker: str) -> Batch:
        tokens, cut = tokenize(self.tokenizer, texts, limit - bool(marker))
        differing, places = distinct(tokens)
        bare = tuple(self.tokenizer("").input_ids)
        placed = (self._marker(marker),) if marker else ()
        kinds = [(*ids[:1], *placed, *ids[1:]) if ids != bare else () for ids in differing]
        lengths = [len(ids) for ids in kinds]
        return Batch(texts, kinds, lengths, [np.ones(length, bool) for length in lengths], places, cut)

    @property
    def _mask_token(self) -> int:
        if self.tokenizer.mask_token_id is None:
            raise ValueError(f"{self.folder} has no [MASK] token to augment with: set augment to false")
        return self.tokenizer.mask_token_id

    def _marker(self, marker: str) -> int:
        found = known(self.tokenizer, marker)
        if found is None:
            raise ValueError(
                f"marker {marker!r} is no token of {self.folder}: give query_marker and doc_marker, "
                'such as "[unused0]" and "[unused1]" of BERT, or "" for none'
            )
        return found


def known(tokenizer: Any, token: str) -> int | None:
    """The id of a token of the vocabulary."""
    found = tokenizer.convert_tokens_to_ids(token)
    return None if found is None or found == tokenizer.unk_token_id else found
