"""What writers that read a first pass share: its passages as prompts show them, and what of them is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prf._texts import texts_of
from prf._writing import Chat, Texts
from retrieval.asking import cut_words
from retrieval.order import PAD
from retrieval.types import Feedback, Queries

__all__ = ["Passages", "numbered", "written"]


class Passages:
    """The first passages of each query, cut to some words; blank ones are left out and counted."""

    def __init__(self, count: int, words: int | None):
        """`count` 0 shows none; `words` None cuts none. Raises ValueError for numbers below."""
        if count < 0 or (words is not None and words < 1):
            raise ValueError(f"passages is 0 or more and words at least 1 or None, not {count} and {words}")
        self.count, self.words = count, words
        self.empty = self.truncated = self.without = 0

    def of(self, model: object, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The passages of each query, best first. Raises ValueError without texts, or with those of other queries."""
        every = [[self._cut(text) for text in one] for one in texts_of(model, queries, feedback, self.count)]
        shown = 0 if feedback is None else int((feedback.run.rows[:, : self.count] != PAD).sum())
        self.empty += shown - sum(map(len, every))
        self.without += sum(not one for one in every)
        return every

    def provenance(self) -> dict[str, Any]:
        """How many are shown, as plain values, and counts of all that was shown so far."""
        return {
            "passages": self.count,
            "words": self.words,
            "truncated passages": self.truncated,
            "empty passages": self.empty,
            "queries without passages": self.without,
        }

    def _cut(self, text: str) -> str:
        kept, cut = cut_words(text, self.words)
        self.truncated += cut
        return kept


def numbered(texts: Sequence[str]) -> str:
    """The texts below each other, each after its number."""
    return "\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))


def written(texts: Texts, chats: Sequence[Chat | None]) -> list[list[str]]:
    """What the model writes to each chat; nothing where there is none."""
    answers = iter(texts.write([chat for chat in chats if chat is not None]))
    return [[] if chat is None else next(answers) for chat in chats]
