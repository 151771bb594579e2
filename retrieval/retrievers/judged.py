"""A first pass of which only what a language model judges relevant is left, as a source of feedback."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from retrieval.asking import Asker, cut_words
from retrieval.chat_prompt import MessagePrompt, prompt_file
from retrieval.composed import content, found, name, provenance, reads
from retrieval.corpus import Corpus
from retrieval.order import PAD
from retrieval.protocols import Generator, Retriever
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Queries, Run

__all__ = ["Judged"]

FIRST = re.compile(
    r"\W*(?:(?:final\W+)?(?:grade|score|label|relevance|answer)\W+(?:is\W+)?)?([0-3])\b(?![.,]\d|\s*[-–]\d)", re.I
)
FIX = "take another model; or fallback: zero takes such a passage for not relevant, and counts it"


class Judged:
    """The documents with the highest grade that a model gives, 1 to 3 of 0 to 3. UMBRELA feedback, Jedidi and Lin.

    They keep scores and order of the first pass. A query without a grade above 0 finds nothing, and is counted. For
    feedback, not for measuring: it finds few documents.
    """

    def __init__(
        self,
        retriever: Retriever,
        generator: Generator,
        depth: int = 10,
        keep: int = 8,
        words: int | None = 300,
        max_tokens: int = 16,
        seed: int = 0,
        prompt: Path | None = None,
        fallback: Literal["zero"] | None = None,
    ):
        """The first `depth` documents are judged, and `keep` at most are left; passages are cut to `words`.

        `prompt` is a file of chat turns with {query} and {passage}, answered by a digit from 0 to 3; None is our own. A
        passage without text has grade 0. A generation that failed raises ValueError unless `fallback` is zero.
        """
        if depth < 1 or keep < 1 or (words is not None and words < 1):
            raise ValueError(f"depth, keep and words (or None) are at least 1, not {depth}, {keep} and {words}")
        if fallback not in (None, "zero"):
            raise ValueError(f'fallback is "zero" or None, not {fallback!r}')
        self.retriever, self.generator, self.depth, self.keep, self.words = retriever, generator, depth, keep, words
        self.max_tokens, self.seed, self.fallback = max_tokens, seed, fallback
        self.prompt = MessagePrompt.read(prompt_file("retrieval.retrievers", "judged", prompt), ("query", "passage"))
        self.asker = Asker(generator, Sampling(max_tokens, seed=seed), fallback)
        self.empty = self.truncated = self.without = 0

    @property
    def reads(self) -> tuple[str, ...]:
        """What the first pass reads of a query."""
        return reads([self.retriever])

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the retriever."""
        self.corpus = corpus
        self.retriever.open(corpus, folder)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """At most `keep` documents. Raises ValueError for a failed judgement where there is no fallback."""
        first = found(self.retriever, queries, self.depth, self.corpus)
        grades = self._grades(queries, first)
        best = grades.max(axis=1, initial=0)[:, None]
        kept = (grades == best) & (best > 0)
        kept &= np.cumsum(kept, axis=1) <= self.keep
        self.without += int((~kept.any(axis=1)).sum())
        rows = np.where(kept, first.rows, PAD).astype(np.int32)
        return Run.ordered(first.query_ids, first.docs, rows, first.scores, name(self, first)).top(min(k, self.keep))

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the retriever, else the texts of the corpus."""
        return content([self.retriever], self.corpus, queries, run)

    def provenance(self) -> dict[str, Any]:
        """What determines the judgements, and counts of all that was asked so far."""
        about = {"depth": self.depth, "keep": self.keep, "words": self.words, **self.prompt.about()}
        counts = {
            "truncated passages": self.truncated,
            "empty passages": self.empty,
            "queries without relevant documents": self.without,
        }
        judge = SimpleNamespace(provenance=lambda: {**self.asker.about(), **self.asker.counts()})
        parts = provenance({"retriever": self.retriever, "judge": judge})
        return about | parts | counts

    def _grades(self, queries: Queries, first: Run) -> np.ndarray:
        """int32 [queries, documents], 0 for pads and for passages without text."""
        grades = np.zeros(first.rows.shape, np.int32)
        places = np.argwhere(first.rows != PAD)
        texts = [self._cut(text) for text in self.corpus.texts(first.rows[first.rows != PAD])]
        asked = [(query, at, text) for (query, at), text in zip(places.tolist(), texts, strict=True) if text]
        self.empty += len(texts) - len(asked)
        chats = [self.prompt.messages(query=queries.texts[query], passage=text) for query, _, text in asked]
        answers = self.asker.ask(chats, lambda _, answer: grade(answer), FIX)
        for (query, at, _), answer in zip(asked, answers, strict=True):
            grades[query, at] = answer or 0
        return grades

    def _cut(self, text: str) -> str:
        kept, cut = cut_words(text, self.words)
        self.truncated += cut
        return kept


def grade(answer: str) -> int | None:
    """The grade that an answer begins with, or the one that it names; None where that is unclear."""
    first = FIRST.match(answer)
    named = {first[1]} if first else set(re.findall(r"\d+(?:[.,]\d+)?", answer))
    return int(named.pop()) if len(named) == 1 and named <= {*"0123"} else None
