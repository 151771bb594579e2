"""Exact search gives one list, whatever the tiles, batches and threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.ids import DocIds
from retrieval.exact import fixed_sum
from retrieval.indexes.flat import Flat
from retrieval.types import Dense


def brute_force(queries, vectors, ids, k, cosine=False):
    """Pair by pair in exact enough arithmetic (long double), sorted by Python: score, then id, descending."""
    rows = np.empty((len(queries), k), np.int32)
    scores = np.empty((len(queries), k), np.float32)
    for i, query in enumerate(queries.astype(np.longdouble)):
        dots = (vectors.astype(np.longdouble) * query).sum(axis=1)
        if cosine:
            lengths = np.sqrt((vectors.astype(np.longdouble) ** 2).sum(axis=1)) * np.sqrt((query**2).sum())
            dots = dots / np.where(lengths == 0, 1, lengths)
        rounded = dots.astype(np.float64).astype(np.float32)
        best = sorted(range(len(vectors)), key=lambda row: (rounded[row], ids[row].encode()), reverse=True)[:k]
        rows[i], scores[i] = best, rounded[best]
    return rows, scores


@pytest.fixture(scope="module")
def planted(real_vectors):
    """Real vectors with 60 exact duplicates and 60 that differ in the last bit of one dimension, ids shuffled."""
    rng = np.random.default_rng(0)
    copies = real_vectors[rng.integers(0, len(real_vectors), 60)]
    close = real_vectors[rng.integers(0, len(real_vectors), 60)].copy()
    close[:, 0] = np.nextafter(close[:, 0], np.float32(1))
    vectors = np.concatenate([real_vectors, copies, close, np.repeat(real_vectors[:1], 50, axis=0)])
    return vectors, DocIds.of([f"d{i}" for i in rng.permutation(len(vectors))])


@pytest.mark.parametrize("k", [1, 7, 30, 100, 10_000])
@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_the_list_is_brute_forces_on_real_vectors_with_planted_duplicates(planted, metric, k):
    vectors, ids = planted
    index = Flat(metric)
    index.build(vectors, ids.rank)
    queries = vectors[::40] * np.float32(1.3)
    rows, scores = index.search(Dense(queries), k)
    assert rows.shape == (len(queries), min(k, len(vectors)))
    expected_rows, expected_scores = brute_force(queries, vectors, ids, min(k, len(vectors)), metric == "cosine")
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


@settings(max_examples=15, deadline=None)
@given(tile=st.integers(1, 700), batch=st.integers(1, 20), k=st.integers(1, 120), threads=st.integers(1, 2))
def test_the_list_is_the_same_for_every_tile_batch_and_thread_count(planted, tile, batch, k, threads):
    vectors, ids = planted
    queries = vectors[5:25]
    whole = Flat(tile=10_000)
    whole.build(vectors, ids.rank)
    expected = whole.search(Dense(queries), k)
    cut = Flat(tile=tile)
    cut.build(vectors, ids.rank)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        parts = [cut.search(Dense(queries[at : at + batch]), k) for at in range(0, len(queries), batch)]
    finally:
        torch.set_num_threads(before)
    for got, wanted in zip(zip(*parts, strict=True), expected, strict=True):
        np.testing.assert_array_equal(np.concatenate(got), wanted)


def test_more_ties_than_the_first_candidates_hold_are_found(real_vectors):
    vectors = np.repeat(real_vectors[:2], 300, axis=0)
    ids = DocIds.of([f"d{i:03d}" for i in range(600)])
    index = Flat()
    index.build(vectors, ids.rank)
    rows, _ = index.search(Dense(real_vectors[:1]), 5)
    assert rows.tolist() == [[299, 298, 297, 296, 295]]  # the highest ids among 300 equal vectors


def test_vectors_that_are_not_normalised_are_ranked_by_their_true_products():
    rng = np.random.default_rng(3)
    vectors = (rng.standard_normal((500, 24)) * 10.0 ** rng.integers(-4, 5, (500, 1))).astype(np.float32)
    ids = DocIds.of([str(i) for i in range(500)])
    index = Flat(tile=64)
    index.build(vectors, ids.rank)
    rows, scores = index.search(Dense(vectors[:9]), 50)
    expected_rows, expected_scores = brute_force(vectors[:9], vectors, ids, 50)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


def test_the_fixed_sum_is_a_sum_and_does_not_depend_on_its_neighbours():
    values = torch.from_numpy(np.random.default_rng(0).standard_normal((50, 385)))
    np.testing.assert_allclose(fixed_sum(values), values.sum(-1), rtol=1e-12, atol=1e-12)
    assert torch.equal(fixed_sum(values)[7:8], fixed_sum(values[7:8]))


def test_nan_is_refused_with_its_row(real_vectors):
    broken = real_vectors.copy()
    broken[11, 3] = np.nan
    with pytest.raises(ValueError, match="row 11 is not finite"):
        Flat().build(broken, np.arange(len(broken), dtype=np.int32))
    index = Flat()
    index.build(real_vectors, np.arange(len(real_vectors), dtype=np.int32))
    with pytest.raises(ValueError, match="query vector is not finite"):
        index.search(Dense(broken[11:12]), 3)


def test_queries_of_another_width_are_refused(real_vectors):
    index = Flat()
    index.build(real_vectors, np.arange(len(real_vectors), dtype=np.int32))
    with pytest.raises(ValueError, match="queries have 12 dimensions, the index has 384"):
        index.search(Dense(np.zeros((1, 12), np.float32)), 3)


def test_a_loose_matrix_precision_elsewhere_changes_nothing(planted):
    vectors, ids = planted
    index = Flat()
    index.build(vectors, ids.rank)
    expected = index.search(Dense(vectors[:8]), 20)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = index.search(Dense(vectors[:8]), 20)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
