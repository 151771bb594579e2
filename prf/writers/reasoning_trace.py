"""The reasoning itself as the text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from prf._writing import Texts, passage, prompt_of
from prf.append import Append
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["ReasoningTrace"]

TAG = re.compile(r"</?think>")


class ReasoningTrace:
    """All that a model thinks aloud about a complex query. Query-as-Reasoning-Trace, Killingback et al. (2025).

    The thoughts of a model that writes them between tags are part of the text, and so is what it says after them; a
    trace that max_tokens ended is kept and counted as cut.
    """

    needs = ()

    def __init__(
        self,
        generator: Generator,
        prompt: Path | None = None,
        samples: int = 1,
        sampling: Sampling = Sampling(1024),
        fallback: Literal["keep"] | None = None,
    ):
        """`prompt` is a file of chat turns with {query}; None is our own."""
        self.generator, self.samples, self.sampling, self.fallback = generator, samples, sampling, fallback
        self.prompt = prompt_of("reasoning_trace", prompt, ("query",))
        self.texts = Texts(generator, sampling, samples, fallback, untagged, thoughts=True)

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The trace of each query. Raises ValueError for a failure where there is no fallback."""
        return self.texts.write([self.prompt.messages(query=one) for one in queries.texts])

    def join(self) -> Append:
        """The query, then the trace."""
        return Append()

    def provenance(self) -> dict[str, Any]:
        """What determines the texts, as plain values, and counts of all that was asked so far."""
        return {**self.prompt.about(), **self.texts.provenance()}


def untagged(answer: str) -> str | None:
    """An answer with its thoughts, without the tags around them."""
    return passage(TAG.sub(" ", answer))
