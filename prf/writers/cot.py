"""Chain of thought: how one gets to the answer, and the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prf._writing import Texts, prompt_of
from prf.append import Append
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["CoT"]


class CoT:
    """An answer, its rationale first, that follows the query five times over. CoT, Jagerman et al. (2023)."""

    needs = ()

    def __init__(
        self,
        generator: Generator,
        prompt: Path | None = None,
        samples: int = 1,
        sampling: Sampling = Sampling(256),
        fallback: Literal["keep"] | None = None,
    ):
        """`prompt` is a file of chat turns with {query}; None is our own. `sampling` is our choice as well."""
        self.generator, self.samples, self.sampling, self.fallback = generator, samples, sampling, fallback
        self.prompt = prompt_of("cot", prompt, ("query",))
        self.texts = Texts(generator, sampling, samples, fallback)

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The rationale and answer of each query. Raises ValueError for a failure where there is no fallback."""
        return self.texts.write([self.prompt.messages(query=one) for one in queries.texts])

    def join(self) -> Append:
        """The query five times, then the text: the paper's."""
        return Append(repeat=5)

    def provenance(self) -> dict[str, Any]:
        """What determines the texts, as plain values, and counts of all that was asked so far."""
        return {**self.prompt.about(), **self.texts.provenance()}
