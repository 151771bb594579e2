"""Topics of training queries: a batch of like queries has harder negatives. Hofstätter et al. (2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval.encoding import dense, encoded_queries
from retrieval.faiss_index import faiss_package
from retrieval.files import digest, whole_file
from retrieval.locate import cache_folder
from retrieval.protocols import Encoder
from retrieval.types import Dense, Queries

__all__ = ["Topics"]


@dataclass(frozen=True)
class Topics:
    """K-means clusters of about `size` queries by their vectors; a batch then takes queries of one topic (TAS-B)."""

    encoder: Encoder
    size: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"topics.size is {self.size}; it is how many queries a topic has on average, 1 or more")

    def of(self, queries: Queries) -> np.ndarray:
        """int64 [queries], the topic of each; found once, and kept in the cache."""
        asked = [list(queries.ids), list(queries.texts), list(queries.instructions or ())]
        made_of = [*asked, dict(self.encoder.contract()), self.size, self.seed]
        path = cache_folder() / "topics" / f"{digest(made_of)}.npy"
        if not path.is_file():
            with whole_file(path) as part, open(part, "wb") as file:
                np.save(file, self._clustered(queries))
        return np.load(path, allow_pickle=False)

    def _clustered(self, queries: Queries) -> np.ndarray:
        found: Any = dense(encoded_queries(self.encoder, queries))
        if not isinstance(found, Dense):
            name = type(self.encoder).__name__
            raise ValueError(f"topics are of queries with one vector each, which {name} does not give: use transformer")
        vectors = np.ascontiguousarray(found.vectors, np.float32)
        many = math.ceil(len(vectors) / self.size)
        means = faiss_package().Kmeans(vectors.shape[1], many, seed=self.seed, min_points_per_centroid=1)
        means.train(vectors)
        return means.index.search(vectors, 1)[1][:, 0]
