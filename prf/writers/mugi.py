"""MuGI: several passages, and the query as often as their length asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prf._writing import Texts, prompt_of
from prf.adaptive_repeat import AdaptiveRepeat
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["MuGI"]


class MuGI:
    """Five passages after the query, which is repeated the more, the longer they are. MuGI, Zhang et al. (2024)."""

    needs = ()

    def __init__(
        self,
        generator: Generator,
        prompt: Path | None = None,
        samples: int = 5,
        sampling: Sampling = Sampling(1024, 1.0),
        fallback: Literal["keep"] | None = None,
    ):
        """`prompt` is a file of chat turns with {query}; None is our own. 5 samples are for GPT-4, 3 for GPT-3.5."""
        self.generator, self.samples, self.sampling, self.fallback = generator, samples, sampling, fallback
        self.prompt = prompt_of("mugi", prompt, ("query",))
        self.texts = Texts(generator, sampling, samples, fallback)

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The passages of each query. Raises ValueError for a failure where there is no fallback."""
        return self.texts.write([self.prompt.messages(query=one) for one in queries.texts])

    def join(self) -> AdaptiveRepeat:
        """The paper's for BM25: a sixth as many characters of the query as of the passages."""
        return AdaptiveRepeat(ratio=6, unit="characters")

    def provenance(self) -> dict[str, Any]:
        """What determines the texts, as plain values, and counts of all that was asked so far."""
        return {**self.prompt.about(), **self.texts.provenance()}
