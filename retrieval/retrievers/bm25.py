"""BM25 without a JVM."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.corpus import Corpus
from retrieval.files import whole_folder
from retrieval.order import top_k
from retrieval.types import Queries, Run

__all__ = ["BM25"]

ANALYZER = "words, possessive 's removed, lower case, Lucene's 33 stop words, Porter stemmer; version 1"
_POSSESSIVE = re.compile(r"['\u2019]s\b", re.IGNORECASE)
BLOCK = 8_000_000  # scores held at a time


class BM25:
    """BM25 (Robertson and Zaragoza 2009, Lucene's form) by bm25s, over title and text as one field."""

    def __init__(self, k1: float = 0.9, b: float = 0.4):
        """The defaults are Anserini's."""
        if k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"BM25 needs k1 >= 0 and 0 <= b <= 1, not k1 {k1} and b {b}")
        self.k1, self.b = k1, b

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Index the corpus, or open the index made before."""
        import bm25s

        made_with = json.dumps([self.k1, self.b, ANALYZER, bm25s.__version__])
        digest = hashlib.sha256(made_with.encode()).hexdigest()
        self.corpus, self.folder = corpus, folder / "bm25" / f"{corpus.fingerprint[:16]}-{digest[:16]}"
        if not self.folder.is_dir():
            index = bm25s.BM25(k1=self.k1, b=self.b, method="lucene")
            tokens = self._tokens(corpus.texts(np.arange(len(corpus))), "documents")
            if not any(tokens):
                raise ValueError(f"no document of {corpus.folder} has a word that BM25 could index")
            index.index(tokens, show_progress=False)
            with whole_folder(self.folder, shared=True) as part:
                index.save(str(part), show_progress=False)
        self.index = bm25s.BM25.load(str(self.folder), mmap=True, load_vocab=True, show_progress=False)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best documents that share a word with the query."""
        tokens = self._tokens(queries.texts, "queries") or [[]]
        step = max(1, BLOCK // len(self.corpus))
        parts = [self._retrieve(tokens[at : at + step], k) for at in range(0, len(tokens), step)]
        rows, scores = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Run(queries.ids, self.corpus.ids, rows[: len(queries)], scores[: len(queries)], "bm25")

    def provenance(self) -> dict[str, Any]:
        """What the index is, for the manifest."""
        return {"index": str(self.folder), "k1": self.k1, "b": self.b, "analyzer": ANALYZER}

    def _retrieve(self, tokens: Sequence[list[str]], k: int) -> tuple[np.ndarray, np.ndarray]:
        known = [[word for word in words if word in self.index.vocab_dict] for words in tokens]
        none = np.zeros(len(self.corpus), np.float32)
        scores = np.stack([self.index.get_scores(words) if words else none for words in known])
        return top_k(scores.astype(np.float32), self.corpus.ids.rank, min(k, len(self.corpus)), above=0.0)

    def _tokens(self, texts: Sequence[str], what: str) -> list[list[str]]:
        import bm25s
        import Stemmer
        from bm25s.stopwords import STOPWORDS_EN

        return bm25s.tokenize(
            [_POSSESSIVE.sub("", text) for text in texts],
            token_pattern=r"(?u)\w+",
            stopwords=list(STOPWORDS_EN),
            stemmer=Stemmer.Stemmer("porter"),
            return_ids=False,
            show_progress=len(texts) > 10_000,
            leave=True,
        )
