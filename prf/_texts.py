"""What joining texts has in common: the texts of each query in the order of the first pass, and queries of new text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from retrieval.types import Feedback, Queries

__all__ = ["check_depth", "reworded", "texts_of"]


def check_depth(model: object, fb_docs: int | None) -> int | None:
    """How many texts count; None is all. Raises ValueError for a negative number."""
    if fb_docs is not None and fb_docs < 0:
        raise ValueError(f"{type(model).__name__}: fb_docs is {fb_docs}; it is 0 or more, or None for all")
    return fb_docs


def texts_of(model: object, queries: Queries, feedback: Feedback | None, fb_docs: int | None) -> Iterator[list[str]]:
    """The texts of each query's first documents, best first, blank ones left out.

    Raises ValueError where there are none to be had, or they are of other queries.
    """
    if feedback is None or feedback.texts is None:
        raise ValueError(f"{type(model).__name__} needs the texts of feedback documents: name a source that shows them")
    if list(feedback.run.query_ids) != list(queries.ids):
        raise ValueError(f"{type(model).__name__} was given {len(queries)} queries and the feedback of others")
    chosen = [rows[rows >= 0][:fb_docs] for rows in feedback.run.rows]
    distinct = np.unique(np.concatenate([np.zeros(0, np.int32), *chosen]).astype(np.int32))
    texts = dict(zip(distinct.tolist(), feedback.texts(distinct), strict=True))
    for rows in chosen:
        yield [texts[row] for row in rows.tolist() if texts[row].strip()]


def reworded(queries: Queries, texts: Sequence[str]) -> Queries:
    """The queries with these texts and nothing else that a retriever would rather search with."""
    return replace(queries, texts=list(texts), terms=None, representations=None, variants=None)
