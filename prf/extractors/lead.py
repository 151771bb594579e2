"""The first sentences of a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prf.extractors._sentences import check_count
from retrieval.sentences import sentences

__all__ = ["Lead"]


class Lead:
    """The first `sentences` of a text: what summaries of news are measured against. A title is part of the first."""

    def __init__(self, sentences: int = 2):
        """Raises ValueError for less than one sentence."""
        self.sentences = check_count(self, sentences)

    def extract(self, texts: Sequence[str]) -> list[str]:
        """The first sentences of each text."""
        return [" ".join(sentences(text)[: self.sentences]) for text in texts]

    def contract(self) -> Mapping[str, Any]:
        """The settings."""
        return {"extractor": "lead", "sentences": self.sentences}
