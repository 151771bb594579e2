"""HyDE: documents that do not exist, for the mean of their vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from prf._writing import Texts, prompt_of
from prf.average import Average
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["HyDE"]

Task = Literal["web_search", "scifact", "arguana", "trec_covid", "fiqa", "dbpedia", "news"]
TASKS = get_args(Task)


class HyDE:
    """Eight documents that might answer the query, the mean of whose vectors and its own is searched with.

    Gao et al. (2023), "Precise zero-shot dense retrieval without relevance labels".
    """

    needs = ()

    def __init__(
        self,
        generator: Generator,
        task: Task = "web_search",
        prompt: Path | None = None,
        samples: int = 8,
        sampling: Sampling = Sampling(512, 0.7, stop=("\n\n\n",)),
        fallback: Literal["keep"] | None = None,
    ):
        """`task` chooses among our prompts; `prompt` is a file of chat turns with {query} in place of them."""
        if task not in TASKS:
            raise ValueError(f"task is one of {', '.join(TASKS)}, not {task!r}; name a `prompt` of your own for others")
        self.generator, self.samples, self.sampling, self.fallback = generator, samples, sampling, fallback
        self.prompt = prompt_of(f"hyde_{task}", prompt, ("query",))
        self.task, self.texts = task, Texts(generator, sampling, samples, fallback)

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The documents of each query. Raises ValueError for a failure where there is no fallback."""
        return self.texts.write([self.prompt.messages(query=one) for one in queries.texts])

    def join(self) -> Average:
        """The mean of the vectors of the query and all its documents: the paper's. BM25 needs another join."""
        return Average(fb_docs=self.texts.samples)

    def provenance(self) -> dict[str, Any]:
        """What determines the texts, as plain values, and counts of all that was asked so far."""
        return {**self.prompt.about(), **self.texts.provenance()}
