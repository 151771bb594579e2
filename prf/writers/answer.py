"""Query-to-answer: what a model concludes after it has reasoned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from prf._writing import Texts, passage, prompt_of
from prf.append import Append
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["Answer"]

MARK = re.compile(r"^[\W_]*(?:final\s+)?answer[\W_]*:[\W_]*", re.IGNORECASE | re.MULTILINE)


class Answer:
    """The answer to a complex query without the reasoning before it. Query-to-Answer, Killingback et al. (2025)."""

    needs = ()

    def __init__(
        self,
        generator: Generator,
        prompt: Path | None = None,
        samples: int = 1,
        sampling: Sampling = Sampling(1024),
        fallback: Literal["keep"] | None = None,
    ):
        """`prompt` is a file of chat turns with {query} which asks for a line that begins with "Answer:".

        None is our own. What stands before that line is the reasoning; an answer without the line is a failure.
        """
        self.generator, self.samples, self.sampling, self.fallback = generator, samples, sampling, fallback
        self.prompt = prompt_of("answer", prompt, ("query",))
        self.texts = Texts(generator, sampling, samples, fallback, concluded)

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The answer of each query. Raises ValueError for a failure where there is no fallback."""
        return self.texts.write([self.prompt.messages(query=one) for one in queries.texts])

    def join(self) -> Append:
        """The query, then the answer."""
        return Append()

    def provenance(self) -> dict[str, Any]:
        """What determines the texts, as plain values, and counts of all that was asked so far."""
        return {**self.prompt.about(), **self.texts.provenance()}


def concluded(answer: str) -> str | None:
    """What follows the last line that begins with "Answer:"; None where there is none."""
    _, *after = MARK.split(answer)
    return passage(after[-1]) if after else None
