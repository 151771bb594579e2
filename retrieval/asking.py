"""Questions to a language model: answers are kept and found again, failures counted, and what cannot be read is one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from tqdm import tqdm

from retrieval.protocols import Generator
from retrieval.sampling import Request, Sampling
from retrieval.store import GenerationStore, key, plain
from retrieval.types import Generation

__all__ = ["Asker", "answer_of", "cut_words"]

Answer = TypeVar("Answer")
Chat = Sequence[Mapping[str, str]]


class Asker:
    """A generator that is asked, through the store of its answers, and what came of it so far.

    A generator without a contract() cannot be told from others, so its answers are not kept. An answer that cannot be
    read is kept all the same: it is what the model says, and counts as failed each time.
    """

    def __init__(self, generator: Generator, sampling: Sampling, fallback: str | None = None):
        """`fallback` is the caller's name for what stands in for a failure; None lets the first one raise."""
        self.generator, self.sampling, self.fallback = generator, sampling, fallback
        self.generations = self.failed = self.cut = self.calls = self.hits = 0
        self.tokens_in = self.tokens_out = self.kept_in = self.kept_out = 0
        self.seconds = self.kept_seconds = 0.0

    def ask(
        self,
        chats: Sequence[Chat],
        read: Callable[[int, str], Answer | None],
        fix: str,
        samples: int = 1,
        thoughts: bool = False,
        first: int = 0,
    ) -> list[Answer | None]:
        """What `read` finds in the answer to each chat (its place, the text), None for a failure.

        With several `samples`, those of a chat stand together: sample s of chat i at i * samples + s, which is the
        place that `read` is given. It reads what follows a model's thoughts, or with `thoughts` all of it. `first` is
        the number of the first sample: a question asked again has another. Raises ValueError for a failure where there
        is no fallback; answers are kept before.
        """
        numbers = range(first, first + samples)
        requests = [Request(chat, None, self.sampling, sample) for chat in chats for sample in numbers]
        generations = self.answered(requests)
        answers = [self._read(read, place, one, thoughts) for place, one in enumerate(generations)]
        self.failed += sum(answer is None for answer in answers)
        failed = next((one for one, answer in zip(generations, answers, strict=True) if answer is None), None)
        if failed and self.fallback is None:
            why = failed.failure or f"its answer {failed.text[:80]!r} cannot be read"
            raise ValueError(f"{type(self.generator).__name__} failed ({why}); {fix}")
        return answers

    def counts(self) -> dict[str, Any]:
        """Plain values, for a manifest. A cache hit is an answer that needed no model call.

        `tokens` and `seconds` are of the model calls; `cached` ones are what kept answers took when they were asked
        for. The seconds of an answer are those since the one before, so that they add up to the time of generating,
        also where several are generated at once; the first has the loading of the model too.
        """
        return {
            "generations": self.generations,
            "failed generations": self.failed,
            "cut generations": self.cut,
            "model calls": self.calls,
            "cache hits": self.hits,
            "tokens in": self.tokens_in,
            "tokens out": self.tokens_out,
            "generation seconds": round(self.seconds, 3),
            "cached tokens in": self.kept_in,
            "cached tokens out": self.kept_out,
            "cached seconds": round(self.kept_seconds, 3),
        }

    def about(self) -> dict[str, Any]:
        """What determines an answer, as plain values."""
        made_by = getattr(self.generator, "contract", None)
        generator = dict(made_by()) if made_by else type(self.generator).__name__
        sampling = Request(prompt="", sampling=self.sampling).about()
        named = {what: value for what, value in sampling.items() if what not in ("prompt", "sample")}
        return {"generator": generator, **named, "fallback": self.fallback}

    def _read(
        self, read: Callable[[int, str], Answer | None], place: int, one: Generation, thoughts: bool
    ) -> Answer | None:
        said = one.text if thoughts else answer_of(one.text)
        unended = bool(one.text.strip()) and not said  # thoughts, and no answer after them
        return None if one.failure is not None or unended else read(place, said)

    def answered(self, requests: Sequence[Request]) -> list[Generation]:
        """The answer to each request, failures among them: kept ones, then new ones; equal requests are asked once."""
        found = self._found(requests) if requests else []
        self.generations += len(found)
        self.cut += sum(one.failure is None and one.finish_reason == "length" for one in found)
        return found

    def _found(self, requests: Sequence[Request]) -> list[Generation]:
        made_by = getattr(self.generator, "contract", None)
        recorded = getattr(self.generator, "recorded", False)  # answers of a file: the store must not stand before it
        contract = plain(dict(made_by())) if made_by else ""
        names = [key(contract, one) for one in requests]
        asked, before = dict(zip(names, requests, strict=True)), self.calls
        if made_by is None or recorded:
            found = self._generated(asked, lambda request, answer, seconds: answer)
            self.calls -= len(found) if recorded else 0
        else:
            with closing(GenerationStore()) as store:
                found = self._kept(store, asked)
                missing = {name: one for name, one in asked.items() if name not in found}
                if len(missing) < len(requests):
                    store.note(contract, len(requests) - len(missing))
                found |= self._generated(missing, partial(store.keep, contract))
        self.hits += len(requests) - (self.calls - before)
        return [found[name] for name in names]

    def _kept(self, store: GenerationStore, asked: Mapping[bytes, Request]) -> dict[bytes, Generation]:
        found = store.find(list(asked))
        self.kept_in += sum(one.tokens_in for one, _ in found.values())
        self.kept_out += sum(one.tokens_out for one, _ in found.values())
        self.kept_seconds += sum(seconds for _, seconds in found.values())
        return {name: one for name, (one, _) in found.items()}

    def _generated(
        self, asked: Mapping[bytes, Request], keep: Callable[[Request, Generation, float], Generation]
    ) -> dict[bytes, Generation]:
        """New answers by key, each kept as it comes, with the seconds since the one before."""
        names, requests = list(asked), list(asked.values())
        found: dict[bytes, Generation] = {}
        last = time.perf_counter()
        answers = self.generator.generate(requests) if requests else ()
        for place, one in tqdm(answers, "generations", len(requests), disable=len(requests) < 2, leave=False):
            seconds = time.perf_counter() - last
            if not 0 <= place < len(names) or names[place] in found:
                wrong = f"answers request {place} of {len(names)}" + (" twice" if 0 <= place < len(names) else "")
                raise ValueError(f"{type(self.generator).__name__} {wrong}; generate() gives each place once")
            found[names[place]] = keep(requests[place], one, seconds)
            self.calls += 1
            self.seconds += seconds
            self.tokens_in += one.tokens_in
            self.tokens_out += one.tokens_out
            last = time.perf_counter()
        if len(found) != len(requests):
            name = type(self.generator).__name__
            raise ValueError(f"{name} gives {len(found)} answers to {len(requests)} requests")
        return found


def answer_of(text: str) -> str:
    """What follows the thoughts of a model that writes them down; nothing where they did not come to an end."""
    _, closed, answer = text.rpartition("</think>")
    return "" if not closed and answer.lstrip().startswith("<think>") else answer.strip()


def cut_words(text: str, words: int | None) -> tuple[str, bool]:
    """The first words of a text, blanks evened out, and whether there were more."""
    every = text.split()
    return " ".join(every[:words]), words is not None and len(every) > words
