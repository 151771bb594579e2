"""Pseudo-relevance feedback: a first pass, a query made of what it found, and a second pass."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.composed import provenance, refuse_foreign, refuse_lack, refuse_unread
from retrieval.corpus import Corpus
from retrieval.explanation import Explanation, FeedbackDocument, FeedbackPass, inexplicable
from retrieval.protocols import Explainer, FeedbackSource, Reformulator, Retriever
from retrieval.remembered import retrieved
from retrieval.types import Feedback, Queries, Run

__all__ = ["FeedbackRetriever"]


class FeedbackRetriever:
    """Feedback = source x model x retriever: where documents come from, how they change the query, what searches."""

    def __init__(self, source: Retriever, model: Reformulator, retriever: Retriever | None = None, depth: int = 50):
        """`depth` is of the first pass, 0 for none; `retriever` None searches with the source.

        Raises ValueError for a source that has no feedback(), and for a retriever that does not read what the model
        writes.
        """
        if depth < 0:
            raise ValueError(f"depth is {depth}; it is how many documents the first pass finds, 0 for no feedback")
        refuse_unread(model, retriever or source)
        _refuse_other_terms(source, retriever or source)
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
        if self.depth == 0:
            return retrieved(self.retriever, queries, k)
        own, feedback = self._first_pass(queries)
        moved = self.model.reformulate(own, feedback)
        if {"vectors", "tokens"} & {*self.model.needs}:
            refuse_foreign([self.source, self.retriever], moved)
        found = self.retriever.retrieve(moved, k)
        return replace(found, name=self._name(feedback.run, found))

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the retriever, so that feedback can be stacked. Raises ValueError where it has none."""
        return _source(self.retriever).feedback(queries, run)

    def explain(self, queries: Queries, rows: np.ndarray) -> Explanation:
        """What the terms of the new query give to these documents, and what feedback made them of.

        Raises ValueError where the retriever cannot explain.
        """
        if not isinstance(self.retriever, Explainer):
            raise inexplicable(self.retriever)
        if self.depth == 0:
            return self.retriever.explain(queries, rows)
        own, feedback = self._first_pass(queries)
        read: list[np.ndarray] = []
        moved = self.model.reformulate(own, _noting(feedback, read))
        explanation = self.retriever.explain(moved, rows)
        before = own.terms[0] if own.terms else {}
        after = moved.terms[0] if moved.terms else {term.term: term.weight for term in explanation.terms}
        documents = _read(feedback, np.concatenate([*read, np.zeros(0, np.int32)]), {**before, **after})
        made = FeedbackPass(feedback.run.name, type(self.model).__name__, before, after, documents)
        return replace(explanation, passes=(made, *explanation.passes))

    def provenance(self) -> dict[str, Any]:
        """What source, retriever and a model that tells are, for the manifest; what is counted is of all of them."""
        parts: dict[str, Any] = {"source": self.source}
        if self.retriever is not self.source and self.retriever is not getattr(self.source, "retriever", None):
            parts["retriever"] = self.retriever
        return provenance(parts | ({"model": self.model} if hasattr(self.model, "provenance") else {}))

    def _first_pass(self, queries: Queries) -> tuple[Queries, Feedback]:
        """The queries as the source searches with them, and what it found."""
        first = retrieved(self.source, queries, self.depth)
        self._refuse_other_documents(first)
        own, feedback = self.documents.feedback(queries, first)
        refuse_lack(self.model, feedback, self.source)
        return own, feedback

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


def _refuse_other_terms(source: Any, retriever: Any) -> None:
    """Where both say how they read text: terms of one would not be found by the other."""
    read, searched = (getattr(getattr(one, "retriever", one), "analyzer", None) for one in (source, retriever))
    if read and searched and dict(read.contract()) != dict(searched.contract()):
        raise ValueError(
            f"the source reads text by {dict(read.contract())}, the retriever by {dict(searched.contract())}: "
            "give both the same analyzer"
        )


def _source(retriever: Retriever) -> FeedbackSource:
    if not isinstance(retriever, FeedbackSource):
        raise ValueError(
            f"{type(retriever).__name__} has no feedback(), so it cannot be a source of feedback: "
            "choose one that shows its documents, such as bm25 or dense"
        )
    return retriever


def _noting(feedback: Feedback, read: list[np.ndarray]) -> Feedback:
    """The same feedback, which notes the rows of the documents whose content it is asked for."""

    def noted(content: Callable[[np.ndarray], Any] | None) -> Any:
        def fetch(rows: np.ndarray) -> Any:
            read.append(rows)
            return content(rows)  # type: ignore[misc]

        return content and fetch

    return replace(
        feedback,
        texts=noted(feedback.texts),
        terms=noted(feedback.terms),
        vectors=noted(feedback.vectors),
        tokens=noted(feedback.tokens),
    )


def _read(feedback: Feedback, rows: np.ndarray, words: Collection[str]) -> list[FeedbackDocument]:
    """The documents that a model read, those of the first pass first and by rank, and which of the words they hold."""
    rows = np.unique(rows).astype(np.int32)
    first = {int(row): place for place, row in enumerate(feedback.run.rows[0])}
    rows = np.array(sorted(rows.tolist(), key=lambda row: first.get(row, len(first) + row)), np.int32)
    held = feedback.terms(rows) if feedback.terms else [{}] * len(rows)
    found = []
    for row, name, terms in zip(rows.tolist(), feedback.run.docs.take(rows), held, strict=True):
        place, holds = first.get(row), {term: often for term, often in terms.items() if term in words}
        rank, score = (None, None) if place is None else (place + 1, float(feedback.run.scores[0, place]))
        found.append(FeedbackDocument(name, rank, score, holds))
    return found
