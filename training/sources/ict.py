"""The inverse cloze task: training pairs from documents alone."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import numpy as np

from retrieval import sentences as parting
from retrieval.corpus import Corpus, Document
from retrieval.files import digest
from retrieval.lists import Lists
from retrieval.locate import cache_folder
from retrieval.protocols import Dataset
from retrieval.sentences import sentences
from retrieval.types import Queries

__all__ = ["ICT"]


class ICT:
    """A random sentence of a document asks for the document without it. Lee et al. (2019).

    With probability `kept` the sentence stays where it was, so that matching words are learnt too. Title and the other
    sentences are the one passage listed for it, label 1; both have the id of the document.
    """

    def __init__(self, dataset: Dataset, kept: float = 0.1, documents: int | None = None, seed: int = 0):
        """`documents` is how many are drawn, at random, None for all; those of under two sentences are left out."""
        if not 0 <= kept <= 1:
            raise ValueError(f"kept is {kept}; it is the share of passages that keep their sentence, from 0 to 1")
        if documents is not None and documents < 1:
            raise ValueError(f"documents is {documents}; it is how many are drawn, at least 1, or null for all")
        self.dataset, self.kept, self.documents, self.seed = dataset, kept, documents, seed

    def lists(self) -> Lists:
        """A query for each document. Raises ValueError where none has two sentences."""
        corpus = self.dataset.open().corpus
        parted = [(document.id, query, kept) for document, query, kept in self._parted(corpus)]
        if not parted:
            raise ValueError(f"none of {self._drawn(corpus)} documents of {corpus.folder} has two sentences to part")
        ids, texts, kept = zip(*parted, strict=True)
        counts = {
            "documents of fewer than 2 sentences": self._drawn(corpus) - len(ids),
            "passages that keep their sentence": sum(kept),
        }
        listed = len(ids)
        rows, labels = np.arange(listed, dtype=np.int32), np.ones(listed, np.float32)
        return Lists(Queries(ids, texts), self._passages(corpus), np.arange(listed + 1), rows, labels, counts=counts)

    def _drawn(self, corpus: Corpus) -> int:
        return min(self.documents or len(corpus), len(corpus))

    def _passages(self, corpus: Corpus) -> Corpus:
        """The passages, ingested once for the same documents and settings."""
        made_by = inspect.getsource(parting) + inspect.getsource(inspect.getmodule(ICT))  # type: ignore[arg-type]
        key = digest([corpus.fingerprint, self.kept, self.documents, self.seed, made_by])
        folder = cache_folder() / "corpora" / f"ict-{key}"
        if (folder / "corpus.json").is_file():
            return Corpus(folder)
        return Corpus.build((document for document, _, _ in self._parted(corpus)), folder, shared=True)

    def _parted(self, corpus: Corpus) -> Iterator[tuple[Document, str, bool]]:
        """Documents without a sentence, that sentence, and whether it was kept: the same for the same row and seed."""
        chosen = np.ones(len(corpus), bool)
        if self.documents is not None and self.documents < len(corpus):
            chosen[np.random.default_rng(self.seed).permutation(len(corpus))[self.documents :]] = False
        for row, (name, title, text) in enumerate(corpus):
            parts = sentences(text) if chosen[row] else []
            if len(parts) < 2:
                continue
            rng = np.random.default_rng([self.seed, row])
            place, kept = int(rng.integers(len(parts))), bool(rng.random() < self.kept)
            rest = parts if kept else parts[:place] + parts[place + 1 :]
            yield Document(name, title, " ".join(rest)), parts[place], kept
