"""DMQR: four rewrites of a query, each to be searched apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prf._writing import Kinds, Texts
from prf.separate import Separate
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["MultiQuery"]

REWRITES = ("general", "keywords", "pseudo_answer", "core_content")


class MultiQuery:
    """The query cleared of noise, its keywords, an answer to it, and its core. DMQR-RAG's four, Li et al. (2024).

    All of them are asked for; the paper lets a model choose among them.
    """

    needs = ()

    def __init__(
        self,
        generator: Generator,
        rewrites: Sequence[str] = REWRITES,
        prompts: Path | None = None,
        samples: int = 1,
        sampling: Sampling = Sampling(128),
        fallback: Literal["keep"] | None = None,
    ):
        """`rewrites` are the kinds, in the order of the texts; `samples` is of each. `sampling` is our choice.

        `prompts` is a folder with a file of chat turns with {query} for each, `multi_query_<rewrite>.txt`; None is our
        own.
        """
        self.generator, self.samples, self.sampling, self.fallback = generator, samples, sampling, fallback
        self.kinds = Kinds("multi_query", rewrites, REWRITES, prompts, Texts(generator, sampling, samples, fallback))
        self.rewrites, self.prompts = list(rewrites), self.kinds.prompts

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The rewrites of each query. Raises ValueError for a failure where there is no fallback."""
        return self.kinds.write(queries)

    def join(self) -> Separate:
        """Each rewrite a query of its own, in place of the query; before the retriever multi_query."""
        return Separate(with_query=False)

    def provenance(self) -> dict[str, Any]:
        """What determines the texts, as plain values, and counts of all that was asked so far."""
        return self.kinds.provenance()
