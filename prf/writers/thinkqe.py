"""One round of ThinkQE: passages written after thinking about what a first pass found."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prf._passages import Passages, numbered, written
from prf._writing import Texts, passage, prompt_of
from prf.adaptive_repeat import AdaptiveRepeat
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["ThinkQE"]


class ThinkQE:
    """ThinkQE, Lei et al. (2025), with a model that thinks aloud: what follows its thoughts is the text.

    The retriever `thinkqe` has its rounds. A query whose first pass finds nothing stays as it is, and is counted.
    """

    needs = ("texts",)

    def __init__(
        self,
        generator: Generator,
        passages: int = 5,
        words: int | None = 128,
        samples: int = 2,
        sampling: Sampling = Sampling(max_tokens=4096, temperature=0.7),
        prompt: Path | None = None,
        fallback: Literal["keep"] | None = None,
    ):
        """`prompt` is a file of chat turns with {query} and {passages}; None is our own.

        Passages are cut to `words`. Thoughts that do not end are a failure, which raises ValueError, unless `fallback`
        is keep: the text is left out.
        """
        self.generator, self.passages, self.documents_read = generator, Passages(passages, words), passages
        self.words, self.samples, self.sampling, self.fallback = words, samples, sampling, fallback
        self.prompt = prompt_of("thinkqe", prompt, ("query", "passages"))
        self.texts = Texts(generator, sampling, samples, fallback, concluded)

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The passages of each query. Raises ValueError where the feedback has no texts."""
        shown = self.passages.of(self, queries, feedback)
        chats = [
            self.prompt.messages(query=query, passages=numbered(texts)) if texts else None
            for query, texts in zip(queries.texts, shown, strict=True)
        ]
        return written(self.texts, chats)

    def join(self) -> AdaptiveRepeat:
        """The query as often as a third of the words of the texts are queries, then the texts."""
        return AdaptiveRepeat(ratio=3, unit="words")

    def provenance(self) -> dict[str, Any]:
        """What determines its texts, and counts of all that was asked so far."""
        return {**self.prompt.about(), **self.passages.provenance(), **self.texts.provenance()}


def concluded(answer: str) -> str | None:
    """An answer in one line; None for thoughts that were begun and did not end."""
    return None if answer.lstrip().startswith("<think>") else passage(answer)
