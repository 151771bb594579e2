"""Why a document ranks where it does for a query: what `explain=query,document` of retrieval.search answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retrieval.collection import Collection
from retrieval.explanation import Answer, Explanation, Ranked, inexplicable
from retrieval.ids import DocIds
from retrieval.locate import cache_folder
from retrieval.protocols import Explainer, Retriever
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.types import Queries, Run

__all__ = ["answered", "parted"]

Asked = str | Sequence[str | int]


def answered(collection: Collection, retriever: Retriever, split: str, k: int, asked: Asked) -> Answer:
    """What made the score of a document for a query, beside the document just above it and the first.

    Raises ValueError for ids that are not there, and, before anything is built, for a retriever that cannot explain.
    """
    explainer = _explainer(retriever)
    queries, corpus = collection.queries(split), collection.corpus
    query_id, document = parted(asked, queries.ids, corpus.ids, f"{collection.name} {split}")
    query = queries.take([list(queries.ids).index(query_id)])
    row = int(corpus.ids.rows([document])[0])
    retriever.open(corpus, cache_folder())
    run = _retrieved(collection, retriever, query, row, k)
    left_out = collection.excludes_self and document == query_id  # it may score more than any
    rows = np.array([row], np.int32) if left_out else _compared(run, row)
    explanation = explainer.explain(query, rows)
    documents = [_ranked(run, one.id, one.title, row) for one, row in zip(corpus.documents(rows), rows, strict=True)]
    _refuse_other_sums(documents, explanation)
    return Answer(query_id, query.texts[0], documents, explanation, k)


def parted(asked: Asked, queries: Sequence[str], documents: DocIds, where: str) -> tuple[str, str]:
    """Query id and document id of `[query, document]`, or of `query,document` at the one comma that leaves two known.

    Raises ValueError that says which is unknown, or that several commas would do.
    """
    if not isinstance(asked, str):
        pairs = [tuple(map(str, asked))]
    else:
        commas = [place for place, character in enumerate(asked) if character == ","]
        pairs = [(asked[:place].strip(), asked[place + 1 :].strip()) for place in commas]
    if not pairs or len(pairs[0]) != 2:
        raise ValueError(f"explain takes a query and a document, explain=query,document, not {asked!r}")
    there = documents.rows([document for _, document in pairs]) >= 0
    found = [pair for pair, known in zip(pairs, there, strict=True) if known and pair[0] in queries]
    if len(found) == 1:
        return found[0]  # type: ignore[return-value]
    if len(pairs) > 1:
        how = "several commas part" if found else "no comma parts"
        raise ValueError(f'{how} {asked!r} into a query of {where} and a document; write explain=\'["q", "d"]\'')
    query, document = pairs[0]
    if query in queries:
        raise ValueError(f"{where} has no document {document!r}; there are {len(documents)}, such as {documents[0]!r}")
    raise ValueError(f"{where} has no query {query!r}; there are {len(queries)}, such as {', '.join(queries[:3])}")


def _explainer(retriever: Retriever) -> Explainer:
    """The retriever, where it and the one that searches last within it can explain."""
    last = retriever
    while isinstance(last, FeedbackRetriever):
        last = last.retriever
    if not isinstance(retriever, Explainer) or not isinstance(last, Explainer):
        raise inexplicable(last)
    return retriever


def _retrieved(collection: Collection, retriever: Retriever, query: Queries, row: int, k: int) -> Run:
    """The run of a query, so deep that the document is in it where it is found at all."""
    for depth in (k, len(collection.corpus)):
        run = retriever.retrieve(query, depth + collection.excludes_self)
        run = run.without_self_hits() if collection.excludes_self else run
        if row in run.rows[0]:
            break
    return run


def _compared(run: Run, row: int) -> np.ndarray:
    """int32 rows: the document, the one just above it, and the first; only the document where it is the first."""
    found = run.rows[0][run.rows[0] >= 0]
    place = np.flatnonzero(found == row)
    above = found[:1] if not len(place) else found[[place[0] - 1, 0]] if place[0] else found[:0]
    return np.array(list(dict.fromkeys([row, *above.tolist()])), np.int32)


def _ranked(run: Run, document: str, title: str, row: int) -> Ranked:
    place = np.flatnonzero(run.rows[0] == row)
    if not len(place):
        return Ranked(document, title)
    return Ranked(document, title, int(place[0]) + 1, float(run.scores[0, place[0]]))


def _refuse_other_sums(documents: Sequence[Ranked], explanation: Explanation) -> None:
    """Raises RuntimeError, for it is a bug, where terms do not sum to the score that the search gave."""
    for place, document in enumerate(documents):
        total, score = explanation.total(place), document.score
        if score is None:
            continue
        off = total - score
        step = float(np.spacing(np.float32(score)))
        lowered = (
            (document.rank or 0) * step if explanation.ties == "lucene" else 0.0
        )  # to show the order of equal ones
        if not -step <= off <= step + lowered:
            raise RuntimeError(f"document {document.id!r} scores {score}, but its terms sum to {total}")
