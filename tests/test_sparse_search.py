"""The compiled search against brute force, in float64 and in the one order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.order import top_k
from retrieval.sparse_search import WINDOW, Impacts, Ties, WeightedTerms, search


def postings(matrix: np.ndarray) -> Impacts:
    """The index of a matrix [documents, terms]."""
    terms, docs = np.nonzero(matrix.T)
    offsets = np.searchsorted(terms, np.arange(matrix.shape[1] + 1))
    return Impacts.of(offsets.astype(np.int64), docs.astype(np.int32), matrix[docs, terms])


def asked(weights: np.ndarray) -> WeightedTerms:
    """Queries from a matrix [queries, terms]."""
    query, terms = np.nonzero(weights)
    bounds = np.searchsorted(query, np.arange(len(weights) + 1))
    return WeightedTerms(bounds.astype(np.int64), terms.astype(np.int32), weights[query, terms])


def collection(seed: int, documents: int, terms: int, impacts: str) -> np.ndarray:
    """Documents as rows of impacts, terms as rare as words are."""
    rng = np.random.default_rng(seed)
    share = np.minimum(1, 2 / (1 + np.arange(terms)) ** 0.8)
    held = rng.random((documents, terms)) < share
    values = rng.integers(1, 4, held.shape) if impacts == "integers" else rng.random(held.shape) * 5
    return np.where(held, values, 0).astype(np.float32)


@pytest.mark.parametrize("impacts", ["integers", "floats"])
@pytest.mark.parametrize("k", [1, 10, 100, 1000, 5000])
@pytest.mark.parametrize("prune", [True, False])
def test_the_best_are_those_of_the_whole_product(impacts, k, prune):
    """Several windows of documents, some of them ties, terms of every rarity."""
    matrix = collection(0, 2 * WINDOW + 777, 40, impacts)
    rng = np.random.default_rng(1)
    weights = np.where(rng.random((70, 40)) < 0.15, rng.integers(1, 5, (70, 40)), 0.0)
    rank = rng.permutation(len(matrix)).astype(np.int32)
    whole = (weights @ matrix.T.astype(np.float64)).astype(np.float32)
    expected = top_k(whole, rank, min(k, len(matrix)), above=0.0)
    rows, scores = search(postings(matrix), asked(weights), min(k, len(matrix)), Ties.of(rank), prune=prune)
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_allclose(scores, expected[1], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    documents=st.integers(1, 300),
    k=st.integers(1, 40),
    weight=st.sampled_from([1.0, 0.1, 1e-30, 1e30]),
    impacts=st.sampled_from(["integers", "floats"]),
)
def test_pruning_and_threads_change_nothing(seed, documents, k, weight, impacts):
    """The same bits, whatever the scale of the weights."""
    matrix = collection(seed, documents, 12, impacts)
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random((65, 12)) < 0.4, rng.random((65, 12)) * weight, 0)
    rank = rng.permutation(documents).astype(np.int32)
    index, queries, k = postings(matrix), asked(weights), min(k, documents)
    rows, scores = search(index, queries, k, Ties.of(rank), threads=1, prune=False)
    for threads, prune in ((1, True), (2, True), (2, False)):
        again = search(index, queries, k, Ties.of(rank), threads, prune)
        np.testing.assert_array_equal(again[0], rows)
        np.testing.assert_array_equal(again[1], scores)


def test_the_order_of_the_terms_does_not_matter():
    """Sums on the grid lose nothing, so they are the same in any order."""
    matrix = collection(3, 500, 30, "floats")
    index, rank = postings(matrix), np.arange(500, dtype=np.int32)
    terms = np.arange(30, dtype=np.int32)
    weights = np.random.default_rng(0).random(30)
    turned = [WeightedTerms(np.array([0, 30]), terms[::step], weights[::step]) for step in (1, -1)]
    (rows, scores), (other, others) = (search(index, queries, 500, Ties.of(rank)) for queries in turned)
    np.testing.assert_array_equal(rows, other)
    np.testing.assert_array_equal(scores, others)


def test_queries_without_terms_and_terms_without_documents_find_nothing():
    matrix = np.zeros((4, 3), np.float32)
    matrix[2, 0] = 1
    rows, scores = search(
        postings(matrix),
        WeightedTerms(np.array([0, 0, 1, 2]), np.array([1, 0], np.int32), np.array([1.0, 2.0])),
        2,
        Ties.of(np.arange(4, dtype=np.int32)),
    )
    assert rows.tolist() == [[-1, -1], [-1, -1], [2, -1]]
    assert scores[2, 0] == 2 and np.isneginf(scores[0]).all()


def test_no_queries_and_no_results_wanted():
    index, rank = postings(np.ones((3, 1), np.float32)), np.arange(3, dtype=np.int32)
    none = WeightedTerms(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0))
    assert search(index, none, 2, Ties.of(rank))[0].shape == (0, 2)
    one = WeightedTerms(np.array([0, 1]), np.zeros(1, np.int32), np.ones(1))
    assert search(index, one, 0, Ties.of(rank))[0].shape == (1, 0)


@pytest.mark.parametrize("impacts", ["integers", "floats"])
def test_torch_gives_the_same_lists_to_the_last_bit(impacts):
    from retrieval.torch_sparse import TorchSearch

    matrix = collection(5, 3000, 40, impacts)
    rng = np.random.default_rng(2)
    weights = np.where(rng.random((50, 40)) < 0.2, rng.random((50, 40)), 0.0)
    weights[7] = 0
    rank, index, queries = rng.permutation(3000).astype(np.int32), postings(matrix), asked(weights)
    for k in (1, 10, 2500):
        rows, scores = search(index, queries, k, Ties.of(rank))
        again = TorchSearch(index, Ties.of(rank), "cpu").search(queries, k)
        np.testing.assert_array_equal(again[0], rows)
        np.testing.assert_array_equal(again[1], scores)
