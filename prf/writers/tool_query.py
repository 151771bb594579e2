"""Queries for tool retrieval: one for each tool that a request needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from prf._writing import Texts, prompt_of
from prf.separate import Separate
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["ToolQuery"]

MARK = re.compile(r"\s*(?:[-*•]|\(?\d+[.):])\s+")


class ToolQuery:
    """A query for each tool that a request needs, searched apart and interleaved. Kachuee et al. (2025), zero-shot.

    Put `multi_query` with `fusion: round_robin` behind it.
    """

    needs = ()

    def __init__(
        self,
        generator: Generator,
        tools: int = 10,
        original: bool = True,
        sampling: Sampling = Sampling(max_tokens=256),
        prompt: Path | None = None,
        fallback: Literal["keep"] | None = None,
    ):
        """`prompt` is a file of chat turns with {query}, answered by one query a line; None is our own.

        At most `tools` queries of a request count; `original` searches with the request too, first. An answer without a
        query raises ValueError, unless `fallback` is keep: only the request is searched with.
        """
        if tools < 1:
            raise ValueError(f"tools is {tools}; a request needs at least 1")
        self.generator, self.tools, self.original = generator, tools, original
        self.sampling, self.fallback = sampling, fallback
        self.prompt = prompt_of("tool_query", prompt, ("query",))
        self.texts = Texts(generator, sampling, 1, fallback, lambda answer: "\n".join(listed(answer)) or None)

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The queries of each request."""
        answers = self.texts.write([self.prompt.messages(query=query) for query in queries.texts])
        return [[line for answer in one for line in answer.split("\n")][: self.tools] for one in answers]

    def join(self) -> Separate:
        """Each query apart, without the request before it."""
        return Separate(with_query=False, original=self.original)

    def provenance(self) -> dict[str, Any]:
        """What determines its texts, and counts of all that was asked so far."""
        return {**self.prompt.about(), "tools": self.tools, "original": self.original, **self.texts.provenance()}


def listed(answer: str) -> list[str]:
    """The lines of a list without marks and quotes around them, each once; of other lines too where none has a mark.

    A line that ends in a colon announces others and is none.
    """
    lines = [line for line in answer.splitlines() if line.strip() and not line.rstrip().endswith(":")]
    marked = [line for line in lines if MARK.match(line)] or lines
    texts = [" ".join(MARK.sub("", line, count=1).split()).strip("\"'“”‘’") for line in marked]
    return list({text.casefold(): text for text in reversed(texts) if any(map(str.isalnum, text))}.values())[::-1]
