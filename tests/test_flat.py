"""Exact search gives one list, whatever the tiles, batches and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import pair_scores
from retrieval.corpus import Corpus
from retrieval.encoding import encode_corpus
from retrieval.exact import fixed_sum, gather_there
from retrieval.ids import DocIds
from retrieval.indexes import flat
from retrieval.indexes.flat import Flat
from retrieval.order import order
from retrieval.pair_scores import fixed_dot
from retrieval.ranking import rank_lines
from retrieval.sparse_search import Ties
from retrieval.threads import Threads, read_ahead
from retrieval.types import Dense
from retrieval.vectors import VectorStore


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


def built(vectors, ids, *settings_, **named):
    index = Flat(*settings_, **named)
    index.build(vectors, ids.rank)
    return index


def same(found, expected):
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@settings(max_examples=12, deadline=None)
@given(
    metric=st.sampled_from(["dot", "cosine"]),
    tile=st.integers(1, 700),
    device=st.sampled_from(["cpu", ["cpu"], ["cpu", "cpu"], ["cpu"] * 3]),
    resident=st.booleans(),
    batch=st.integers(3, 12),
    k=st.integers(1, 120),
    threads=st.integers(1, 3),
)
def test_the_list_is_the_same_for_every_tile_device_batch_and_thread_count(
    planted, metric, tile, device, resident, batch, k, threads
):
    vectors, ids = planted
    queries = vectors[5:17]
    expected = built(vectors, ids, metric, tile=10_000).search(Dense(queries), k)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        cut = built(vectors, ids, metric, device, tile, resident)
        parts = [cut.search(Dense(queries[at : at + batch]), k) for at in range(0, len(queries), batch)]
    finally:
        torch.set_num_threads(before)
    same([np.concatenate(part) for part in zip(*parts, strict=True)], expected)


@pytest.mark.parametrize("k", [1, 30, 400])
@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_what_a_gpu_brings_back_gives_the_same_list(planted, metric, k, monkeypatch):
    vectors, ids = planted
    expected = built(vectors, ids, metric).search(Dense(vectors[:30]), k)

    def multiply(queries, device, tiles, found):
        for first, tile in tiles:
            gather_there(torch.from_numpy(queries), first, tile, found)

    monkeypatch.setattr(flat, "multiply", multiply)
    same(built(vectors, ids, metric, tile=64).search(Dense(vectors[:30]), k), expected)


def test_documents_that_are_many_tiles_and_more_than_a_query_holds_are_searched():
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((20_000, 16)).astype(np.float32)
    vectors = vectors[np.argsort(vectors[:, 0])]  # scores rise, so that candidates are pushed out again and again
    ids, queries = DocIds.of([str(i) for i in range(len(vectors))]), vectors[:3] * np.float32(0) + vectors[-1:]
    found = built(vectors, ids, tile=999).search(Dense(queries), 50)
    same(found, brute_force(queries, vectors, ids, 50))


class Kept:
    """An encoder of numbers: text i has vector i."""

    def __init__(self, vectors):
        self.vectors = vectors

    def encode_docs(self, texts):
        return Dense(self.vectors[[int(text) for text in texts]])

    def contract(self):
        return {"encoder": "kept", "dimensions": self.vectors.shape[1], "normalize": False}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_stored_vectors_give_the_lists_of_the_same_vectors_in_memory(planted, tmp_path, dtype, metric, monkeypatch):
    monkeypatch.setattr(pair_scores, "CHUNK", 50 * 384)  # documents are scored again in several parts
    vectors, _ = planted
    corpus = Corpus.build([(f"d{i}", "", str(i)) for i in range(len(vectors))], tmp_path / "c")
    encode_corpus(corpus, Kept(vectors), tmp_path / "v", dtype, shard=100, health="warn")
    store = VectorStore(tmp_path / "v")
    there = store.rows(np.arange(len(store)))
    expected = built(there, corpus.ids, metric).search(Dense(vectors[:20]), 40)
    for named in ({}, {"tile": 33}, {"tile": 33, "device": ["cpu", "cpu"]}, {"tile": 64, "resident": True}):
        same(built(store, corpus.ids, metric, **named).search(Dense(vectors[:20]), 40), expected)


class Counted:
    """Vectors that count how often each row is read as part of a tile."""

    def __init__(self, vectors):
        self.vectors, self.shape, self.read = vectors, vectors.shape, np.zeros(len(vectors), int)

    def __len__(self):
        return len(self.vectors)

    def __getitem__(self, rows):
        if isinstance(rows, slice):
            self.read[rows] += 1
        return self.vectors[rows]


@pytest.mark.parametrize("device", ["cpu", ["cpu", "cpu"]])
def test_all_queries_share_one_pass_over_the_documents_and_resident_ones_are_not_read_again(planted, device):
    vectors, ids = planted
    for resident, expected in ((False, 1), (True, 0)):
        counted = Counted(vectors)
        index = built(counted, ids, "dot", device, 100, resident)
        counted.read[:] = 0
        index.search(Dense(np.repeat(vectors, 4, axis=0)), 3)
        assert set(counted.read.tolist()) == {expected}


def test_more_ties_than_the_first_candidates_hold_are_found(real_vectors):
    vectors = np.repeat(real_vectors[:2], 300, axis=0)
    ids = DocIds.of([f"d{i:03d}" for i in range(600)])
    index = Flat()
    index.build(vectors, ids.rank)
    rows, _ = index.search(Dense(real_vectors[:1]), 5)
    assert rows.tolist() == [[299, 298, 297, 296, 295]]  # the highest ids among 300 equal vectors


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_more_ties_than_a_query_has_room_for_are_found(real_vectors, metric):
    vectors = np.repeat(real_vectors[:2], 4000, axis=0)
    ids = DocIds.of([f"d{i:04d}" for i in range(8000)])
    queries = np.concatenate([real_vectors[:1], np.zeros((1, 384), np.float32), real_vectors[5:6]])
    rows, scores = built(vectors, ids, metric, tile=512).search(Dense(queries), 5)
    assert rows[0].tolist() == [3999, 3998, 3997, 3996, 3995]
    assert rows[1].tolist() == [7999, 7998, 7997, 7996, 7995]  # the zero vector is as far from all
    assert (scores[1] == 0).all()
    assert len(set(scores[2].tolist())) == 1


def test_zero_vectors_have_cosine_zero(real_vectors):
    vectors = np.concatenate([real_vectors[:3], np.zeros((2, 384), np.float32), -real_vectors[:1]])
    ids = DocIds.of([f"d{i}" for i in range(6)])
    rows, scores = built(vectors, ids, "cosine").search(Dense(real_vectors[:1]), 6)
    assert rows[0].tolist()[-3:] == [4, 3, 5]
    assert scores[0].tolist()[-3:] == [0, 0, -1]


def test_products_that_float32_holds_with_few_digits_are_ranked_by_their_true_values():
    rng = np.random.default_rng(3)
    vectors = (rng.standard_normal((5000, 24)) * 1e-21).astype(np.float32)
    ids, queries = DocIds.of([str(i) for i in range(5000)]), vectors[:20]  # products of about 1e-42 have 3 digits
    same(built(vectors, ids).search(Dense(queries), 1000), brute_force(queries, vectors, ids, 1000))
    expected = brute_force(queries, vectors, ids, 1000, cosine=True)
    same(built(vectors, ids, "cosine").search(Dense(queries), 1000), expected)


def test_vectors_whose_products_pass_float32_are_refused():
    vectors = np.full((3, 4), 1e20, np.float32)
    index = built(vectors, DocIds.of(["a", "b", "c"]))
    with pytest.raises(ValueError, match="more than float32 holds"):
        index.search(Dense(vectors[:1]), 1)
    rows, _ = built(vectors, DocIds.of(["a", "b", "c"]), "cosine").search(Dense(vectors[:1]), 1)
    assert rows.tolist() == [[2]]


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


def in_fixed_order(query, doc):
    return fixed_sum(torch.from_numpy(query).double() * torch.from_numpy(doc).double()).item()


@settings(max_examples=50, deadline=None)
@given(width=st.integers(1, 70), seed=st.integers(0, 2**32 - 1), spread=st.integers(0, 9))
def test_the_compiled_sum_has_the_bits_of_the_fixed_sum(width, seed, spread):
    rng = np.random.default_rng(seed)
    pair = (rng.standard_normal((2, width)) * 10.0 ** rng.integers(-spread, spread + 1, (2, width))).astype(np.float32)
    assert fixed_dot(pair, 0, pair[1]) == in_fixed_order(*pair)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([1.0, -1.0, 2.0**-24, -(2.0**-24), 2.0**-53, 2.0**-54, 3.0, 0.0]), min_size=1))
def test_a_score_between_two_float32_numbers_is_rounded_as_the_fixed_order_has_it(values):
    docs, query = np.array([values], np.float32), np.ones((1, len(values)), np.float32)
    scores = built(docs, DocIds.of(["d"])).score(query, np.zeros((1, 1), np.int32))
    assert scores[0, 0] == np.float32(in_fixed_order(query[0], docs[0]))


def test_pairs_are_scored_in_the_fixed_order(planted):
    vectors, ids = planted
    rows = np.random.default_rng(0).integers(0, len(vectors), (5, 40))
    scores = built(vectors, ids).score(vectors[:5], rows)
    expected = [[np.float32(in_fixed_order(vectors[q], vectors[row])) for row in rows[q]] for q in range(5)]
    np.testing.assert_array_equal(scores, expected)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_compiled_lists_are_in_the_one_order(data):
    documents, k = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 12))
    rank = np.array(data.draw(st.permutations(range(documents))), np.int32)
    counts = np.array(data.draw(st.lists(st.integers(0, documents), min_size=1, max_size=4)))
    rows = np.full((len(counts), max(documents, k)), -1, np.int32)
    scores = np.full(rows.shape, -np.inf, np.float32)
    for line, count in enumerate(counts):
        rows[line, :count] = data.draw(st.permutations(range(documents)))[:count]
        values = st.sampled_from([1.5, 0.0, -0.0, -1.5, 1e-45, -1e-45, 3e38, -3e38])
        scores[line, :count] = [data.draw(values) for _ in range(count)]
    best = np.empty((len(counts), k), np.int32), np.empty((len(counts), k), np.float32)
    rank_lines(rows, scores, counts, Ties.of(rank), best, np.arange(len(counts)), Threads())
    same(best, order(rows, scores, rank, k))


def test_ranks_of_a_part_of_a_corpus_break_ties_too(real_vectors):
    index = Flat()
    index.build(np.repeat(real_vectors[:1], 4, axis=0), np.array([700, 12, 900, 400], np.int32))
    assert index.search(Dense(real_vectors[:1]), 3)[0].tolist() == [[2, 0, 3]]


def test_a_search_leaves_torch_as_many_threads_as_it_had(real_vectors):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        built(real_vectors, DocIds.of([str(i) for i in range(400)])).search(Dense(real_vectors), 5)
        with ThreadPoolExecutor(1) as another:
            assert [torch.get_num_threads(), another.submit(torch.get_num_threads).result()] == [2, 2]
    finally:
        torch.set_num_threads(before)


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


@pytest.mark.parametrize("row", [-1, 400])
def test_rows_that_there_are_not_are_refused(real_vectors, row):
    index = built(real_vectors, DocIds.of([str(i) for i in range(400)]))
    with pytest.raises(IndexError, match="of 400 vectors"):
        index.score(real_vectors[:1], np.array([[0, row]], np.int32))


def test_no_query_no_document_and_no_depth_give_empty_lists(real_vectors):
    ids = DocIds.of([str(i) for i in range(400)])
    assert [part.shape for part in built(real_vectors, ids).search(Dense(real_vectors[:0]), 5)] == [(0, 5)] * 2
    assert [part.shape for part in built(real_vectors, ids).search(Dense(real_vectors[:3]), 0)] == [(3, 0)] * 2
    empty = built(real_vectors[:0], DocIds.of([]))
    assert [part.shape for part in empty.search(Dense(real_vectors[:3]), 5)] == [(3, 0)] * 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_there_is_not_is_an_error(real_vectors):
    for device in ("cuda", ["cpu", "cuda:1"]):
        with pytest.raises(ValueError, match="no CUDA device"):
            Flat(device=device).build(real_vectors, np.arange(400, dtype=np.int32))


@pytest.mark.parametrize(
    ("named", "message"),
    [({"tile": 0}, "tile is 0"), ({"device": []}, "empty list"), ({"metric": "euclid"}, "one of dot, cosine")],
)
def test_impossible_settings_are_refused(named, message):
    with pytest.raises(ValueError, match=message):
        Flat(**named)


def test_what_fails_while_it_is_read_ahead_fails_where_it_is_used():
    def items():
        yield 1
        raise OSError("disk")

    ahead = read_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk"):
        next(ahead)
