"""BM25PRF: terms weighted by how much more often the first documents hold them than the collection does."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from prf._vectors import TermFilter, Vector, best, demand, fetched, prune
from retrieval.types import Feedback, Queries, TermStatistics

__all__ = ["BM25PRF"]

WORD = re.compile("(?![0-9]+$)[a-z0-9]+")  # letters and digits, but no number
LEAST = 1e-6  # of a relevance weight
HELD_BY = 2  # feedback documents that must hold a new term


class BM25PRF:
    """RW(t) = ln[(r + .5)(N - n - R + r + .5) / ((n - r + .5)(R - r + .5))]. Robertson and Spärck Jones (1976).

    r of the R feedback documents and n of the N documents of the collection hold t. Terms of the query have weight RW;
    new ones, the `fb_terms` with the highest RW ln(r), `new_term_weight` RW, as in Anserini. That searches with an idf
    of 1, while a retriever multiplies by its own idf: so weights are RW / statistics.idf, and a term of idf 0 is left
    out.
    """

    needs = ("terms",)
    writes = "terms"

    def __init__(
        self, fb_terms: int = 20, fb_docs: int = 10, new_term_weight: float = 0.2, max_df: float | None = None
    ):
        """`max_df` drops new terms in more than that share of the documents."""
        if fb_terms < 0 or fb_docs < 1 or new_term_weight <= 0:
            raise ValueError(
                "BM25PRF needs fb_terms of at least 0, fb_docs of at least 1 and new_term_weight above 0, "
                f"not {fb_terms}, {fb_docs} and {new_term_weight}"
            )
        self.fb_terms, self.fb_docs, self.new_term_weight = fb_terms, fb_docs, new_term_weight
        self.max_df, self.keep = max_df, TermFilter(max_df, WORD)

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with new `terms`. Raises ValueError without the terms of queries and documents."""
        given, found = demand(self, queries, feedback)
        terms: list[Vector] = []
        for documents, places in fetched(found, best(found.run, self.fb_docs)):
            texts = documents.dicts()
            held = [Counter(chain.from_iterable(texts[i] for i in place)) for place in places]
            block = given[len(terms) : len(terms) + len(places)]
            terms += self._block(block, held, list(map(len, places)), found.statistics)
        return replace(queries, terms=terms)

    def _block(
        self, queries: Sequence[Vector], held: Sequence[Counter[str]], depths: Sequence[int], statistics: TermStatistics
    ) -> Iterator[Vector]:
        """New queries; `held` says how many feedback documents hold a term, `depths` how many there are."""
        new = [self._new(query, counts) for query, counts in zip(queries, held, strict=True)]
        words = list(dict.fromkeys(chain(*queries, *new)))
        frequency = dict(zip(words, statistics.frequencies(words).tolist(), strict=True))
        idf = dict(zip(words, statistics.idf(words).tolist(), strict=True))
        selective = self.keep.selective(words, statistics)
        for query, terms, counts, depth in zip(queries, new, held, depths, strict=True):
            odds = {
                term: relevance(counts[term], depth, frequency[term], statistics.documents)
                for term in [*query, *selective.intersection(terms)]
            }
            weights = self._weights(query, odds, counts)
            found = {term: weight / idf[term] for term, weight in weights.items() if idf[term] > 0}
            yield found if depth and found else query

    def _new(self, query: Vector, counts: Counter[str]) -> list[str]:
        """Terms that may be added to the query."""
        often = (term for term, r in counts.items() if r >= HELD_BY)
        return [term for term in often if term not in query and self.keep.wellformed(term)]

    def _weights(self, query: Vector, relevance: Mapping[str, float], counts: Counter[str]) -> Vector:
        """Relevance weights of the query's terms and of the new ones with the best offer."""
        added = {t: max(LEAST, self.new_term_weight * rw) for t, rw in relevance.items() if t not in query}
        chosen = prune({term: rw * math.log(counts[term]) for term, rw in added.items()}, self.fb_terms)
        return {t: max(LEAST, relevance[t]) for t in query} | {t: added[t] for t in chosen}


def relevance(r: int, depth: int, n: int, documents: int) -> float:
    """Robertson and Spärck Jones' weight of a term that r of `depth` feedback documents and n of all documents hold.

    Feedback documents that are not of the collection (generated ones) count as if they were.
    """
    n = max(n, r)
    rest = max(documents - n - depth + r, 0)
    return math.log((r + 0.5) * (rest + 0.5) / ((n - r + 0.5) * (depth - r + 0.5)))
