"""Pseudo-relevance feedback: a first pass, a query made of what it found, and a second pass."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from retrieval.corpus import Corpus
from retrieval.protocols import FeedbackSource, Reformulator, Retriever
from retrieval.types import Feedback, Queries, Run

__all__ = ["FeedbackRetriever"]


class FeedbackRetriever:
    """Feedback = source x model x retriever: where documents come from, how they change the query, what searches."""

    def __init__(self, source: Retriever, model: Reformulator, retriever: Retriever | None = None, depth: int = 50):
        """`depth` is of the first pass; `retriever` None searches with the source.

        Raises ValueError for a source that has no feedback().
        """
        if depth < 1:
            raise ValueError(f"depth is {depth}; the first pass needs at least 1 document")
        self.documents = _source(source)
        self.source, self.model, self.retriever, self.depth = source, model, retriever or source, depth

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open source and retriever."""
        self.corpus = corpus
        self.source.open(corpus, folder)
        if self.retriever is not self.source:
            self.retriever.open(corpus, folder)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The second pass. Raises ValueError, before it, where the source lacks what the model needs."""
        first = self.source.retrieve(queries, self.depth)
        self._refuse_other_documents(first)
        own, feedback = self.documents.feedback(queries, first)
        self._refuse_lack(feedback)
        found = self.retriever.retrieve(self.model.reformulate(own, feedback), k)
        return replace(found, name=self._name(first, found))

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the retriever, so that feedback can be stacked. Raises ValueError where it has none."""
        return _source(self.retriever).feedback(queries, run)

    def provenance(self) -> dict[str, Any]:
        """What source and retriever are, for the manifest; the count of what was truncated is of both."""
        parts = {"source": _provenance(self.source)}
        if self.retriever is not self.source:
            parts["retriever"] = _provenance(self.retriever)
        truncated: Counter[str] = Counter()
        for part in parts.values():
            truncated.update({what: count for what, count in part.items() if what.startswith("truncated")})
        return parts | truncated

    def _name(self, first: Run, found: Run) -> str:
        """bm25+rm3, or dense+rm3+bm25 where another retriever than the source searches."""
        model = type(self.model).__name__.lower()
        return "+".join([first.name, model] if self.retriever is self.source else [first.name, model, found.name])

    def _refuse_other_documents(self, first: Run) -> None:
        if self.retriever is self.source and first.docs.fingerprint != self.corpus.fingerprint:
            raise ValueError(
                f"{first.name} finds documents of its own, not those of {self.corpus.folder}: "
                "name the `retriever` that searches the corpus"
            )

    def _refuse_lack(self, feedback: Feedback) -> None:
        lacking = [need for need in self.model.needs if getattr(feedback, need, None) is None]
        if lacking:
            raise ValueError(
                f"{type(self.model).__name__} needs {' and '.join(lacking)} of the feedback documents, which "
                f"{type(self.source).__name__} does not give: choose another source or model"
            )


def _source(retriever: Retriever) -> FeedbackSource:
    if not isinstance(retriever, FeedbackSource):
        raise ValueError(
            f"{type(retriever).__name__} has no feedback(), so it cannot be a source of feedback: "
            "choose one that shows its documents, such as bm25 or dense"
        )
    return retriever


def _provenance(retriever: Retriever) -> dict[str, Any]:
    return retriever.provenance() if hasattr(retriever, "provenance") else {}
