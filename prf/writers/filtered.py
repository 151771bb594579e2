"""A critic between a writer and the query."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from prf._writing import Texts, prompt_of
from retrieval.composed import provenance
from retrieval.protocols import Generator, Reformulator, Writer
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["Filtered"]

VERDICT = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


class Filtered:
    """A model keeps or drops each text of another writer, as extensions of GenQREnsemble do (Dhole et al. 2024).

    Dropped texts are counted. A query whose texts are all dropped stays as it is.
    """

    def __init__(
        self,
        writer: Writer,
        generator: Generator,
        sampling: Sampling = Sampling(max_tokens=16),
        prompt: Path | None = None,
        fallback: Literal["keep"] | None = None,
    ):
        """`prompt` is a file of chat turns with {query} and {text}, answered by yes or no; None is our own.

        An answer that is neither raises ValueError, unless `fallback` is keep: the text stays.
        """
        self.writer, self.generator, self.needs = writer, generator, writer.needs
        self.sampling, self.fallback = sampling, fallback
        self.documents_read = getattr(writer, "documents_read", 0)
        self.prompt = prompt_of("filtered", prompt, ("query", "text"))
        self.critic = Texts(generator, sampling, 1, fallback, verdict)
        self.dropped = 0

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The texts that the critic keeps, in order."""
        every = self.writer.write(queries, feedback)
        asked = [(query, text) for query, texts in zip(queries.texts, every, strict=True) for text in texts]
        said = self.critic.slots([self.prompt.messages(query=query, text=text) for query, text in asked])
        verdicts = iter(said)
        kept = [[text for text in texts if next(verdicts) != ["no"]] for texts in every]
        self.dropped += len(asked) - sum(map(len, kept))
        return kept

    def join(self) -> Reformulator:
        """That of the writer. Raises ValueError where it names none."""
        if not hasattr(self.writer, "join"):
            name = type(self.writer).__name__
            raise ValueError(f"{name} says no way to put its texts to the query: name a `join`")
        return self.writer.join()

    def provenance(self) -> dict[str, Any]:
        """What determines its texts, and counts of all that was asked so far, of writer and critic."""
        asked = provenance({"writer": self.writer, "critic": self.critic})
        return asked | {"critic": self.prompt.about() | asked["critic"], "dropped texts": self.dropped}


def verdict(answer: str) -> str | None:
    """The yes or no that an answer begins with."""
    found = VERDICT.match(answer)
    return found[1].lower() if found else None
