"""Questions to a language model: answers are kept and found again, failures counted, and what cannot be read is one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from retrieval.locate import cache_folder
from retrieval.protocols import Generator
from retrieval.sampling import Request, Sampling
from retrieval.store import GenerationStore, key, plain
from retrieval.types import Generation

__all__ = ["Asker", "answer_of", "cut_words"]

Answer = TypeVar("Answer")
Chat = Sequence[Mapping[str, str]]


class Asker:
    """A generator that is asked, through the store of its answers, and what came of it so far.

    The store is generations.sqlite in the cache folder. A generator without a contract() cannot be told from others,
    so its answers are not kept.
    """

    def __init__(self, generator: Generator, sampling: Sampling, fallback: str | None = None):
        """`fallback` is the caller's name for what stands in for a failure; None lets the first one raise."""
        self.generator, self.sampling, self.fallback = generator, sampling, fallback
        self.generations = self.failed = self.cut = self.calls = self.hits = self.tokens_in = self.tokens_out = 0
        self.seconds = 0.0

    def ask(
        self,
        chats: Sequence[Chat],
        read: Callable[[int, str], Answer | None],
        fix: str,
        samples: int = 1,
        thoughts: bool = False,
    ) -> list[Answer | None]:
        """What `read` finds in the answer to each chat (its place, the text), None for a failure.

        With several `samples`, those of a chat stand together: sample s of chat i at i * samples + s, which is the
        place that `read` is given. It reads what follows a model's thoughts, or with `thoughts` all of it. Raises
        ValueError for a failure where there is no fallback; answers are kept before.
        """
        requests = [Request(chat, None, self.sampling, sample) for chat in chats for sample in range(samples)]
        generations = self._answered(requests)
        answers = [
            read(place, one.text if thoughts else answer_of(one.text)) if one.failure is None else None
            for place, one in enumerate(generations)
        ]
        self.generations += len(answers)
        self.cut += sum(one.failure is None and one.finish_reason == "length" for one in generations)
        self.failed += sum(answer is None for answer in answers)
        failed = next((one for one, answer in zip(generations, answers, strict=True) if answer is None), None)
        if failed and self.fallback is None:
            why = failed.failure or f"its answer {failed.text[:80]!r} cannot be read"
            raise ValueError(f"{type(self.generator).__name__} failed ({why}); {fix}")
        return answers

    def counts(self) -> dict[str, Any]:
        """Plain values, for a manifest: `tokens` and `seconds` are of the model calls that were made."""
        return {
            "generations": self.generations,
            "failed generations": self.failed,
            "cut generations": self.cut,
            "model calls": self.calls,
            "cache hits": self.hits,
            "tokens in": self.tokens_in,
            "tokens out": self.tokens_out,
            "generation seconds": round(self.seconds, 3),
        }

    def about(self) -> dict[str, Any]:
        """What determines an answer, as plain values."""
        made_by = getattr(self.generator, "contract", None)
        generator = dict(made_by()) if made_by else type(self.generator).__name__
        sampling = Request(prompt="", sampling=self.sampling).about()
        named = {what: value for what, value in sampling.items() if what not in ("prompt", "sample")}
        return {"generator": generator, **named, "fallback": self.fallback}

    def _answered(self, requests: Sequence[Request]) -> list[Generation]:
        """The answer to each request, kept ones first; each new one is written down as it comes."""
        made_by = getattr(self.generator, "contract", None)
        if not requests or made_by is None:
            return self._generated(requests, lambda *_: None)
        contract, store = plain(dict(made_by())), GenerationStore(Path(cache_folder()) / "generations.sqlite")
        names = [key(contract, one) for one in requests]
        found = store.find(list(dict.fromkeys(names)))
        self.hits += sum(name in found for name in names)
        missing = {name: one for name, one in zip(names, requests, strict=True) if name not in found}
        new = self._generated(
            list(missing.values()), lambda request, answer, seconds: store.keep(contract, request, answer, seconds)
        )
        found.update(zip(missing, new, strict=True))
        return [found[name] for name in names]

    def _generated(
        self, requests: Sequence[Request], keep: Callable[[Request, Generation, float], None]
    ) -> list[Generation]:
        found: dict[int, Generation] = {}
        started = last = time.perf_counter()
        answers = self.generator.generate(requests) if requests else ()
        for place, one in tqdm(answers, "generations", len(requests), disable=len(requests) < 2, leave=False):
            now = time.perf_counter()
            keep(requests[place], one, now - last)
            found[place], last = one, now
        if len(found) != len(requests):
            name = type(self.generator).__name__
            raise ValueError(f"{name} gives {len(found)} answers to {len(requests)} requests")
        self.calls += len(requests)
        self.seconds += time.perf_counter() - started
        self.tokens_in += sum(one.tokens_in for one in found.values())
        self.tokens_out += sum(one.tokens_out for one in found.values())
        return [found[place] for place in range(len(requests))]


def answer_of(text: str) -> str:
    """What follows the thoughts of a model that writes them down; nothing where they did not come to an end."""
    _, closed, answer = text.rpartition("</think>")
    return "" if not closed and answer.lstrip().startswith("<think>") else answer.strip()


def cut_words(text: str, words: int | None) -> tuple[str, bool]:
    """The first words of a text, blanks evened out, and whether there were more."""
    every = text.split()
    return " ".join(every[:words]), words is not None and len(every) > words
