"""Axiomatic expansion: terms that occur where the query's terms occur, in the first documents and in random ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from prf._vectors import Vector, best, demand, fetched
from retrieval.types import Feedback, Queries, Run, TermStatistics

__all__ = ["Axiom"]

WORD = re.compile("[a-z]{2,}")  # other terms, also of the query, are not in the new query
PER_TERM = 1000  # terms that each term of the query brings at most


class Axiom:
    """Semantic term matching of Fang and Zhai (2006), as Anserini has it: mutual information over a pool of documents.

    The pool is the `fb_docs` first documents and random ones of the collection, n * fb_docs in all. A term q of the
    query scores idf(q) count(q) for itself, and idf(q) count(q) beta MI(q, t) / MI(q, q) for any other term t, where MI
    is of their presence in documents of the pool and idf(q) = ln(floor((N + 1) / df)). The `fb_terms` terms with the
    highest mean score are the new query. What is drawn for a query depends on `seed`, its id and the collection alone.
    """

    needs = ("terms",)
    writes = "terms"

    def __init__(self, fb_terms: int = 20, fb_docs: int = 20, n: int = 30, beta: float = 0.4, seed: int = 42):
        """Anserini calls them top, R, N, beta and seed; n = 1 takes no random documents."""
        if fb_terms < 1 or fb_docs < 1 or n < 1 or beta < 0:
            raise ValueError(
                f"Axiom needs fb_terms, fb_docs and n of at least 1 and no negative beta, "
                f"not {fb_terms}, {fb_docs}, {n} and {beta}"
            )
        self.fb_terms, self.fb_docs, self.n, self.beta, self.seed = fb_terms, fb_docs, n, beta, seed

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new `terms`. Raises ValueError without the terms of queries and documents."""
        given, found = demand(self, queries, feedback)
        weights = _idf(given, found.statistics)
        terms: list[Vector] = []
        for documents, places in fetched(found, self._pools(found.run)):
            kept = {term for term in documents.terms.to_pylist() if WORD.fullmatch(term)}
            words = [[term for term in one if term in kept] for one in documents.dicts()]
            for place in places:
                query = given[len(terms)]
                terms.append(self._expanded(query, weights, [words[i] for i in place]) or query)
        return replace(queries, terms=terms)

    def _pools(self, run: Run) -> list[np.ndarray]:
        """The first documents of each query and random others; no document where there are no first ones."""
        return [self._pool(*one, len(run.docs)) for one in zip(run.query_ids, best(run, self.fb_docs), strict=True)]

    def _pool(self, query_id: str, first: np.ndarray, documents: int) -> np.ndarray:
        wanted = min(self.n * self.fb_docs, documents) - len(first)
        if not len(first) or self.n == 1:
            return first
        digest = hashlib.sha256(f"{self.seed} {query_id}".encode()).digest()
        drawn = np.random.default_rng(int.from_bytes(digest[:8])).choice(documents - len(first), wanted, replace=False)
        gaps = np.sort(first) - np.arange(len(first))  # rows of the first documents are passed over
        return np.concatenate([first, drawn + np.searchsorted(gaps, drawn, side="right")])

    def _expanded(self, query: Vector, idf: Mapping[str, float], pool: Sequence[Sequence[str]]) -> Vector:
        """The new query; empty where no term of the query is in the pool, or all are in most of the collection."""
        words = sorted(set(chain.from_iterable(pool)))
        places = {word: i for i, word in enumerate(words)}
        codes = np.array([places[word] for one in pool for word in one], np.int64)
        owners = np.repeat(np.arange(len(pool)), [len(one) for one in pool])
        scores = np.zeros(len(words))
        for term, count in query.items():
            if term in places:
                scores += idf[term] * count * self._similarities(places[term], codes, owners, len(words))
        chosen = np.argsort(-scores, kind="stable")[: self.fb_terms]  # stable: among equals, alphabetical
        return {words[i]: float(scores[i]) / sum(query.values()) for i in chosen if scores[i] > 0}

    def _similarities(self, place: int, codes: np.ndarray, owners: np.ndarray, words: int) -> np.ndarray:
        """float64 [words]: 1 for the term itself, beta MI(q, t) / MI(q, q) for the others, 0 beyond its best ones."""
        holds = np.zeros(owners.max() + 1, bool)
        holds[owners[codes == place]] = True
        joint = np.bincount(codes[holds[owners]], minlength=words)
        found = information(joint, joint[place], np.bincount(codes, minlength=words), len(np.unique(owners)))
        own = found[place]
        found = self.beta * found / own if own > 0 else np.zeros(words)
        found[place] = 1
        found[np.argsort(-found, kind="stable")[PER_TERM:]] = 0
        return found


def information(joint: np.ndarray, one: int, other: np.ndarray, documents: int) -> np.ndarray:
    """Mutual information of presence, in nats: `joint` documents hold both terms, `one` and `other` hold each."""
    neither = documents - one - other + joint
    cells = [
        (joint, one * other),
        (one - joint, one * (documents - other)),
        (other - joint, (documents - one) * other),
        (neither, (documents - one) * (documents - other)),
    ]
    found = np.zeros(len(joint))
    for both, apart in cells:
        ratio = np.where(both > 0, both * documents / np.maximum(apart, 1), 1)
        found += both / documents * np.log(ratio)
    return found


def _idf(queries: Sequence[Vector], statistics: TermStatistics) -> dict[str, float]:
    words = list(dict.fromkeys(chain.from_iterable(queries)))
    found = np.asarray(statistics.frequencies(words))
    idf = np.log((statistics.documents + 1) // np.maximum(found, 1))
    return dict(zip(words, np.where(found > 0, idf, 0).tolist(), strict=True))
