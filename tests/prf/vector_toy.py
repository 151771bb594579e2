"""Documents that are vectors, and first passes over them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from retrieval.types import Dense, Feedback
from tests.prf.toy import queries, run


def asked(*vectors):
    """Queries with these vectors."""
    return replace(queries(*["text"] * len(vectors)), representations=Dense(np.array(vectors, np.float32)))


def shown(vectors, *found):
    """A first pass that found these lists of rows, best first."""
    vectors = np.array(vectors, np.float32)

    def fetch(rows):
        assert rows.dtype == np.int32 and len(set(rows.tolist())) == len(rows)
        return vectors[rows]

    lists = [[(row, float(-place)) for place, row in enumerate(rows)] for rows in found]
    return Feedback(run(len(vectors), *lists), vectors=fetch)


def vectors(model, asked_, feedback):
    """float32 [queries, dimensions] that the model gives."""
    made = model.reformulate(asked_, feedback)
    assert made.ids == asked_.ids and made.representations.vectors.dtype == np.float32
    return made.representations.vectors
