"""Clarity: how far the language of a query's documents is from that of the collection."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from prf._vectors import best, demand, fetched
from prf.predictors._lists import NOTHING
from retrieval.types import Feedback, Queries, TermVectors

__all__ = ["Clarity"]


class Clarity:
    """sum over w of P(w|Q) log2(P(w|Q) / P(w|C)). Cronen-Townsend, Zhou and Croft (2002).

    P(w|Q) is the mean of the documents' P(w|D) = weight tf / |D| + (1 - weight) P(w|C) (Jelinek-Mercer), each counted
    by the likelihood P(Q|D). The sum is over the whole vocabulary; terms that the collection lacks are left out.
    """

    needs = ("terms",)

    def __init__(self, fb_docs: int = 100, weight: float = 0.6):
        """`weight` is that of a document against the collection."""
        if fb_docs < 1 or not 0 < weight < 1:
            raise ValueError(f"fb_docs is at least 1 and weight within (0, 1), not {fb_docs} and {weight}")
        self.fb_docs, self.weight = fb_docs, weight

    def predict(self, queries: Queries, feedback: Feedback | None) -> np.ndarray:
        """float64 [queries] in bits, -inf where no document with terms was found.

        Raises ValueError without the terms of queries and documents, and where the shares of terms are not known.
        """
        terms, found = demand(self, queries, feedback)
        if found.statistics.shares is None:
            raise ValueError(
                "Clarity needs the shares of terms in the collection, which bm25 knows: make it the source"
            )
        predicted: list[float] = []
        for documents, places in fetched(found, best(found.run, self.fb_docs)):
            here = terms[len(predicted) : len(predicted) + len(places)]
            words = [*documents.terms.to_pylist(), *(term for one in here for term in one)]
            distinct = list(dict.fromkeys(words))
            shares = dict(zip(distinct, np.asarray(found.statistics.shares(distinct)).tolist(), strict=True))
            known = np.array([shares[word] for word in words[: len(documents.terms)]], np.float64)
            number = {word: i for i, word in enumerate(words[: len(documents.terms)])}
            for query, place in zip(here, places, strict=True):
                asked = [(number.get(term, -1), often, shares[term]) for term, often in query.items() if shares[term]]
                predicted.append(self._of(asked, *_relative(documents, place, known), known))
        return np.array(predicted, np.float64)

    def _of(
        self,
        query: Sequence[tuple[int, float, float]],
        document: np.ndarray,
        ids: np.ndarray,
        relative: np.ndarray,
        known: np.ndarray,
    ) -> float:
        """`query` is place, count and share of each term, -1 for a term in no document."""
        if not len(document):
            return NOTHING
        likelihood = np.zeros(document[-1] + 1)
        for place, often, share in query:
            of = np.bincount(document[ids == place], relative[ids == place], len(likelihood))
            likelihood += often * np.log(self.weight * of + (1 - self.weight) * share)
        given = np.exp(likelihood - likelihood.max())
        seen, where = np.unique(ids, return_inverse=True)
        own = self.weight * np.bincount(where, relative * (given / given.sum())[document])
        model = own + (1 - self.weight) * known[seen]
        unseen = (1 - self.weight) * math.log2(1 - self.weight) * (1 - known[seen].sum())
        return float((model * np.log2(model / known[seen])).sum() + unseen)


def _relative(
    documents: TermVectors, places: Sequence[int], known: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of some documents' entries: the number of the document, the term, and its share of the document.

    Documents without a term that the collection knows are left out.
    """
    numbers, terms, shares = [np.zeros(0, int)], [np.zeros(0, int)], [np.zeros(0)]
    for place in places:
        span = slice(documents.offsets[place], documents.offsets[place + 1])
        held = known[documents.ids[span]] > 0
        counts = documents.weights[span][held]
        if len(counts):
            numbers.append(np.full(len(counts), len(numbers) - 1))
            terms.append(documents.ids[span][held])
            shares.append(counts / counts.sum())
    return np.concatenate(numbers), np.concatenate(terms), np.concatenate(shares)
