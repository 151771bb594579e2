"""TextRank: the sentences of a document that most of the others resemble."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prf.extractors._sentences import check_count
from retrieval.content_words import content_words
from retrieval.sentences import sentences

__all__ = ["TextRank"]

DAMPING, CLOSE, STEPS = 0.85, 1e-10, 1000


class TextRank:
    """The `sentences` with the highest PageRank, in the order of the text. Mihalcea and Tarau (2004).

    The weight between two is |words of both| / (ln |words of one| + ln |words of the other|), over content words.
    """

    def __init__(self, sentences: int = 2):
        """Raises ValueError for less than one sentence."""
        self.sentences = check_count(self, sentences)

    def extract(self, texts: Sequence[str]) -> list[str]:
        """The central sentences of each text; of equal ones the earlier."""
        return [self._central(text) for text in texts]

    def contract(self) -> Mapping[str, Any]:
        """The settings."""
        return {"extractor": "textrank", "sentences": self.sentences, "damping": DAMPING}

    def _central(self, text: str) -> str:
        parts = sentences(text)
        if len(parts) > self.sentences:
            ranks = pagerank(resemblance([set(words) for words in content_words(parts)]))
            # rounded: what differs by the last bits of the iteration only is equal
            best = np.argsort(-ranks.round(8), kind="stable")[: self.sentences]
            parts = [parts[i] for i in np.sort(best)]
        return " ".join(parts)


def resemblance(bags: Sequence[set[str]]) -> np.ndarray:
    """Weights float64 [sentences, sentences], symmetric; none to itself, nor where both have fewer than two words."""
    weights = np.zeros((len(bags), len(bags)))
    logs = [math.log(len(bag)) if bag else 0.0 for bag in bags]
    for i, one in enumerate(bags):
        for j in range(i):
            if logs[i] + logs[j] > 0:
                weights[i, j] = weights[j, i] = len(one & bags[j]) / (logs[i] + logs[j])
    return weights


def pagerank(weights: np.ndarray) -> np.ndarray:
    """Ranks float64 [nodes], of sum 1, of an undirected weighted graph. A node without edges gives to all alike."""
    count, out = len(weights), weights.sum(axis=1, keepdims=True)
    steps = np.divide(weights, out, out=np.full(weights.shape, 1 / count), where=out > 0)
    ranks = np.full(count, 1 / count)
    for _ in range(STEPS):
        moved = (1 - DAMPING) / count + DAMPING * ranks @ steps
        if np.abs(moved - ranks).sum() < CLOSE:
            return moved
        ranks = moved
    return ranks
