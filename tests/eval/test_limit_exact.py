"""The controls: constructions are exact, nothing passes the ceilings, the bound has the paper's values."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.limit import Descent, Problem, accuracy, solve
from eval.limit_exact import ceiling, gap, margin_bound, pairs_at_most, simplex, trigonometric


def pairs(n: int, k: int = 2) -> np.ndarray:
    return np.array(list(combinations(range(n), k)))


@pytest.mark.parametrize(("n", "smallest"), [(10, 1.52e-2), (50, 2.15e-5), (200, 8.4e-8)])
def test_four_dimensions_rank_every_pair(n, smallest):
    queries, documents = trigonometric(n)
    assert documents.shape == (n, 4) and len(queries) == n * (n - 1) // 2
    assert accuracy(queries, documents, pairs(n)) == 1
    assert gap(queries, documents, pairs(n)) == pytest.approx(smallest, rel=0.01)


def test_the_vectors_of_ten_documents_are_those_published():
    queries, documents = trigonometric(10)
    np.testing.assert_allclose(documents[1], [0.5720614028, 0.4156269378, 0.2185080122, 0.6724985120], atol=1e-10)
    place = list(combinations(range(10), 2)).index((1, 6))  # opposite documents: half of the query is exactly 0
    np.testing.assert_allclose(queries[place], [0, 0, 0.30901699437494756, 0.9510565162951535], atol=1e-12)
    scores = queries[place] @ documents.T
    expected = [0.2185080122, 0.7071067812, 0.2185080122, -0.5720614028, -0.5720614028]
    np.testing.assert_allclose(scores, expected * 2, atol=1e-9)
    assert gap(queries, documents, pairs(10)) == pytest.approx(0.0152294, abs=5e-8)


@given(st.integers(3, 40))
@settings(deadline=None)
def test_any_number_of_documents_fits_into_four_dimensions(n):
    assert gap(*trigonometric(n), pairs(n)) > 0


@pytest.mark.parametrize(("n", "k"), [(3, 2), (4, 2), (5, 2), (5, 3), (6, 1), (7, 4)])
def test_a_simplex_ranks_every_k_of_its_corners(n, k):
    queries, documents = simplex(n, k)
    assert documents.shape == (n, n - 1)
    np.testing.assert_allclose(documents @ documents.T, (np.eye(n) * n - 1) / (n - 1), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1)
    assert accuracy(queries, documents, pairs(n, k)) == 1


def test_the_ceilings_are_three_and_four_documents():
    assert [ceiling(dimensions) for dimensions in (1, 2, 3, 4, 5)] == [2, 3, 4, None, None]


@given(st.integers(2, 9), st.integers(1, 3), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_no_vectors_rank_more_pairs_than_there_can_be(n, dimensions, seed):
    rng = np.random.default_rng(seed)
    documents, queries = rng.standard_normal((n, dimensions)), rng.standard_normal((2000, dimensions))
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    scores = queries @ documents.T
    order = np.argsort(-scores, axis=1, kind="stable")
    first = np.take_along_axis(scores, order, 1)
    clear = first[:, 1] > first[:, 2] + 1e-9 if n > 2 else np.ones(len(scores), bool)
    assert len({tuple(sorted(pair)) for pair in order[clear, :2].tolist()}) <= pairs_at_most(n, dimensions)


def test_as_many_pairs_as_there_can_be_are_ranked_by_neighbours_on_a_circle_and_by_a_polytope():
    turned = np.linspace(0, 2 * np.pi, 400, endpoint=False) + 0.001
    circle = np.stack([np.cos(turned), np.sin(turned)], axis=1)
    corners = circle[::50]  # 8 documents
    order = np.argsort(-(circle @ corners.T), axis=1)[:, :2]
    assert len({tuple(sorted(pair)) for pair in order.tolist()}) == pairs_at_most(8, 2) == 8
    octahedron = np.concatenate([np.eye(3), -np.eye(3)])
    edges = np.array([pair for pair in combinations(range(6), 2) if pair[1] - pair[0] != 3])
    queries = octahedron[edges].sum(axis=1)
    assert gap(queries, octahedron, edges) > 0 and len(edges) == pairs_at_most(6, 3) == 12


@pytest.mark.parametrize(("dimensions", "n"), [(2, 3), (3, 4)])
def test_the_descent_agrees_with_the_ceilings(dimensions, n):
    found = solve(
        [Problem(size, dimensions, seed) for size in (n, n + 1) for seed in range(6)], "cpu", Descent(steps=2000)
    )
    assert any(one.solved for one in found if one.problem.documents == n)
    assert not any(one.solved for one in found if one.problem.documents == n + 1)


def test_the_margin_bound_has_the_values_of_the_paper():
    assert [margin_bound(10**power, 2) for power in (2, 3, 4, 5, 6)] == [4, 6, 8, 10, 12]
    assert [margin_bound(100, 10), margin_bound(1000, 10), margin_bound(1000, 100)] == [13, 23, 135]


def test_a_construction_keeps_to_the_margin_bound():
    for n, k in ((4, 2), (5, 2), (6, 3)):
        queries, documents = simplex(n, k)
        assert margin_bound(n, k, gap(queries, documents, pairs(n, k)) / 2) <= n - 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trigonometric(1), "n=1 documents have no pairs; give 2 or more"),
        (lambda: simplex(2, 2), "n=2 and k=2; the corners of a simplex need n above k"),
        (lambda: pairs_at_most(1, 2), "n=1 documents have no pairs"),
        (lambda: pairs_at_most(4, 0), "dimensions=0; it must be 1 or more"),
        (lambda: margin_bound(2, 3), "n=2, k=3.*k is from 1 to n"),
        (lambda: gap(*trigonometric(2), pairs(2)), "all 2 documents are relevant to each query"),
    ],
)
def test_what_has_no_answer_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
