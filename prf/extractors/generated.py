"""Features of documents as a language model writes them: keywords, entities, a summary, queries they would answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from prf._writing import Texts, passage
from retrieval.asking import cut_words
from retrieval.chat_prompt import MessagePrompt, prompt_file
from retrieval.protocols import Generator
from retrieval.sampling import Sampling

__all__ = ["Generated"]

FEATURES = {  # tokens that an answer may have
    "keywords": 96,
    "cot_keywords": 384,
    "entities": 96,
    "summary": 128,
    "essay": 320,
    "facts": 320,
    "queries": 128,
    "news": 256,
}
KEYWORDS = re.compile(r"(?<!\w)keywords?[ \t]*\**[ \t]*:[ \t]*\**", re.IGNORECASE)
LABELLED = ("keywords", "cot_keywords")  # what follows the last "Keywords:" is the feature, and of the second only that


class Generated:
    """A model is asked what is in a document, once for each document and without a query. PromptPRF, Li et al. (2025).

    Answers lie in the store of generations, so that a document that several queries find is asked about once.
    """

    def __init__(
        self,
        generator: Generator,
        feature: str = "keywords",
        prompt: Path | None = None,
        words: int | None = 250,
        max_tokens: int | None = None,
        fallback: Literal["keep"] | None = None,
    ):
        """`feature` is one of those in extractors/prompts, or a name for what your own `prompt` asks for.

        `prompt` is a file of chat turns with {passage}. Passages are cut to `words`. `max_tokens` None is by feature. A
        failed, empty or refused answer, and cot_keywords without "Keywords:", raises ValueError unless `fallback` is
        named: keep leaves the document without a feature.
        """
        if prompt is None and feature not in FEATURES:
            raise ValueError(f"feature {feature!r} is none of {', '.join(FEATURES)}: name one, or a prompt of your own")
        if words is not None and words < 1:
            raise ValueError(f"words is {words}; a passage has at least 1 word")
        self.feature, self.words = feature, words
        self.prompt = MessagePrompt.read(prompt_file("prf.extractors", feature, prompt), ("passage",))
        sampling = Sampling(FEATURES.get(feature, 256) if max_tokens is None else max_tokens)
        self.generated = Texts(generator, sampling, fallback=fallback, read=self._read)
        self.truncated = 0

    def extract(self, texts: Sequence[str]) -> list[str | None]:
        """The feature of each text; of a blank one an empty one, and None where the generation failed."""
        shown = [self._cut(text) for text in texts if text.strip()]
        chats = [self.prompt.messages(passage=text) for text in shown]
        answers = iter(self.generated.slots(chats))
        return [next(answers)[0] if text.strip() else "" for text in texts]

    def contract(self) -> Mapping[str, Any]:
        """All that determines a feature, as plain values: a fallback makes none, it says what becomes of a failure."""
        about = {"extractor": "generated", "feature": self.feature, "words": self.words, **self.prompt.about()}
        asked = {what: value for what, value in self.generated.asker.about().items() if what != "fallback"}
        return about | asked

    def provenance(self) -> dict[str, Any]:
        """The contract, and counts of all that was asked so far."""
        asker = self.generated.asker
        counts = {**asker.counts(), "truncated passages": self.truncated}
        return {**self.contract(), "fallback": asker.fallback, **counts}

    def _cut(self, text: str) -> str:
        kept, cut = cut_words(text, self.words)
        self.truncated += cut
        return kept

    def _read(self, answer: str) -> str | None:
        if self.feature not in LABELLED:
            return passage(answer)
        *before, said = KEYWORDS.split(answer)
        return passage(said) if before or self.feature != "cot_keywords" else None
