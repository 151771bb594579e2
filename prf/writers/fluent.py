"""One fluent query made of another writer's keywords."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prf._passages import written
from prf._writing import Texts, prompt_of
from prf.append import Append
from retrieval.composed import provenance
from retrieval.protocols import Generator, Writer
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["Fluent"]


class Fluent:
    """A model turns the keywords of another writer into one query in plain language (Dhole et al. 2024)."""

    def __init__(
        self,
        writer: Writer,
        generator: Generator,
        sampling: Sampling = Sampling(max_tokens=128),
        prompt: Path | None = None,
        fallback: Literal["keep"] | None = None,
    ):
        """`prompt` is a file of chat turns with {query} and {keywords}; None is our own.

        An answer that failed raises ValueError, unless `fallback` is keep: the query stays as it is. So it does, and
        nothing is asked, where the writer wrote nothing.
        """
        self.writer, self.generator, self.needs = writer, generator, writer.needs
        self.sampling, self.fallback = sampling, fallback
        self.documents_read = getattr(writer, "documents_read", 0)
        self.prompt = prompt_of("fluent", prompt, ("query", "keywords"))
        self.texts = Texts(generator, sampling, 1, fallback)

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """One text for each query that the writer has keywords for."""
        keywords = self.writer.write(queries, feedback)
        chats = [
            self.prompt.messages(query=query, keywords=", ".join(texts)) if texts else None
            for query, texts in zip(queries.texts, keywords, strict=True)
        ]
        return written(self.texts, chats)

    def join(self) -> Append:
        """The query, then the fluent one."""
        return Append()

    def provenance(self) -> dict[str, Any]:
        """What determines its texts, and counts of all that was asked so far, also by the writer."""
        asked = provenance({"writer": self.writer, "fluent": self.texts})
        return asked | {"fluent": self.prompt.about() | asked["fluent"]}
