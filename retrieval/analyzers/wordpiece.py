"""Text to the sub-words of a model's tokenizer, as retrieval over pre-tokenised text has it (Anserini's `flat-wp`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from retrieval.model_files import MINILM, find_model
from retrieval.types import Terms

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["WordPiece"]


class WordPiece:
    """The tokens of a Hugging Face tokenizer without its special ones: by default BERT's uncased WordPiece."""

    def __init__(self, model: str = MINILM):
        """The tokenizer of a model's folder or name; MiniLM's is that of bert-base-uncased."""
        self.model = model

    def analyze(self, texts: pa.Array) -> Terms:
        """The tokens of each text, none of them cut off."""
        words = texts.fill_null("").to_pylist() if len(texts) else []
        found = [encoding.ids for encoding in self._loaded.encode_batch_fast(words, add_special_tokens=False)]
        offsets = np.cumsum([0, *map(len, found)], dtype=np.int64)
        used, ids = np.unique(np.concatenate([np.zeros(0, np.int64), *map(np.asarray, found)]), return_inverse=True)
        terms = [self._loaded.id_to_token(int(number)) for number in used]
        return Terms(pa.array(terms, pa.large_string()), ids.astype(np.int32), offsets)

    def contract(self) -> Mapping[str, Any]:
        """What determines the tokens."""
        return {"analyzer": "wordpiece", "tokenizer": hashlib.sha256(self._loaded.to_str().encode()).hexdigest()}

    @cached_property
    def _loaded(self) -> Tokenizer:
        from tokenizers import Tokenizer

        folder = find_model(self.model)
        if not (folder / "tokenizer.json").is_file():
            raise FileNotFoundError(f"{folder} has no tokenizer.json, which holds a fast tokenizer")
        loaded = Tokenizer.from_file(str(folder / "tokenizer.json"))
        loaded.no_truncation()
        loaded.no_padding()
        return loaded
