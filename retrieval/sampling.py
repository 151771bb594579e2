"""What a language model is asked for: a prompt and how to sample from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf
from numbers import Integral, Real
from typing import Any

__all__ = ["Request", "Sampling"]


def _whole(name: str, value: Any) -> int:
    """64 for 64 and 64.0. Raises ValueError for what is no whole number."""
    fraction = not isinstance(value, Integral) and not (isinstance(value, Real) and float(value).is_integer())
    if fraction or isinstance(value, bool):
        raise ValueError(f"{name} is a whole number, not {value!r}")
    return int(value)


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Temperature 0 takes the likeliest, and the seed then has no part in it."""

    max_tokens: int = 256  # at most, of an answer
    temperature: float = 0.0
    top_p: float = 1.0  # the likeliest tokens that together have this probability
    top_k: int | None = None  # so many of the likeliest
    repetition_penalty: float = 1.0
    stop: Sequence[str] = ()  # the answer ends before the first of these
    seed: int = 0
    logprobs: bool = False  # of the tokens of the answer, natural logarithms

    def __post_init__(self) -> None:
        for name in ("max_tokens", "top_k", "seed"):
            if name != "top_k" or self.top_k is not None:
                object.__setattr__(self, name, _whole(name, getattr(self, name)))
        if self.max_tokens < 1 or (self.top_k is not None and self.top_k < 1):
            raise ValueError(f"max_tokens and top_k are at least 1, not {self.max_tokens} and {self.top_k}")
        if not 0 <= self.temperature < inf or not 0 < self.top_p <= 1 or not 0 < self.repetition_penalty < inf:
            raise ValueError(
                "temperature is 0 or more, top_p in (0, 1] and repetition_penalty above 0, "
                f"not {self.temperature}, {self.top_p} and {self.repetition_penalty}"
            )
        if isinstance(self.stop, str) or not all(isinstance(one, str) and one for one in self.stop):
            raise ValueError(f"stop is a list of texts that are not empty, not {self.stop!r}")
        if not isinstance(self.logprobs, bool):
            raise ValueError(f"logprobs is true or false, not {self.logprobs!r}")
        object.__setattr__(self, "stop", tuple(self.stop))
        for name in ("temperature", "top_p", "repetition_penalty"):
            object.__setattr__(self, name, float(getattr(self, name)) + 0.0)  # 0, 0.0 and -0.0 are one temperature


@dataclass(frozen=True)
class Request:
    """One answer that is asked of a model, by the turns of a chat or by a text to go on with.

    `sample` counts the answers to the same prompt: each has random numbers of its own, made of seed and sample.
    """

    messages: Sequence[Mapping[str, str]] | None = None  # {"role": ..., "content": ...}
    prompt: str | None = None
    sampling: Sampling = Sampling()
    sample: int = 0

    def __post_init__(self) -> None:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("a request has either messages or a prompt")
        if type(self.sample) is not int:
            object.__setattr__(self, "sample", _whole("sample", self.sample))

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Request:
        """The request that `about` tells of. Raises ValueError for fields that are missing, unknown or no such values.

        Its own `about` may differ in how numbers are written: 1 or 1.0.
        """
        what = "prompt" if "prompt" in about else "messages"
        sampling = [field.name for field in fields(Sampling)]
        names = {what, *sampling, "sample"}
        if set(about) != names:
            raise ValueError(f"it has {', '.join(sorted(about)) or 'no fields'}, not {', '.join(sorted(names))}")
        asked = about[what]
        if not (isinstance(asked, str) if what == "prompt" else _chat(asked)):
            raise ValueError(f"{what} is {str(asked)[:40]!r}")
        try:
            return cls(
                **{what: asked}, sampling=Sampling(**{name: about[name] for name in sampling}), sample=about["sample"]
            )
        except TypeError as error:
            raise ValueError(f"a value is of another kind: {error}") from None

    def about(self) -> dict[str, Any]:
        """Plain values: all that determines the answer of a given model."""
        asked = {"prompt": self.prompt} if self.messages is None else {"messages": [dict(one) for one in self.messages]}
        return {**asked, **vars(self.sampling), "stop": list(self.sampling.stop), "sample": self.sample}


def _chat(turns: Any) -> bool:
    return isinstance(turns, list) and all(
        isinstance(turn, dict) and all(isinstance(text, str) for text in turn.values()) for turn in turns
    )
