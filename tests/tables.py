"""Retrievers that find what a table says, for tests of what is made of retrievers."""

from __future__ import annotations

import numpy as np

from retrieval.types import Feedback, Run


class Table:
    """The documents that a table of query id -> document id -> score gives, at most k."""

    def __init__(self, found, name="table", counts=None):
        self.found, self.name, self.counts = found, name, counts or {}
        self.opened, self.depths, self.seen = 0, [], []

    def open(self, corpus, folder):
        self.opened += 1
        self.ids = corpus.ids

    def retrieve(self, queries, k):
        self.depths.append(k)
        self.seen.append(queries)
        lists = [self.found.get(query, {}) for query in queries.ids]
        rows = np.full((len(lists), max(map(len, lists), default=0)), -1, np.int32)
        scores = np.full(rows.shape, -np.inf, np.float32)
        for i, one in enumerate(lists):
            rows[i, : len(one)], scores[i, : len(one)] = self.ids.rows(list(one)), list(one.values())
        return Run.ordered(queries.ids, self.ids, rows, scores, self.name).top(k)

    def provenance(self):
        return {"name": self.name, **self.counts}


class Shown(Table):
    """One that shows the terms of its documents."""

    def feedback(self, queries, run):
        return queries, Feedback(run, terms=lambda rows: [{self.name: 1}] * len(rows))


def lists(run):
    """Query -> its documents, best first."""
    return {query: list(found) for query, found in run.to_dict().items()}
