"""Late interaction: brute force token by token, one list for every tile and batch, the compressed index beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.ids import DocIds
from retrieval.indexes import late_compressed
from retrieval.indexes.late import Late, _in_fixed_order
from retrieval.indexes.late_compressed import LateCompressed
from retrieval.late_codes import Buckets, kmeans, nearest
from retrieval.types import Dense, Tokens


def packed(texts, width=4):
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    vectors = [np.array(text, np.float32).reshape(-1, width) for text in [[], *texts]]
    return Tokens(np.concatenate(vectors), offsets)


def brute_force(queries, docs, ids, k):
    """MaxSim token by token in long double, sorted by Python: score, then id, descending; empty ones are no results."""
    rows, scores = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
    for i in range(len(queries)):
        query = queries.take([i]).vectors.astype(np.longdouble)
        found = {}
        for row in range(len(docs)):
            doc = docs.take([row]).vectors.astype(np.longdouble)
            if len(doc) and len(query):
                best = [max((token * other).sum() for other in doc) for token in query]
                found[row] = np.float32(np.float64(np.sum(best, dtype=np.longdouble)))
        best = sorted(found, key=lambda row: (found[row], ids[row].encode()), reverse=True)[:k]
        rows[i, : len(best)], scores[i, : len(best)] = best, [found[row] for row in best]
    return rows, scores


def same(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.fixture(scope="module")
def planted():
    """90 documents of 0 to 9 unit vectors, with copies, copies off by the last bit, and empty ones; ids shuffled."""
    rng = np.random.default_rng(0)
    texts = [rng.standard_normal((rng.integers(1, 10), 12)) for _ in range(60)]
    texts = [(text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32) for text in texts]
    close = [text.copy() for text in texts[:10]]
    for text in close:
        text[0, 0] = np.nextafter(text[0, 0], np.float32(1))
    texts += [*texts[5:20], *close, *[np.empty((0, 12), np.float32)] * 5]
    order = rng.permutation(len(texts))
    docs = packed([texts[i] for i in order], 12)
    return docs, packed([*texts[:6], *texts[-1:]], 12), DocIds.of([f"d{i}" for i in rng.permutation(len(texts))])


@pytest.mark.parametrize("k", [1, 7, 40, 1000])
def test_the_list_is_brute_forces_with_planted_duplicates_and_empty_documents(planted, k):
    docs, queries, ids = planted
    index = Late()
    index.build(docs, ids.rank)
    found = index.search(queries, k)
    assert found[0].shape == (len(queries), min(k, len(docs)))
    same(found, brute_force(queries, docs, ids, min(k, len(docs))))


@settings(max_examples=10, deadline=None)
@given(tile=st.integers(1, 500), batch=st.integers(1, 7), k=st.integers(1, 95))
def test_the_list_is_the_same_for_every_tile_and_batch(planted, tile, batch, k):
    docs, queries, ids = planted
    whole, cut = Late(), Late(tile_tokens=tile)
    whole.build(docs, ids.rank)
    cut.build(docs, ids.rank)
    parts = [cut.search(queries.take(range(at, min(at + batch, 7))), k) for at in range(0, 7, batch)]
    same([np.concatenate(part) for part in zip(*parts, strict=True)], whole.search(queries, k))


def test_negative_similarities_are_not_lost_to_padding():
    docs = packed([[[-3.0, 0, 0, 0]], [[-1.0, 0, 0, 0]] * 5, [], [[-2.0, 0, 0, 0], [-4.0, 0, 0, 0]]])
    index = Late()
    index.build(docs, np.arange(4, dtype=np.int32))
    rows, scores = index.search(packed([[[1.0, 0, 0, 0], [2.0, 0, 0, 0]], [[1.0, 0, 0, 0]]]), 4)
    assert rows.tolist() == [[1, 3, 0, -1]] * 2
    assert scores.tolist() == [[-3, -6, -9, -np.inf], [-1, -2, -3, -np.inf]]


def test_a_query_without_vectors_has_no_results_and_is_counted():
    docs = packed([[[1.0, 0, 0, 0]], []])
    index = Late()
    index.build(docs, np.arange(2, dtype=np.int32))
    rows, scores = index.search(packed([[], [[1.0, 0, 0, 0]]]), 2)
    assert rows.tolist() == [[-1, -1], [0, -1]] and scores[1, 0] == 1
    assert index.provenance()["queries without vectors"] == index.provenance()["documents without vectors"] == 1


def test_more_ties_than_the_first_candidates_hold_are_found():
    text = np.random.default_rng(1).standard_normal((3, 4))
    docs = packed([text] * 200)
    ids = DocIds.of([f"d{i:03d}" for i in range(200)])
    index = Late()
    index.build(docs, ids.rank)
    assert index.search(packed([text]), 4)[0].tolist() == [[199, 198, 197, 196]]


def test_vectors_of_any_length_are_ranked_by_their_true_scores():
    rng = np.random.default_rng(3)
    docs = packed([rng.standard_normal((4, 6)) * 10.0 ** rng.integers(-3, 4) for _ in range(80)], 6)
    ids, queries = DocIds.of([str(i) for i in range(80)]), packed([rng.standard_normal((5, 6))] * 2, 6)
    index = Late(tile_tokens=64)
    index.build(docs, ids.rank)
    same(index.search(queries, 30), brute_force(queries, docs, ids, 30))


def test_a_score_at_the_middle_of_two_floats_is_summed_in_one_order():
    query = np.array([[1.0, 2.0**-24, 2.0**-70, 0]], np.float32)  # 1 + half an ulp of float32, and a little more
    docs = packed([[[1.0, 1, 1, 0]], [[1.0, 1, -1, 0]], [[1.0, 1, 0, 0]]])
    index = Late()
    index.build(docs, np.arange(3, dtype=np.int32))
    expected = [_in_fixed_order(query, doc[None]) for doc in docs.vectors]
    assert index.score(query, np.arange(3)).tolist() == expected


def test_no_queries_and_no_documents_give_empty_lists():
    index = Late()
    index.build(packed([]), np.empty(0, np.int32))
    assert index.search(packed([[[1.0, 0, 0, 0]]]), 3)[0].shape == (1, 0)
    index.build(packed([[]]), np.zeros(1, np.int32))
    assert index.search(packed([[[1.0, 0, 0, 0]]]), 3)[0].tolist() == [[-1]]
    assert index.search(packed([]), 3)[0].shape == (0, 1)


def test_nan_other_widths_and_other_kinds_are_refused(planted):
    docs, queries, ids = planted
    broken = Tokens(docs.vectors.copy(), docs.offsets)
    row = int(np.flatnonzero(np.diff(docs.offsets) > 1)[3])
    broken.vectors[docs.offsets[row] + 1, 2] = np.nan
    with pytest.raises(ValueError, match=f"row {row} is not finite"):
        Late().build(broken, ids.rank)
    index = Late()
    index.build(docs, ids.rank)
    with pytest.raises(ValueError, match="query 0 is not finite"):
        index.search(broken.take([row]), 3)
    with pytest.raises(ValueError, match="queries have 4 token dimensions, the index has 12"):
        index.search(packed([[[1.0, 0, 0, 0]]]), 3)
    with pytest.raises(TypeError, match="searches token vectors, not Dense"):
        index.search(Dense(queries.vectors), 3)
    with pytest.raises(ValueError, match="tile_tokens is 0"):
        Late(tile_tokens=0)


@pytest.fixture(scope="module")
def clustered():
    """400 documents of 3 to 20 unit vectors of 32 dimensions around 40 topics' words, and 20 queries of 8."""
    rng = np.random.default_rng(5)
    words = rng.standard_normal((120, 32))

    def text(length, noise):
        topic = rng.integers(0, 40)
        own = words[(topic * 3 + rng.integers(0, 12, length)) % 120]
        vectors = own + noise * rng.standard_normal(own.shape)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    docs = packed([text(rng.integers(3, 21), 0.5) if i % 50 else [] for i in range(400)], 32)
    queries = packed([text(8, 0.3) for _ in range(20)], 32)
    return docs, queries, DocIds.of([f"d{i}" for i in rng.permutation(400)])


def test_compressed_search_finds_nine_in_ten_of_the_exact_ten_best(clustered):
    docs, queries, ids = clustered
    exact, index = Late(), LateCompressed(centroids=128, bits=4, probes=4, candidates=200, recall_queries=20)
    exact.build(docs, ids.rank)
    index.build(docs, ids.rank)
    wanted, (found, scores) = exact.search(queries, 10)[0], index.search(queries, 10)
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(wanted, found, strict=True)])
    assert recall >= 0.9
    about = index.provenance()
    assert about["recall"] == {"k": 10, "queries": 20, "recall": pytest.approx(recall, abs=1e-4)}
    assert about["bytes per token vector"] == 2 + 16 and about["documents without vectors"] == 8
    np.testing.assert_allclose(scores, [exact.score(queries.take([i]).vectors, found[i]) for i in range(20)], atol=0.5)


def test_more_bits_lose_less(clustered):
    docs, _, _ = clustered
    lost = []
    for bits in (1, 2, 4):
        index = LateCompressed(centroids=64, bits=bits)
        index.build(docs, np.arange(len(docs), dtype=np.int32))
        decoded = index.codes.decode(np.arange(len(docs)))
        np.testing.assert_array_equal(decoded.offsets, docs.offsets)
        lost.append(float(np.square(decoded.vectors - docs.vectors).sum(axis=1).mean()))
    assert lost[0] > 2 * lost[1] > 4 * lost[2] and lost[2] < 0.02


def test_with_all_centroids_and_all_candidates_every_document_with_vectors_is_a_candidate(clustered):
    docs, queries, ids = clustered
    index = LateCompressed(centroids=32, probes=1000, candidates=400)
    index.build(docs, ids.rank)
    filled = np.flatnonzero(np.diff(docs.offsets))
    for i in range(len(queries)):
        np.testing.assert_array_equal(index.near(queries.take([i]).vectors), filled)
    rows, _ = index.search(queries, 400)
    assert (np.sort(rows[:, : len(filled)]) == filled).all() and (rows[:, len(filled) :] == -1).all()


def test_the_candidates_are_the_best_by_maxsim_on_centroids(clustered):
    docs, queries, ids = clustered
    index = LateCompressed(centroids=32, probes=32, candidates=15)
    index.build(docs, ids.rank)
    query, filled = queries.take([3]).vectors, np.flatnonzero(np.diff(docs.offsets))
    of = [index.codes.centroids[index.codes.places[docs.offsets[row] : docs.offsets[row + 1]]] for row in filled]
    scores = np.array([(query @ own.T).max(axis=1).sum() for own in of])
    best = filled[scores >= np.sort(scores)[-15]]
    assert len(index.near(query)) == 15 and set(index.near(query)) <= set(best)


def test_a_saved_index_is_opened_again_and_gives_the_same(clustered, tmp_path, monkeypatch):
    docs, queries, ids = clustered
    first, again = LateCompressed(seed=3), LateCompressed(seed=3)
    first.open(docs, ids.rank, tmp_path)
    monkeypatch.setattr(late_compressed, "kmeans", None)  # nothing is built
    again.open(docs, ids.rank, tmp_path)
    same(again.search(queries, 10), first.search(queries, 10))
    assert again.provenance() == first.provenance()
    with pytest.raises(ValueError, match="is of other token vectors"):
        LateCompressed(seed=3).open(docs.take(range(9)), ids.rank[:9], tmp_path)
    with pytest.raises(TypeError):
        LateCompressed(seed=4).open(docs, ids.rank, tmp_path)  # other settings are another index


def test_two_builds_with_a_seed_are_the_same_bytes(clustered, tmp_path):
    docs, _, ids = clustered
    sums = []
    for name in "ab":
        index = LateCompressed()
        index.open(docs, ids.rank, tmp_path / name)
        sums.append(index.files.digests())
    assert sums[0] == sums[1]


def test_compressed_results_do_not_depend_on_the_batch(clustered):
    docs, queries, ids = clustered
    index = LateCompressed(centroids=64, candidates=50)
    index.build(docs, ids.rank)
    parts = [index.search(queries.take([i]), 10) for i in range(len(queries))]
    same([np.concatenate(part) for part in zip(*parts, strict=True)], index.search(queries, 10))


def test_a_compressed_index_leaves_out_queries_and_documents_without_vectors():
    docs = packed([[[1.0, 0, 0, 0]], [], [[0, 1.0, 0, 0]]])
    index = LateCompressed(centroids=2, probes=2)
    index.build(docs, np.arange(3, dtype=np.int32))
    rows, _ = index.search(packed([[], [[1.0, 0, 0, 0]]]), 3)
    assert rows.tolist() == [[-1, -1, -1], [0, 2, -1]] and index.provenance()["queries without vectors"] == 1


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("width", [1, 7, 16])
def test_codes_are_packed_and_unpacked(bits, width):
    residuals = np.random.default_rng(0).standard_normal((300, width)).astype(np.float32)
    buckets = Buckets.fit(residuals, bits)
    codes = buckets.encode(residuals)
    assert codes.shape == (300, -(-width * bits // 8)) and buckets.bits == bits
    place = (residuals[:, None] > buckets.cuts).sum(axis=1)
    np.testing.assert_array_equal(buckets.decode(codes), buckets.means[place, np.arange(width)])
    counts = np.array([np.bincount(place[:, i], minlength=2**bits) for i in range(width)])
    assert counts.max() - counts.min() <= 2  # quantiles


def test_kmeans_finds_separate_clusters_and_nearest_is_the_least_distance():
    rng = np.random.default_rng(0)
    centres = np.eye(4) * 20
    vectors = (np.repeat(centres, 50, axis=0) + rng.standard_normal((200, 4))).astype(np.float32)
    found = kmeans(vectors, 30, 10, 0, torch.device("cpu"))
    distances = np.linalg.norm(vectors[:, None] - found, axis=2)
    np.testing.assert_array_equal(nearest(vectors, found, torch.device("cpu")), distances.argmin(axis=1))
    assert distances.min(axis=1).mean() < 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda docs: LateCompressed(bits=3), "bits is one of 1, 2, 4"),
        (lambda docs: LateCompressed(probes=0), "probes is 0"),
        (lambda docs: LateCompressed(centroids=10).build(docs, np.arange(1)), "10 centroids of 2 token vectors"),
        (lambda docs: LateCompressed().build(docs.take([]), np.arange(0)), "no document has a token vector"),
    ],
)
def test_what_cannot_be_built_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(packed([[[1.0, 0, 0, 0]] * 2]))


def test_more_results_than_candidates_are_refused(clustered):
    docs, queries, ids = clustered
    index = LateCompressed(candidates=20)
    index.build(docs, ids.rank)
    with pytest.raises(ValueError, match="raise candidates to 30"):
        index.search(queries, 30)


def test_nan_is_not_compressed(clustered):
    docs, _, ids = clustered
    broken = Tokens(docs.vectors.copy(), docs.offsets)
    broken.vectors[docs.offsets[7]] = np.nan
    with pytest.raises(ValueError, match="row 7 is not finite"):
        LateCompressed(centroids=8).build(broken, ids.rank)
