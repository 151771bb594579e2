"""Answers written next to candidate passages that may be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prf._passages import Passages, numbered, written
from prf._writing import Texts, prompt_of
from prf.interleave import Interleave
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["LameR"]


class LameR:
    """LameR, Shen et al. (2023): the first pass shows how answers look in this collection, right or wrong.

    A query whose first pass finds nothing is not asked about: it stays as it is, and is counted.
    """

    needs = ("texts",)

    def __init__(
        self,
        generator: Generator,
        passages: int = 10,
        words: int | None = None,
        samples: int = 5,
        sampling: Sampling = Sampling(max_tokens=128, temperature=1.0),
        prompt: Path | None = None,
        fallback: Literal["keep"] | None = None,
    ):
        """`prompt` is a file of chat turns with {query} and {passages}; None is our own.

        Passages are cut to `words`. A text that failed raises ValueError, unless `fallback` is keep: it is left out.
        """
        self.generator, self.passages, self.documents_read = generator, Passages(passages, words), passages
        self.words, self.samples, self.sampling, self.fallback = words, samples, sampling, fallback
        self.prompt = prompt_of("lamer", prompt, ("query", "passages"))
        self.texts = Texts(generator, sampling, samples, fallback)

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The answers of each query. Raises ValueError where the feedback has no texts."""
        shown = self.passages.of(self, queries, feedback)
        chats = [
            self.prompt.messages(query=query, passages=numbered(texts)) if texts else None
            for query, texts in zip(queries.texts, shown, strict=True)
        ]
        return written(self.texts, chats)

    def join(self) -> Interleave:
        """q a1 q a2 ... q a5."""
        return Interleave()

    def provenance(self) -> dict[str, Any]:
        """What determines its texts, and counts of all that was asked so far."""
        return {**self.prompt.about(), **self.passages.provenance(), **self.texts.provenance()}
