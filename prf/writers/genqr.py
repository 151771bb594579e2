"""GenQR: keywords by one instruction, some samples of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prf._instructed import Instructed, Instructions, bare
from prf._writing import Texts
from prf.append import Append
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["GenQR"]


class GenQR:
    """Five samples of keywords for one instruction, after the query. GenQR, Wang et al. (2023), as QueryGym has it.

    Signs become blanks, and an answer without a letter or digit is the query again, which is no failure. A query whose
    first pass finds nothing is asked for without a context.
    """

    needs: Sequence[str] = ()

    def __init__(
        self,
        generator: Generator,
        feedback_docs: int = 0,
        words: int | None = 100,
        domain: str = "",
        prompt: Path | None = None,
        samples: int = 5,
        sampling: Sampling = Sampling(128, 0.8),
        fallback: Literal["keep"] | None = None,
    ):
        """`feedback_docs` above 0 puts so many found texts, each of at most `words`, before the instruction.

        `domain` is a sentence that the instruction begins with. `prompt` is a file of chat turns with {instruction},
        {query} and, with feedback, {context}; None is our own.
        """
        self.generator, self.samples, self.sampling, self.fallback = generator, samples, sampling, fallback
        self.feedback_docs, self.words, self.domain = feedback_docs, words, domain
        texts = Texts(generator, sampling, samples, fallback, bare)
        self.needs, self.documents_read = ("texts",) if feedback_docs else (), feedback_docs
        self.instructed = Instructed(Instructions(first=1), feedback_docs, words, domain, prompt, texts)
        self.prompt = self.instructed.prompt

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The keywords of each query. Raises ValueError for a failure where there is no fallback."""
        return self.instructed.write(self, queries, feedback)

    def join(self) -> Append:
        """The query once, then all keywords."""
        return Append()

    def provenance(self) -> dict[str, Any]:
        """What determines the texts, as plain values, and counts of all that was asked so far."""
        return self.instructed.provenance()
