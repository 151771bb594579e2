"""GenQREnsemble: keywords by ten instructions."""

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

__all__ = ["GenQREnsemble"]


class GenQREnsemble:
    """Keywords for each of ten wordings of the task, after the query. GenQREnsemble(RF), Dhole and Agichtein (2024).

    Signs become blanks, and an answer without a letter or digit is the query again, which is no failure. A query whose
    first pass finds nothing is asked for without a context. GenQRFusion is the join `separate` before `multi_query`.
    """

    needs: Sequence[str] = ()

    def __init__(
        self,
        generator: Generator,
        instructions: Path | None = None,
        feedback_docs: int = 0,
        words: int | None = 100,
        domain: str = "",
        prompt: Path | None = None,
        samples: int = 1,
        sampling: Sampling = Sampling(40, 1.0, 0.92, 200, 1.2),
        fallback: Literal["keep"] | None = None,
    ):
        """`instructions` is a file: a line `# id version`, then one a line; None is our ten. `samples` is of each.

        `feedback_docs` above 0 puts so many found texts, each of at most `words`, before the instruction: the RF form,
        in the paper with 5. `domain` is a sentence that each instruction begins with. `prompt` is a file of chat turns
        with {instruction}, {query} and, with feedback, {context}; None is our own.
        """
        self.generator, self.samples, self.sampling, self.fallback = generator, samples, sampling, fallback
        self.feedback_docs, self.words, self.domain = feedback_docs, words, domain
        texts = Texts(generator, sampling, samples, fallback, bare)
        self.needs, self.documents_read = ("texts",) if feedback_docs else (), feedback_docs
        self.instructed = Instructed(Instructions(instructions), feedback_docs, words, domain, prompt, texts)
        self.prompt, self.instructions = self.instructed.prompt, self.instructed.instructions.texts

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The keywords of each query, one text an instruction. Raises ValueError for a failure without a fallback."""
        return self.instructed.write(self, queries, feedback)

    def join(self) -> Append:
        """The query once, then all keywords: the paper's."""
        return Append()

    def provenance(self) -> dict[str, Any]:
        """What determines the texts, as plain values, and counts of all that was asked so far."""
        return self.instructed.provenance()
