"""What is known of n and d without descent: constructions that work for sure, ceilings that nothing passes, a bound.

They are the controls of `eval.limit`: it shows what gradient descent finds, not what exists.
"""

from __future__ import annotations

from itertools import combinations
from math import ceil, comb, log

import numpy as np

__all__ = ["ceiling", "gap", "margin_bound", "pairs_at_most", "simplex", "trigonometric"]


def trigonometric(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors in 4 dimensions, queries [C(n, 2), 4] and documents [n, 4], that rank every pair first, for any n.

    Documents D(t) = (cos t, sin t, cos 2t, sin 2t) / sqrt 2 at equal angles; the query of the documents at a and b is
    (cos a + cos b, sin a + sin b, -cos(a + b) / 2, -sin(a + b) / 2). Its product with D(t) falls with
    (1 - cos(t - a)) (1 - cos(t - b)), which is 0 at a and b and nowhere else. Raises ValueError for n < 2.
    """
    _pairs(n)
    t = 2 * np.pi * np.arange(n) / n
    documents = np.stack([np.cos(t), np.sin(t), np.cos(2 * t), np.sin(2 * t)], axis=1) / np.sqrt(2)
    a, b = t[np.array(list(combinations(range(n), 2))).T]
    mean, half = (a + b) / 2, np.cos((a - b) / 2)
    # cos a + cos b = 2 cos(mean) half, so that opposite documents give exactly 0
    queries = np.stack(
        [2 * np.cos(mean) * half, 2 * np.sin(mean) * half, -np.cos(2 * mean) / 2, -np.sin(2 * mean) / 2], axis=1
    )
    return queries / np.linalg.norm(queries, axis=1, keepdims=True), documents


def simplex(n: int, k: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors in n - 1 dimensions, queries [C(n, k), n - 1] and documents [n, n - 1], that rank every k first.

    Documents are the corners of the regular simplex, a query the direction of the sum of its documents. At k = 2 this
    reaches the ceilings of 2 and 3 dimensions. Raises ValueError for n <= k, where a query would be the zero vector.
    """
    if not 0 < k < n:
        raise ValueError(f"n={n} and k={k}; the corners of a simplex need n above k, and k above 0")
    centred = np.eye(n) - 1 / n
    basis = np.linalg.svd(centred)[2][: n - 1]
    documents = centred @ basis.T
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    queries = documents[np.array(list(combinations(range(n), k)))].sum(axis=1)
    return queries / np.linalg.norm(queries, axis=1, keepdims=True), documents


def gap(queries: np.ndarray, documents: np.ndarray, relevant: np.ndarray) -> float:
    """The least difference of a query's worst relevant and best other score; above 0 where all queries are answered.

    Raises ValueError where every document is relevant.
    """
    if relevant.shape[1] >= len(documents):
        raise ValueError(f"all {len(documents)} documents are relevant to each query: nothing is ranked below them")
    scores = queries @ documents.T
    own = np.take_along_axis(scores, relevant, 1).min(axis=1)
    np.put_along_axis(scores, relevant, -np.inf, 1)
    return float((own - scores.max(axis=1)).min())


def pairs_at_most(n: int, dimensions: int) -> int:
    """How many of the C(n, 2) pairs of n unit vectors some query can rank first.

    In 1 dimension those of two equal documents, at +1 and at -1; in 2 those of neighbours on the circle; in 3 the edges
    of a polytope, a planar graph, so 3n - 6; in 4 and more all of them (`trigonometric`). Raises ValueError for n < 2.
    """
    _pairs(n)
    if dimensions < 1:
        raise ValueError(f"dimensions={dimensions}; it must be 1 or more")
    every = comb(n, 2)
    return min({1: min(n // 2, 2), 2: n, 3: max(3 * n - 6, 1)}.get(dimensions, every), every)


def ceiling(dimensions: int) -> int | None:
    """The largest n whose every pair unit vectors of so many dimensions can rank first; None where there is none."""
    if dimensions >= 4:
        return None
    n = 2
    while pairs_at_most(n + 1, dimensions) == comb(n + 1, 2):
        n += 1
    return n


def margin_bound(n: int, k: int, margin: float = 0.1) -> int:
    """The fewest dimensions in which unit vectors can hold every k of n apart from the others by twice this margin.

    d >= ln C(n, k) / ln(1 + 1 / margin), of the ICLR version of LIMIT's paper. Raises ValueError for k above n.
    """
    if not 0 < k <= n or margin <= 0:
        raise ValueError(f"n={n}, k={k}, margin={margin}; k is from 1 to n, and the margin above 0")
    return ceil(log(comb(n, k)) / log(1 + 1 / margin))


def _pairs(n: int) -> None:
    if n < 2:
        raise ValueError(f"n={n} documents have no pairs; give 2 or more")
