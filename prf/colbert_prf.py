"""ColBERT-PRF: token vectors that stand for what the first documents are about, put to those of the query."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from prf._vectors import best
from retrieval.types import Feedback, Queries, TermStatistics, Tokens

__all__ = ["ColBERTPRF"]

ROUNDS = 50  # of k-means


class ColBERTPRF:
    """Centroids of the documents' token vectors, the rarest of them, weighted by beta idf. Wang et al. (2021, 2023).

    The vectors of the first documents are clustered (k-means); a centroid is taken for the token that is the most
    frequent among its `nearest` vectors, and the `fb_embs` of highest ln((N + 1) / (df + 1)) are put to the query. The
    authors look for those tokens in the whole index, this class among those of the feedback documents; centroids are
    not normalised. A query without feedback keeps its vectors, as all do with `fb_embs` or `beta` 0.
    """

    needs = ("tokens",)
    writes = "representations"

    def __init__(
        self,
        fb_docs: int = 3,
        clusters: int = 24,
        fb_embs: int = 10,
        beta: float = 1.0,
        nearest: int = 10,
        seed: int = 42,
    ):
        """`clusters` is k of k-means; documents with fewer different vectors have as many clusters as those."""
        if min(fb_docs, fb_embs) < 0 or not beta >= 0 or nearest < 1 or clusters < max(1, fb_embs):
            raise ValueError(
                "ColBERTPRF takes fb_docs, fb_embs and beta of 0 or more, nearest of 1 or more and at least as many "
                f"clusters as fb_embs, not {fb_docs}, {fb_embs}, {beta}, {nearest} and {clusters}"
            )
        self.fb_docs, self.clusters, self.fb_embs = fb_docs, clusters, fb_embs
        self.beta, self.nearest, self.seed = beta, nearest, seed

    def reformulate(self, queries: Queries, feedback: Feedback | None) -> Queries:
        """The queries with more token vectors. Raises ValueError without those of queries and documents."""
        own = queries.representations
        if feedback is None or feedback.tokens is None or feedback.statistics is None or not isinstance(own, Tokens):
            raise ValueError(
                "ColBERTPRF needs token vectors of queries and documents: name `dense` with the encoder colbert as the "
                "source"
            )
        if list(feedback.run.query_ids) != list(queries.ids):
            raise ValueError(f"ColBERTPRF was given {len(queries)} queries and the feedback of others")
        rows = best(feedback.run, self.fb_docs if self.fb_embs and self.beta else 0)
        parts = []
        for i, mine in enumerate(rows):
            parts.append(own.vectors[own.offsets[i] : own.offsets[i + 1]])
            if len(mine):
                found, tokens = feedback.tokens(np.sort(mine))  # so that the order of the first pass counts for nothing
                parts[-1] = np.concatenate([parts[-1], self._expansion(found.vectors, tokens, feedback.statistics)])
        offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        made = Tokens(np.concatenate([own.vectors[:0], *parts]), offsets)
        return replace(queries, terms=None, variants=None, representations=made)

    def _expansion(self, vectors: np.ndarray, tokens: Sequence[str], statistics: TermStatistics) -> np.ndarray:
        """float32 [up to fb_embs, dimensions]: weighted centroids, the heaviest first.

        MaxSim is linear in a query vector as long as its weight is positive, so the weight is put into the vector.
        """
        if not len(vectors):
            return vectors
        centroids = self._centroids(vectors.astype(np.float64))
        stands_for = [_most_frequent(tokens, line) for line in self._closest(centroids, vectors)]
        weights = self.beta * np.asarray(statistics.idf(stands_for))
        heaviest = np.argsort(-weights, kind="stable")[: self.fb_embs]
        return (weights[heaviest, None] * centroids[heaviest]).astype(np.float32)

    def _centroids(self, vectors: np.ndarray) -> np.ndarray:
        """float64 [clusters, dimensions]; one that no vector fell to is left out."""
        from scipy.cluster.vq import kmeans2

        distinct = np.unique(vectors, axis=0)
        if len(distinct) <= self.clusters:
            return distinct
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "One of the clusters is empty")
            centroids, label = kmeans2(vectors, self.clusters, iter=ROUNDS, minit="++", rng=self.seed)
        return centroids[np.unique(label)]

    def _closest(self, centroids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """The places of the `nearest` vectors of each centroid, the closest first; all have length 1."""
        return np.argsort(-(centroids @ vectors.T.astype(np.float64)), axis=1, kind="stable")[:, : self.nearest]


def _most_frequent(tokens: Sequence[str], places: np.ndarray) -> str:
    """Of equals the one that is closest."""
    return Counter(tokens[place] for place in places.tolist()).most_common(1)[0][0]
