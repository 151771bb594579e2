"""Query2doc: a passage that would answer the query."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prf._writing import Texts, examples_in, prompt_of
from prf.append import Append
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["Query2Doc"]


class Query2Doc:
    """One passage for each query, which follows the query five times over. Query2doc, Wang, Yang and Wei (2023)."""

    needs = ()

    def __init__(
        self,
        generator: Generator,
        examples: Path | None = None,
        shots: int = 4,
        chain_of_thought: bool = False,
        prompt: Path | None = None,
        samples: int = 1,
        sampling: Sampling = Sampling(128, 1.0),
        fallback: Literal["keep"] | None = None,
    ):
        """`examples` is a JSONL file of queries and passages, whose first `shots` are shown, as in the paper.

        None asks without examples; `chain_of_thought` asks for reasons before the passage, which are part of the text.
        `prompt` is a file of chat turns with {query} and, with examples, {examples}; None is our own.
        """
        if examples and chain_of_thought:
            raise ValueError("query2doc has a prompt with examples and one with chain_of_thought: choose either")
        self.generator, self.samples, self.sampling, self.fallback = generator, samples, sampling, fallback
        self.shots, self.chain_of_thought = shots, chain_of_thought
        name = "query2doc_few_shot" if examples else "query2doc_chain_of_thought" if chain_of_thought else "query2doc"
        self.prompt = prompt_of(name, prompt, ("query", "examples") if examples else ("query",))
        shown = examples_in(examples, shots) if examples else []
        self.examples = "\n\n".join(f"Query: {query}\nPassage: {text}" for query, text in shown)
        self.texts = Texts(generator, sampling, samples, fallback)

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The passages of each query. Raises ValueError for a failure where there is no fallback."""
        return self.texts.write([self.prompt.messages(query=one, examples=self.examples) for one in queries.texts])

    def join(self) -> Append:
        """The query five times, then the passage: the paper's for BM25."""
        return Append(repeat=5)

    def provenance(self) -> dict[str, Any]:
        """What determines the texts, as plain values, and counts of all that was asked so far."""
        return {"examples": self.examples, **self.prompt.about(), **self.texts.provenance()}
