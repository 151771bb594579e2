"""Codes are searched exactly for what they stand for; rescoring brings the vectors' own list back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.indexes import quantised
from retrieval.indexes.flat import Flat
from retrieval.indexes.quantised import Quantised
from retrieval.types import Dense, Sparse

DIMENSIONS = 20
VECTORS = np.random.default_rng(0).standard_normal((300, DIMENSIONS)).astype(np.float32)
VECTORS[::50] = VECTORS[0]  # equal documents
QUERIES = np.random.default_rng(1).standard_normal((7, DIMENSIONS)).astype(np.float32)
RANK = np.random.default_rng(2).permutation(len(VECTORS)).astype(np.int32)


def built(index, vectors=VECTORS):
    index.build(vectors, RANK[: len(vectors)] if len(vectors) < len(RANK) else RANK)
    return index


def stands_for(code, vectors):
    """What the codes of float64 vectors stand for, straight from the definitions."""
    if code == "binary":
        return np.where(vectors > 0, 1.0, -1.0)
    if code == "int8":
        scale = np.abs(vectors).max(axis=0) / 127
        return np.rint(vectors / scale) * scale
    return vectors.astype(code).astype(np.float64)


def brute_force(queries, vectors, k, cosine):
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    if cosine:
        scores /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
    scores = scores.astype(np.float32)
    rows = np.stack([np.lexsort((-RANK, -line))[:k] for line in np.round(scores, 5)])
    return rows, np.take_along_axis(scores, rows, axis=1)


@pytest.mark.parametrize("metric", ["dot", "cosine"])
@pytest.mark.parametrize("dimensions", [None, 13])
@pytest.mark.parametrize("code", ["float32", "float16", "int8", "binary"])
def test_the_list_is_brute_forces_over_what_the_codes_stand_for(code, dimensions, metric):
    cut = VECTORS[:, :dimensions].astype(np.float64)
    if metric == "cosine":
        cut /= np.linalg.norm(cut, axis=1, keepdims=True)
    wanted_rows, wanted = brute_force(QUERIES[:, :dimensions], stands_for(code, cut), 25, metric == "cosine")
    rows, scores = built(Quantised(code, dimensions, metric=metric)).search(Dense(QUERIES), 25)
    np.testing.assert_allclose(scores, wanted, rtol=2e-5, atol=2e-5)
    assert np.mean(rows == wanted_rows) > 0.98  # scores that differ in the last bits may swap


@pytest.mark.parametrize("metric", ["dot", "cosine"])
@pytest.mark.parametrize("code", ["int8", "binary"])
def test_rescoring_every_document_gives_flats_list(code, metric):
    index = built(Quantised(code, dimensions=3, rescore=len(VECTORS), metric=metric))
    for got, wanted in zip(
        index.search(Dense(QUERIES), 30), built(Flat(metric)).search(Dense(QUERIES), 30), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)


def test_rescoring_orders_the_candidates_of_the_codes_by_the_vectors():
    candidates, _ = built(Quantised("binary")).search(Dense(QUERIES), 20)
    rows, scores = built(Quantised("binary", rescore=4)).search(Dense(QUERIES), 5)
    exact = np.einsum("qd,qkd->qk", QUERIES.astype(np.float64), VECTORS[candidates].astype(np.float64))
    np.testing.assert_allclose(scores, -np.sort(-exact, axis=1)[:, :5], rtol=1e-6)
    assert all({*found} <= {*among} for found, among in zip(rows.tolist(), candidates.tolist(), strict=True))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), magnitude=st.integers(-20, 20))
def test_int8_is_at_most_half_a_step_off(seed, magnitude):
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_normal((9, 5)) * 10.0**magnitude).astype(np.float32)
    vectors[:, 2] = 0
    codes = built(Quantised("int8"), vectors).codes
    assert codes.numbers.dtype == np.int8
    steps = np.abs(vectors.astype(np.float64)).max(axis=0) / 127
    assert (np.abs(codes[np.arange(9)] - vectors.astype(np.float64)) <= steps * 0.5001).all()


@pytest.mark.parametrize("code", ["float32", "float16", "int8", "binary"])
def test_the_list_is_the_same_for_every_tile_and_batch(code, monkeypatch):
    whole = built(Quantised(code, 17, rescore=2, metric="cosine")).search(Dense(QUERIES), 40)
    monkeypatch.setattr(quantised, "TILE", 37)
    index = built(Quantised(code, 17, rescore=2, metric="cosine"))
    parts = [index.search(Dense(QUERIES[at : at + 2]), 40) for at in range(0, len(QUERIES), 2)]
    for got, wanted in zip(zip(*parts, strict=True), whole, strict=True):
        np.testing.assert_array_equal(np.concatenate(got), wanted)


def test_equal_codes_come_in_the_order_of_rank():
    vectors = np.ones((6, 9), np.float32) * np.arange(1, 7, dtype=np.float32)[:, None]
    index = Quantised("binary")
    index.build(vectors, np.array([3, 5, 0, 4, 2, 1], np.int32))
    assert index.search(Dense(vectors[:1]), 6)[0].tolist() == [[1, 3, 0, 4, 5, 2]]


@pytest.mark.parametrize("rescore", [None, 3])
def test_more_results_than_documents_are_all_documents(rescore):
    rows, scores = built(Quantised(rescore=rescore), VECTORS[:8]).search(Dense(QUERIES), 50)
    assert rows.shape == scores.shape == (len(QUERIES), 8)
    assert (np.sort(rows, axis=1) == np.arange(8)).all()


def test_a_code_takes_the_bytes_it_says():
    sizes = {
        ("float32", None): 80,
        ("float16", None): 40,
        ("int8", None): 20,
        ("binary", None): 3,
        ("int8", 10): 10,
        ("binary", 8): 1,
    }
    for (code, dimensions), size in sizes.items():
        index = built(Quantised(code, dimensions))
        assert index.provenance()["bytes per vector"] == size == index.codes.numbers.nbytes / len(VECTORS)
        assert "bytes per vector rescored" not in index.provenance()
    about = built(Quantised("int8", rescore=2)).provenance()
    assert about["bytes per vector rescored"] == 80
    assert about["largest scale"] == pytest.approx(np.abs(VECTORS).max() / 127)
    assert Quantised().provenance() == {}


def test_a_cut_beyond_the_vectors_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match="dimensions is 21, and the vectors have 20"):
        built(Quantised(dimensions=21))


@pytest.mark.parametrize("code", ["float32", "float16", "int8", "binary"])
def test_nan_is_refused_with_its_row_even_beyond_the_cut(code):
    broken = VECTORS.copy()
    broken[11, 9] = np.nan
    with pytest.raises(ValueError, match="row 11 is not finite"):
        built(Quantised(code, dimensions=4), broken)
    with pytest.raises(ValueError, match="query vector is not finite"):
        built(Quantised(code, dimensions=4)).search(Dense(broken[11:12]), 3)


def test_what_float16_cannot_hold_is_refused_with_its_row():
    large = VECTORS.copy()
    large[5, 1] = 1e5
    with pytest.raises(ValueError, match="row 5 has a value beyond float16's 65504"):
        built(Quantised("float16"), large)
    built(Quantised("float16", metric="cosine"), large)  # of length 1 there


def test_queries_of_another_width_or_kind_are_refused():
    with pytest.raises(ValueError, match="queries have 12 dimensions, the index has 20"):
        built(Quantised(dimensions=12)).search(Dense(QUERIES[:, :12]), 3)
    with pytest.raises(TypeError, match="dense vectors, not Sparse"):
        built(Quantised()).search(Sparse(None), 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"code": "int4"}, "code is one of float32, float16, int8, binary, not 'int4'"),
        ({"metric": "l2"}, "metric is one of dot, cosine, not 'l2'"),
        ({"dimensions": 0}, "dimensions is 0"),
        ({"rescore": 0}, "rescore is 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Quantised(**wrong)
