"""What vector feedback shares: the vectors of the queries, and means of the vectors of feedback documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from retrieval.types import Dense, Feedback, Hybrid, Queries

__all__ = ["demand_vectors", "mean_of", "moved"]

BLOCK = 4096  # documents whose vectors are held at a time


def demand_vectors(model: object, queries: Queries, feedback: Feedback | None) -> tuple[np.ndarray, Feedback]:
    """float64 [queries, dimensions] and their feedback. Raises ValueError where either is missing or of other queries.

    Of an encoder that makes a vector and a weighted bag it is the vector.
    """
    name = type(model).__name__
    found = queries.representations
    found = found.dense if isinstance(found, Hybrid) else found
    if feedback is None or feedback.vectors is None or not isinstance(found, Dense):
        raise ValueError(
            f"{name} needs one vector of each query and document; a retriever `dense` over one-vector encoders gives "
            "both: name it as the source"
        )
    if list(feedback.run.query_ids) != list(queries.ids):
        raise ValueError(f"{name} was given {len(queries)} queries and the feedback of others; take it from their run")
    return found.vectors.astype(np.float64), feedback


def mean_of(feedback: Feedback, rows: Sequence[np.ndarray]) -> np.ndarray:
    """float64 [queries, dimensions]: the mean vector of each query's documents, zero where it has none.

    It is summed in the order of the corpus, so that the order of the first pass changes no bit.
    """
    if not rows:
        return np.zeros((0, 1))
    step = max(1, BLOCK // max(1, *map(len, rows)))
    return np.concatenate([_means(feedback, rows[at : at + step]) for at in range(0, len(rows), step)])


def moved(queries: Queries, vectors: np.ndarray, to: np.ndarray, moves: np.ndarray) -> Queries:
    """The queries with the vectors `to` where a bool of `moves` says so; the others keep theirs to the last bit.

    Vectors are the only form they have then: a retriever might rather search with another.
    """
    found = Dense(np.where(moves[:, None], to, vectors).astype(np.float32))
    return replace(queries, terms=None, variants=None, representations=found)


def _means(feedback: Feedback, rows: Sequence[np.ndarray]) -> np.ndarray:
    distinct, places = np.unique(np.concatenate(rows), return_inverse=True)
    vectors = np.asarray(feedback.vectors(distinct.astype(np.int32)), np.float64)  # type: ignore[misc]
    parts = np.split(places, np.cumsum([len(one) for one in rows])[:-1])
    return np.stack([vectors[np.sort(part)].sum(0) / max(1, len(part)) for part in parts])
