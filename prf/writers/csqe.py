"""Sentences that a model quotes from the first pass, beside passages that it writes from its own knowledge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from prf._passages import Passages, numbered, written
from prf._writing import Texts, prompt_of
from prf.append import Append
from retrieval.composed import provenance
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries

__all__ = ["CSQE"]

QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”')
QUOTE = re.compile(r'["“”]')


class CSQE:
    """Corpus-steered query expansion, Lei et al. (2024): passages from knowledge, then quotes from the collection.

    A query whose first pass finds nothing is counted, and has only the passages from knowledge. Texts are lower-cased.
    """

    needs = ("texts",)

    def __init__(
        self,
        generator: Generator,
        passages: int = 10,
        words: int | None = 128,
        samples: int = 2,
        sampling: Sampling = Sampling(max_tokens=1024, temperature=1.0),
        prompt: Path | None = None,
        knowledge: Path | None = None,
        fallback: Literal["keep"] | None = None,
    ):
        """`prompt` is a file of chat turns with {query} and {passages}, whose answers quote; `knowledge` has {query}.

        None is our own. Both are asked for `samples` answers. One without any quote adds nothing and is counted; one
        that failed raises ValueError, unless `fallback` is keep: it is left out.
        """
        self.generator, self.passages, self.documents_read = generator, Passages(passages, words), passages
        self.words, self.samples, self.sampling, self.fallback = words, samples, sampling, fallback
        self.prompt = prompt_of("csqe", prompt, ("query", "passages"))
        self.knowledge = prompt_of("csqe_knowledge", knowledge, ("query",))
        self.quoting = Texts(generator, sampling, samples, fallback, lambda answer: answer or None)
        self.knowing = Texts(generator, sampling, samples, fallback)
        self.unquoted = self.unbalanced = 0

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """Passages, then quotes, of each query. Raises ValueError where the feedback has no texts."""
        shown = self.passages.of(self, queries, feedback)
        known = self.knowing.write([self.knowledge.messages(query=query) for query in queries.texts])
        chats = [
            self.prompt.messages(query=query, passages=numbered(texts)) if texts else None
            for query, texts in zip(queries.texts, shown, strict=True)
        ]
        answers = written(self.quoting, chats)
        return [
            [text.lower() for text in (*texts, *(quote for one in quoting for quote in self._quotes(one)))]
            for texts, quoting in zip(known, answers, strict=True)
        ]

    def join(self) -> Append:
        """q q passages quotes, each in a line of its own."""
        return Append(repeat=2, separator="\n")

    def provenance(self) -> dict[str, Any]:
        """What determines its texts, and counts of all that was asked so far."""
        asked = provenance({"quotes": self.quoting, "knowledge": self.knowing})
        prompts = {"quotes": self.prompt.about(), "knowledge": self.knowledge.about()}
        about = {part: prompts[part] | asked[part] for part in prompts}
        counts = {"answers without quotes": self.unquoted, "unbalanced quotes": self.unbalanced}
        return asked | about | self.passages.provenance() | counts

    def _quotes(self, answer: str) -> list[str]:
        found, unbalanced = quotes(answer)
        self.unquoted += not found
        self.unbalanced += unbalanced
        return found


def quotes(answer: str) -> tuple[list[str], int]:
    """What stands in double quotes, straight or curly, in one line each, and how many lines give nothing.

    Where the quotes of an answer do not pair up, each line counts by itself, and one that does not gives nothing.
    """
    whole = _paired(answer)
    if whole is not None:
        return whole, 0
    lines = [_paired(line) for line in answer.splitlines()]
    return [quote for line in lines for quote in line or ()], sum(line is None for line in lines)


def _paired(text: str) -> list[str] | None:
    """The quotes of a text; None where one does not open or close."""
    if QUOTE.search(QUOTED.sub("", text)):
        return None
    found = (" ".join((straight or curly).split()) for straight, curly in QUOTED.findall(text))
    return [quote for quote in found if quote]
