"""Listwise reranking by a language model, window by window."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from retrieval.asking import Asker, cut_words
from retrieval.chat_prompt import MessagePrompt, prompt_file
from retrieval.protocols import Generator
from retrieval.sampling import Sampling

__all__ = ["Listwise"]

BRACKETS, LIST = re.compile(r"\[(\d+)\]"), re.compile(r"\d+(?:\s*[>,]\s*\d+)*")
FIX = "ask for more max_tokens or take another model; or fallback: keep leaves such a window as it was, and counts it"


class Listwise:
    """A model orders a window of texts, which slides from the end of the list to its start. RankGPT, Sun et al. (2023).

    A number that an answer repeats or makes up is dropped and one that it lacks comes after the others, in the order
    before; such answers are counted as malformed. One without any number of a text is a failure.
    """

    def __init__(
        self,
        generator: Generator,
        window: int = 20,
        stride: int = 10,
        prompt: Path | None = None,
        words: int | None = 300,
        max_tokens: int = 256,
        seed: int = 0,
        fallback: Literal["keep"] | None = None,
    ):
        """`prompt` is a file of chat turns with {query}, {passages} and, if wanted, {count}; None is our own.

        Texts are cut to `words`. `max_tokens` is of an answer: a model that thinks aloud needs more. A generation that
        failed raises ValueError unless `fallback` is named: keep leaves the window as it was.
        """
        if not 1 <= stride < window:
            raise ValueError(f"window {window} and stride {stride}: a stride is at least 1 and below the window")
        if words is not None and words < 1:
            raise ValueError(f"words is {words}; a text has at least 1 word")
        if fallback not in (None, "keep"):
            raise ValueError(f'fallback is "keep" or None, not {fallback!r}')
        self.generator, self.window, self.stride, self.words = generator, window, stride, words
        file = prompt_file("retrieval.rerankers", "listwise", prompt)
        self.prompt = MessagePrompt.read(file, ("query", "passages"), ("count",))
        self.asker = Asker(generator, Sampling(max_tokens, seed=seed), fallback)
        self.malformed = self.truncated = 0

    def orders(self, queries: Sequence[str], lists: Sequence[Sequence[str]]) -> list[Sequence[int]]:
        """The places of each list's texts, best first; the windows of all lists that are due go into one call."""
        texts = [[self._cut(text) for text in one] for one in lists]
        orders = [list(range(len(one))) for one in lists]
        sliding = [windows(len(one), self.window, self.stride) for one in lists]
        for step in range(max(map(len, sliding), default=0)):
            due = [(i, *spans[step]) for i, spans in enumerate(sliding) if step < len(spans)]
            shown = [[texts[i][place] for place in orders[i][start:stop]] for i, start, stop in due]
            asked = [self._chat(queries[i], one) for (i, _, _), one in zip(due, shown, strict=True)]
            answers = self.asker.ask(asked, partial(_read, [len(one) for one in shown]), FIX)
            for (i, start, stop), answer in zip(due, answers, strict=True):
                orders[i][start:stop] = self._reordered(orders[i][start:stop], answer)
        return list(orders)

    def contract(self) -> dict[str, Any]:
        """All that determines its orders, as plain values."""
        about = {"window": self.window, "stride": self.stride, "words": self.words}
        return {"reranker": "listwise", **about, **self.prompt.about(), **self.asker.about()}

    def provenance(self) -> dict[str, Any]:
        """The contract, and counts of all that was asked so far."""
        counts = {"malformed orders": self.malformed, "truncated passages": self.truncated}
        return {**self.contract(), **self.asker.counts(), **counts}

    def _cut(self, text: str) -> str:
        kept, cut = cut_words(text, self.words)
        self.truncated += cut
        return kept

    def _chat(self, query: str, texts: Sequence[str]) -> list[dict[str, str]]:
        passages = "\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))
        return self.prompt.messages(query=query, passages=passages, count=len(texts))

    def _reordered(self, places: list[int], answer: list[int] | None) -> list[int]:
        """The places in the order of the answer; None leaves them."""
        if answer is None:
            return places
        known = [number - 1 for number in dict.fromkeys(answer) if 1 <= number <= len(places)]
        self.malformed += sorted(answer) != list(range(1, len(places) + 1))
        chosen = set(known)
        return [places[i] for i in [*known, *(i for i in range(len(places)) if i not in chosen)]]


def _read(sizes: Sequence[int], place: int, answer: str) -> list[int] | None:
    return numbers(answer, sizes[place])


def windows(count: int, window: int, stride: int) -> list[tuple[int, int]]:
    """First and last place (exclusive) of each window, from the end to the start; none for a list of 1."""
    if count < 2:
        return []
    starts = [count - window]
    while starts[-1] > 0:
        starts.append(starts[-1] - stride)
    return [(max(start, 0), start + window) for start in starts]


def numbers(answer: str, count: int) -> list[int] | None:
    """The numbers of an answer in their order; None where none is of one of `count` texts."""
    found = BRACKETS.findall(answer) or (re.findall(r"\d+", answer) if LIST.fullmatch(answer) else [])
    given = [int(one) for one in found]
    return given if any(1 <= one <= count for one in given) else None
