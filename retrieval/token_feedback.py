"""What late interaction knows of its documents: the tokens behind their vectors, and how many documents hold each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.corpus import Corpus
from retrieval.files import whole_file
from retrieval.token_vectors import TokenStore
from retrieval.types import TermStatistics, Tokens

__all__ = ["TokenFeedback"]

CHUNK = 4096  # documents tokenised at a time


class TokenFeedback:
    """Token vectors with their tokens; the store holds no ids, so the encoder reads the texts of the few again."""

    def __init__(self, corpus: Corpus, store: TokenStore, encoder: Any, folder: Path):
        """`folder` keeps what is counted of this corpus as this encoder reads it."""
        self.corpus, self.store, self.encoder, self.folder = corpus, store, encoder, folder

    def of(self, rows: np.ndarray) -> tuple[Tokens, Sequence[str]]:
        """The vectors of these documents, and the token of each vector. Raises ValueError where they do not match."""
        found, ids = self.store.rows(rows), self.encoder.token_ids(self.corpus.texts(rows))
        if [len(one) for one in ids] != np.diff(found.offsets).tolist():
            raise ValueError(f"{self.store.folder} has other tokens than the encoder reads: encode the corpus again")
        names = self._vocabulary
        return found, [names[i] for one in ids for i in one]

    @property
    def statistics(self) -> TermStatistics:
        """How many documents hold a token; idf is ln((N + 1) / (df + 1)), as ColBERT-PRF weighs it."""
        return TermStatistics(len(self.corpus), self._held, self._idf)

    def _held(self, tokens: Sequence[str]) -> np.ndarray:
        places = [self._id_of.get(token, -1) for token in tokens]
        return np.array([self._frequencies[place] if place >= 0 else 0 for place in places], np.int64)

    def _idf(self, tokens: Sequence[str]) -> np.ndarray:
        return np.log((len(self.corpus) + 1) / (self._held(tokens) + 1))

    @cached_property
    def _vocabulary(self) -> Sequence[str]:
        return self.encoder.vocabulary()

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self._vocabulary)}

    @cached_property
    def _frequencies(self) -> np.ndarray:
        """int64 [vocabulary]: documents with each token; counted once, which reads the whole corpus."""
        path = self.folder / "token-frequencies.npy"
        if not path.is_file():
            with whole_file(path) as part, part.open("wb") as file:
                np.save(file, self._counted())
        return np.load(path)

    def _counted(self) -> np.ndarray:
        counts = np.zeros(len(self._vocabulary), np.int64)
        for start in range(0, len(self.corpus), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(self.corpus)))
            for ids in self.encoder.token_ids(self.corpus.texts(rows)):
                counts[np.unique(ids)] += 1
        return counts
