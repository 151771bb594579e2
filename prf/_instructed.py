"""What GenQR and GenQREnsemble share: instructions, a context of feedback documents, and keywords without signs."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any
from unicodedata import category

from prf._passages import Passages
from prf._writing import Texts, joined, prompt_of
from retrieval.chat_prompt import prompt_file
from retrieval.types import Feedback, Queries

__all__ = ["Instructed", "Instructions", "bare"]

PLACES = ("instruction", "query")


class Instructions:
    """Wordings of one task from a file: a first line `# id version`, then an instruction a line."""

    def __init__(self, own: Path | None = None, first: int | None = None):
        """The `first` of them, None for all.

        Raises ValueError for another first line, for no instruction, and for one that stands there twice.
        """
        path = prompt_file("prf.writers", "genqr_instructions", own)
        head, *rest = path.read_text(encoding="utf-8").splitlines() or [""]
        every = [line.strip() for line in rest if line.strip()]
        if not re.fullmatch(r"# \S+ \S+", head.strip()):
            raise ValueError(f"{path} begins with {head[:40]!r}: the first line is `# id version`")
        if not every or len({*every}) != len(every):
            raise ValueError(f"{path} holds an instruction a line, at least 1, and none twice")
        self.texts = every[:first]
        self.name, self.digest = head.strip()[2:], hashlib.sha256(path.read_bytes()).hexdigest()


class Instructed:
    """Keywords for each query and instruction, and the query itself where a model wrote none."""

    def __init__(
        self,
        instructions: Instructions,
        feedback_docs: int,
        words: int | None,
        domain: str,
        prompt: Path | None,
        texts: Texts,
    ):
        """With `feedback_docs` above 0 the prompt has a {context} of their texts, each cut to `words`."""
        self.passages = Passages(feedback_docs, words)
        self.instructions, self.domain, self.texts = instructions, domain, texts
        self.plain = prompt_of("genqr", None if feedback_docs else prompt, PLACES)
        self.prompt = prompt_of("genqr_feedback", prompt, (*PLACES, "context")) if feedback_docs else self.plain
        self.empty = 0

    def write(self, model: object, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The keywords of each query, instruction by instruction; an empty answer is the query again.

        Raises ValueError where `model`, whose part this is, needs texts and there are none.
        """
        contexts = self._contexts(model, queries, feedback)
        wordings = [f"{self.domain} {one}".strip() for one in self.instructions.texts]
        chats = [
            (self.prompt if context else self.plain).messages(instruction=one, query=query, context=context)
            for query, context in zip(queries.texts, contexts, strict=True)
            for one in wordings
        ]
        slots = joined(self.texts.slots(chats), len(wordings))
        self.empty += sum(text == "" for one in slots for text in one)
        return [
            [text or query for text in one if text is not None] for query, one in zip(queries.texts, slots, strict=True)
        ]

    def provenance(self) -> dict[str, Any]:
        """As that of `Texts`, with instructions, prompt and context."""
        context = self.passages.provenance() if self.passages.count else {}
        own = self.instructions
        about = {"instructions": own.name, "instructions sha256": own.digest, "wordings": len(own.texts)}
        asked = {**about, "domain": self.domain, **self.prompt.about(), **context}
        return {**asked, **self.texts.provenance(), "empty generations": self.empty}

    def _contexts(self, model: object, queries: Queries, feedback: Feedback | None) -> list[str]:
        """The texts of each query's first documents in one line; empty where it has none, or none are wanted."""
        if not self.passages.count:
            return [""] * len(queries)
        return [" ".join(one) for one in self.passages.of(model, queries, feedback)]


def bare(answer: str) -> str:
    """Letters with their marks, and digits; all else is a blank, and blanks are one."""
    return " ".join("".join(one if category(one)[0] in "LMN" else " " for one in answer).split())
