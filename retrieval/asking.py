"""Questions to a language model whose answers must be of a form: what cannot be read is a failure, and is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from retrieval.protocols import Generator
from retrieval.types import Generation

__all__ = ["Asker", "answer_of", "cut_words"]

Answer = TypeVar("Answer")


class Asker:
    """A generator that is asked with temperature 0, and what came of it so far."""

    def __init__(self, generator: Generator, max_tokens: int, seed: int, fallback: str | None):
        """`fallback` is the caller's name for what stands in for a failure; None lets the first one raise."""
        self.generator, self.fallback = generator, fallback
        self.parameters = {"max_tokens": max_tokens, "temperature": 0.0, "seed": seed}
        self.generations = self.failed = self.tokens_in = self.tokens_out = 0

    def ask(
        self, chats: Sequence[list[dict[str, str]]], read: Callable[[int, str], Answer | None], fix: str
    ) -> list[Answer | None]:
        """What `read` finds in the answer to each chat (its place, the text), None for a failure.

        Raises ValueError for a failure where there is no fallback.
        """
        requests: list[Mapping[str, Any]] = [{"messages": chat, **self.parameters} for chat in chats]
        generations = self.generator.generate(requests) if requests else []
        if len(generations) != len(requests):
            raise ValueError(
                f"{type(self.generator).__name__} gives {len(generations)} answers to {len(requests)} requests"
            )
        answers = [
            read(place, answer_of(one.text)) if one.failure is None else None for place, one in enumerate(generations)
        ]
        self._count(generations, answers)
        failed = next((one for one, answer in zip(generations, answers, strict=True) if answer is None), None)
        if failed and self.fallback is None:
            why = failed.failure or f"its answer {failed.text[:80]!r} cannot be read"
            raise ValueError(f"{type(self.generator).__name__} failed ({why}); {fix}")
        return answers

    def counts(self) -> dict[str, int]:
        """Plain values, for a manifest."""
        return {
            "generations": self.generations,
            "failed generations": self.failed,
            "tokens in": self.tokens_in,
            "tokens out": self.tokens_out,
        }

    def about(self) -> dict[str, Any]:
        """What determines an answer, as plain values."""
        made_by = getattr(self.generator, "contract", None)
        generator = dict(made_by()) if made_by else type(self.generator).__name__
        return {"generator": generator, **self.parameters, "fallback": self.fallback}

    def _count(self, generations: Sequence[Generation], answers: Sequence[Any]) -> None:
        self.generations += len(generations)
        self.failed += sum(answer is None for answer in answers)
        self.tokens_in += sum(one.tokens_in for one in generations)
        self.tokens_out += sum(one.tokens_out for one in generations)


def answer_of(text: str) -> str:
    """What follows the thoughts of a model that writes them down."""
    return text.rpartition("</think>")[2].strip()


def cut_words(text: str, words: int | None) -> tuple[str, bool]:
    """The first words of a text, blanks evened out, and whether there were more."""
    every = text.split()
    return " ".join(every[:words]), words is not None and len(every) > words
