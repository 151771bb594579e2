"""Query2E: keywords that documents with the answer contain."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from prf._writing import Texts, examples_in, passage, prompt_of
from prf.append import Append
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["Query2E"]

PARTS = re.compile(r"[,;\n\u2022\u00b7]")
MARK = re.compile(r"^\s*(?:[-*+\u2013\u2014]\s+|\(?\d{1,2}[.):]\s+|#+\s+)")  # of a list's item; not the 3 of "3 d"
LABEL = re.compile(r"^[^,;:\n]*\b(?:keywords|terms|phrases|list)\b[^,;:\n]*:", re.IGNORECASE)  # "Here are keywords:"


class Query2E:
    """A list of keywords for each query, which follows the query five times over. Q2E, Jagerman et al. (2023)."""

    needs = ()

    def __init__(
        self,
        generator: Generator,
        examples: Path | None = None,
        shots: int = 4,
        keywords: int = 20,
        prompt: Path | None = None,
        samples: int = 1,
        sampling: Sampling = Sampling(128, 0.3),
        fallback: Literal["keep"] | None = None,
    ):
        """`examples` is a JSONL file of queries and keyword lists, whose first `shots` are shown; None asks without.

        At most so many `keywords` of an answer count, each once: 20 and the temperature are QueryGym's. `prompt` is a
        file of chat turns with {query} and, with examples, {examples}; None is our own.
        """
        if keywords < 1:
            raise ValueError(f"keywords is {keywords}; at least 1 of an answer has to count")
        self.generator, self.samples, self.sampling, self.fallback = generator, samples, sampling, fallback
        places = ("query", "examples") if examples else ("query",)
        self.prompt = prompt_of("query2e_few_shot" if examples else "query2e", prompt, places)
        shown = examples_in(examples, shots) if examples else []
        self.examples = "\n\n".join(f"Query: {query}\nKeywords: {text}" for query, text in shown)
        self.shots, self.keywords = shots, keywords
        self.texts = Texts(generator, sampling, samples, fallback, self._read)

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The keywords of each query, as one text a sample. Raises ValueError for a failure without a fallback."""
        return self.texts.write([self.prompt.messages(query=one, examples=self.examples) for one in queries.texts])

    def join(self) -> Append:
        """The query five times, then the keywords: the paper's."""
        return Append(repeat=5)

    def provenance(self) -> dict[str, Any]:
        """What determines the texts, as plain values, and counts of all that was asked so far."""
        about = {"examples": self.examples, "keywords": self.keywords}
        return {**about, **self.prompt.about(), **self.texts.provenance()}

    def _read(self, answer: str) -> str | None:
        return " ".join(keywords_in(answer)[: self.keywords]) or None


def keywords_in(answer: str) -> list[str]:
    """The keywords of a list by commas, semicolons, lines, bullets or numbers, each once, in their order."""
    parts = (passage(MARK.sub("", part).strip(" .*")) for part in PARTS.split(LABEL.sub("", answer.strip(), count=1)))
    found: dict[str, str] = {}
    for part in parts:
        if part:
            found.setdefault(part.lower(), part)
    return list(found.values())
