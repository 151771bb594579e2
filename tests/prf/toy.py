"""A collection small enough to check by hand: documents are bags of words, a query finds a list of them."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from retrieval.ids import DocIds
from retrieval.types import Feedback, Queries, Run, TermStatistics

D1 = "apple apple banana cherry cherry cherry"
D2 = "apple banana banana date"
D3 = "fig grape apple"


def queries(*texts):
    return Queries([f"q{i}" for i in range(len(texts))], list(texts), terms=[Counter(text.split()) for text in texts])


def feedback(texts, *found, documents=1000, df=None, idf=None):
    """`found` is a list of (row, score) per query; `df` overrides how many of the `documents` hold a term."""
    bags = [Counter(text.split()) for text in texts]
    counted = Counter(term for bag in bags for term in bag) | Counter(df or {})

    def frequencies(terms):
        return np.array([counted[term] for term in terms], np.int64)

    def lucene_idf(terms):
        held = frequencies(terms)
        return np.log1p((documents - held + 0.5) / (held + 0.5))

    def terms(rows):
        assert rows.dtype == np.int32
        return [bags[row] for row in rows]

    return Feedback(
        run(len(texts), *found), terms=terms, statistics=TermStatistics(documents, frequencies, idf or lucene_idf)
    )


def run(documents, *found):
    width = max((len(one) for one in found), default=0)
    rows = np.full((len(found), width), -1, np.int32)
    scores = np.full((len(found), width), -np.inf, np.float32)
    for i, one in enumerate(found):
        for j, (row, score) in enumerate(one):
            rows[i, j], scores[i, j] = row, score
    ids = DocIds.of([f"d{i:06}" for i in range(documents)])
    return Run.ordered([f"q{i}" for i in range(len(found))], ids, rows, scores, "toy")


def ranking(bags, weights):
    """Rows by the sum of weight x tf, which is relative to the largest; rows among equals."""
    scores = [math.fsum(weight * bag[term] for term, weight in weights.items()) for bag in bags]
    scores = [round(score / (max(scores) or 1), 9) for score in scores]
    return sorted((i for i, score in enumerate(scores) if score), key=lambda i: (-scores[i], i))
