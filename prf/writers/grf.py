"""GRF: texts of ten kinds as feedback documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prf._writing import Kinds, Texts
from prf.rm3 import RM3
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["GRF"]

FEATURES = (
    "keywords",
    "entities",
    "cot_keywords",
    "cot_entities",
    "queries",
    "summary",
    "facts",
    "document",
    "essay",
    "news",
)


class GRF:
    """One text of each kind for a query, feedback documents of score 1 for RM3. GRF, Mackie et al. (2023)."""

    needs = ()

    def __init__(
        self,
        generator: Generator,
        features: Sequence[str] = FEATURES,
        prompts: Path | None = None,
        samples: int = 1,
        sampling: Sampling = Sampling(256, 0.7),
        fallback: Literal["keep"] | None = None,
    ):
        """`features` are the kinds, in the order of the texts; `samples` is of each. `sampling` is our choice.

        `prompts` is a folder with a file of chat turns with {query} for each, `grf_<feature>.txt`; None is our own.
        """
        self.generator, self.samples, self.sampling, self.fallback = generator, samples, sampling, fallback
        self.kinds = Kinds("grf", features, FEATURES, prompts, Texts(generator, sampling, samples, fallback))
        self.features, self.prompts = list(features), self.kinds.prompts

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The texts of each query, feature by feature. Raises ValueError for a failure where there is no fallback."""
        return self.kinds.write(queries)

    def join(self) -> RM3:
        """RM3 over all the texts. Its fb_terms and original_query_weight are to be tuned: name a join for that."""
        return RM3(fb_docs=len(self.kinds.prompts) * self.kinds.texts.samples)

    def provenance(self) -> dict[str, Any]:
        """What determines the texts, as plain values, and counts of all that was asked so far."""
        return self.kinds.provenance()
