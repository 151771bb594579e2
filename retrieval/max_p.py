"""MaxP: passages are retrieved, documents are measured, each by its best passage. Dai and Callan (2019)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.ids import DocIds
from retrieval.order import PAD
from retrieval.types import Run

__all__ = ["PASSAGES", "document_ids", "max_p"]

PASSAGES = 2  # retrieved for each document that is measured, as CRUMB does: 2,000 for 1,000


def document_ids(passages: pa.Array) -> pa.Array:
    """The id before the first colon, as CRUMB names passages; the id itself where there is none."""
    return pc.replace_substring_regex(passages, "(?s):.*", "")


def max_p(run: Run) -> Run:
    """A run of documents from one of passages: each has the score of its best passage, ties by document id."""
    used, places = np.unique(run.rows, return_inverse=True)
    held = used[used != PAD]
    parents = document_ids(run.docs.values.take(pa.array(held))).dictionary_encode()
    docs = DocIds.of(parents.dictionary)
    rows_of = np.full(len(used), PAD, np.int32)
    rows_of[used != PAD] = np.asarray(parents.indices)
    rows = rows_of[places].reshape(run.rows.shape)
    return _widest(Run.ordered(run.query_ids, docs, np.where(_repeats(rows), PAD, rows), run.scores, run.name))


def _repeats(rows: np.ndarray) -> np.ndarray:
    """bool like `rows`: whether the document stands further to the left already."""
    order = np.argsort(rows, axis=1, kind="stable")
    ascending = np.take_along_axis(rows, order, axis=1)
    again = np.zeros(rows.shape, bool)
    np.put_along_axis(again, order[:, 1:], ascending[:, 1:] == ascending[:, :-1], axis=1)
    return again


def _widest(run: Run) -> Run:
    return run.top(int(np.count_nonzero(run.rows != PAD, axis=1).max(initial=0)))
