"""Vectors in clusters, and their neighbours by brute force, for tests of approximate indexes."""

from __future__ import annotations

import numpy as np

from retrieval.indexes.faiss import Faiss


def clustered_vectors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors around 40 centres, queries beside some of them, and a rank of shuffled ids."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((40, 32))
    vectors = centres[rng.integers(0, 40, 3000)] + 0.6 * rng.standard_normal((3000, 32))
    queries = vectors[rng.integers(0, 3000, 60)] + 0.3 * rng.standard_normal((60, 32))
    return vectors.astype(np.float32), queries.astype(np.float32), rng.permutation(3000).astype(np.int32)


def brute_force(vectors, queries, k, cosine=False):
    """Rows by float64 products, best first, and all the products."""
    vectors, queries = vectors.astype(np.float64), queries.astype(np.float64)
    if cosine:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    products = queries @ vectors.T
    return np.argsort(-products, axis=1)[:, :k], products


def built(clustered, *arguments, **settings) -> Faiss:
    index = Faiss(*arguments, **settings)
    index.build(clustered[0], clustered[2])
    return index


def share(rows, expected) -> float:
    return float(
        np.mean([len({*found} & {*wanted}) / len(wanted) for found, wanted in zip(rows, expected, strict=True)])
    )
