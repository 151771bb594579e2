"""Pairwise reranking by a language model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.asking import Asker, cut_words
from retrieval.chat_prompt import MessagePrompt, prompt_file
from retrieval.protocols import Generator
from retrieval.sampling import Sampling

__all__ = ["Duo"]

# A letter that an answer begins with, and no article as in "A passage that ..."
FIRST = re.compile(r"\W*(?:[Aa]nswer\W+)?(?:[Pp]assage\s+)?([AB])\b(?!\s+(?!because\b|is\b|since\b)[a-z])")
REQUESTS = 4096  # in one call of the generator, as far as whole lists allow: what there are prompts of in memory
FIX = "take another model; or fallback: draw gives each of the two texts half a win, and counts it"


class Duo:
    """A model compares every two texts of a list, in both orders; texts rank by wins. PRP allpair, Qin et al. (2023).

    Asking in both orders cancels a preference for the first or second place. Texts with equal wins stay in the order
    they had. A list of n takes n (n - 1) generations.
    """

    def __init__(
        self,
        generator: Generator,
        prompt: Path | None = None,
        words: int | None = 300,
        max_tokens: int = 16,
        seed: int = 0,
        fallback: Literal["draw"] | None = None,
    ):
        """`prompt` is a file of chat turns with {query}, {a} and {b}, to be answered by A or B; None is our own.

        Texts are cut to `words`. `max_tokens` is of an answer: a model that thinks aloud needs more. A generation that
        failed or names no one raises ValueError unless `fallback` is named: draw gives half a win to each.
        """
        if words is not None and words < 1:
            raise ValueError(f"words is {words}; a text has at least 1 word")
        if fallback not in (None, "draw"):
            raise ValueError(f'fallback is "draw" or None, not {fallback!r}')
        self.generator, self.words = generator, words
        self.prompt = MessagePrompt.read(prompt_file("retrieval.rerankers", "duo", prompt), ("query", "a", "b"))
        self.asker = Asker(generator, Sampling(max_tokens, seed=seed), fallback)
        self.truncated = 0

    def orders(self, queries: Sequence[str], lists: Sequence[Sequence[str]]) -> list[Sequence[int]]:
        """The places of each list's texts, best first; several lists go into one call."""
        return [
            np.argsort(-wins, kind="stable").tolist()
            for part in _together([len(one) for one in lists])
            for wins in self._wins([queries[i] for i in part], [lists[i] for i in part])
        ]

    def contract(self) -> dict[str, Any]:
        """All that determines its orders, as plain values."""
        return {"reranker": "duo", "words": self.words, **self.prompt.about(), **self.asker.about()}

    def provenance(self) -> dict[str, Any]:
        """The contract, and counts of all that was asked so far."""
        return {**self.contract(), **self.asker.counts(), "truncated passages": self.truncated}

    def _wins(self, queries: Sequence[str], lists: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """float64 [texts] of each list: comparisons won, of 2 (texts - 1)."""
        texts = [[self._cut(text) for text in one] for one in lists]
        pairs = [(i, a, b) for i, one in enumerate(texts) for a, b in itertools.permutations(range(len(one)), 2)]
        chats = [self.prompt.messages(query=queries[i], a=texts[i][a], b=texts[i][b]) for i, a, b in pairs]
        answers = self.asker.ask(chats, lambda _, text: chosen(text), FIX)
        wins = [np.zeros(len(one)) for one in lists]
        for (i, a, b), answer in zip(pairs, answers, strict=True):
            wins[i][a] += 0.5 if answer is None else answer == "A"
            wins[i][b] += 0.5 if answer is None else answer == "B"
        return wins

    def _cut(self, text: str) -> str:
        kept, cut = cut_words(text, self.words)
        self.truncated += cut
        return kept


def _together(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Places of the lists that are asked about in one call."""
    part: list[int] = []
    requests = 0
    for place, size in enumerate(sizes):
        if part and requests + size * (size - 1) > REQUESTS:
            yield part
            part, requests = [], 0
        part.append(place)
        requests += size * (size - 1)
    if part:
        yield part


def chosen(answer: str) -> str | None:
    """The letter an answer begins with, or the one passage it names; None where that is unclear."""
    first = FIRST.match(answer)
    named = {first[1]} if first else set(re.findall(r"[Pp]assage\s+([AB])\b", answer))
    return named.pop() if len(named) == 1 else None
