"""The words of a document that are frequent in it and rare in the collection."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from retrieval.content_words import content_words
from retrieval.protocols import Dataset

__all__ = ["Keywords"]

TOGETHER = 4096  # documents read at a time


class Keywords:
    """The words with the highest tf ln(N / df), as Spärck Jones (1972) weighs them, best first.

    Words are lower-case, without function words; of the N documents of the collection df hold one. A word that the
    collection lacks counts as held by one document, and one that all documents hold is no keyword.
    """

    def __init__(self, dataset: Dataset, count: int = 10):
        """`dataset` is the collection whose document frequencies count; it is read once, when first needed.

        Raises ValueError for a count below 1.
        """
        if count < 1:
            raise ValueError(f"Keywords: count is {count}; it is at least 1")
        self.dataset, self.count = dataset, count

    def extract(self, texts: Sequence[str]) -> list[str]:
        """The keywords of each text with commas between them."""
        return [", ".join(self._best(Counter(words))) for words in content_words(texts, repeated=True)]

    def contract(self) -> Mapping[str, Any]:
        """The settings and the collection."""
        return {"extractor": "keywords", "count": self.count, "collection": self._corpus.fingerprint}

    def _best(self, counts: Counter[str]) -> list[str]:
        documents, held = self._frequencies
        weights = {word: often * math.log(documents / held.get(word, 1)) for word, often in counts.items()}
        return sorted((word for word, weight in weights.items() if weight > 0), key=lambda w: (-weights[w], w))[
            : self.count
        ]

    @cached_property
    def _corpus(self) -> Any:
        return self.dataset.open().corpus

    @cached_property
    def _frequencies(self) -> tuple[int, Counter[str]]:
        """How many documents there are, and how many hold each word."""
        corpus, held = self._corpus, Counter[str]()
        for start in range(0, len(corpus), TOGETHER):
            for words in content_words(corpus.texts(np.arange(start, min(start + TOGETHER, len(corpus))))):
                held.update(words)
        return len(corpus), held
