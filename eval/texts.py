"""The texts that reports show, read from a collection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.cells import Texts
from retrieval.collection import Collection
from retrieval.types import Qrels, Run

__all__ = ["texts_of"]

TOP = 10  # documents of a ranking that a report shows


def texts_of(collection: Collection, split: str, runs: Sequence[Run], qrels: Qrels) -> Texts:
    """The queries of a split, and its corpus for the best documents of these runs and the judged ones.

    Ids are looked up once for all; a text is read when asked for, and is empty for a document that the corpus lacks.
    """
    queries = collection.queries(split)
    corpus = collection.corpus
    shown = [run.docs.take(np.unique(run.rows[:, :TOP][run.rows[:, :TOP] >= 0])) for run in runs]
    ids = sorted({*qrels.doc_ids.to_pylist(), *(one for some in shown for one in some)})
    row_of = dict(zip(ids, corpus.ids.rows(ids).tolist(), strict=True))

    def document(name: str) -> str:
        row = row_of.get(name, -1)
        return corpus.texts([row])[0] if row >= 0 else ""

    return Texts(dict(zip(queries.ids, queries.texts, strict=True)), document)
