"""FAISS beside brute force: what it finds, that it is saved, tuned and the same again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from retrieval.faiss_tuning import Effort, tune
from retrieval.indexes.faiss import Faiss
from retrieval.indexes.flat import Flat
from retrieval.protocols import SavedIndex
from retrieval.types import Dense, Sparse
from tests.clustered import brute_force, built, clustered_vectors, share

faiss = pytest.importorskip("faiss", reason="needs faiss: pip install faiss-cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    """Training so little is slower on several."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(scope="module")
def clustered():
    return clustered_vectors()


@pytest.mark.parametrize("metric", ["dot", "cosine"])
@pytest.mark.parametrize(
    ("factory", "parameters"), [("Flat", {}), ("IVF16,Flat", {"nprobe": 16}), ("IVF16_HNSW8,Flat", {"nprobe": 16})]
)
def test_an_exhaustive_search_finds_what_brute_force_does(clustered, metric, factory, parameters):
    vectors, queries, _ = clustered
    rows, scores = built(clustered, factory, metric, parameters=parameters).search(Dense(queries), 50)
    expected, products = brute_force(vectors, queries, 50, metric == "cosine")
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(products, expected, 1), rtol=1e-5)
    assert (rows.dtype, scores.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize(
    ("factory", "least"),
    [("HNSW16", 0.95), ("SQ8", 0.95), ("SQfp16", 0.99), ("PQ8x4", 0.3), ("OPQ2,IVF8,PQ2x4", 0.1)],
)
def test_compressed_and_approximate_kinds_find_most_of_it(clustered, factory, least):
    vectors, queries, rank = clustered
    index = Faiss(factory)
    index.build(vectors[:700], rank[:700])
    rows, _ = index.search(Dense(queries), 10)
    assert share(rows, brute_force(vectors[:700], queries, 10)[0]) >= least


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_rescored_results_are_those_of_flat_to_the_last_bit(clustered, metric):
    vectors, queries, rank = clustered
    exact = Flat(metric)
    exact.build(vectors, rank)
    found = built(clustered, "SQ8", metric, rescore=4).search(Dense(queries), 30)
    for got, wanted in zip(found, exact.search(Dense(queries), 30), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_equal_scores_are_in_the_order_of_ids(clustered):
    vectors, _, rank = clustered
    index = Faiss("Flat")
    index.build(np.repeat(vectors[:30], 5, axis=0), rank[:150])
    rows, scores = index.search(Dense(vectors[:9]), 150)
    better = (scores[:, :-1] > scores[:, 1:]) | (rank[rows[:, :-1]] > rank[rows[:, 1:]])
    assert better.all()


def test_results_that_faiss_does_not_find_are_pads_at_the_end(clustered):
    index = built(clustered, "IVF64,Flat", rescore=2)
    rows, scores = index.search(Dense(clustered[1]), 2000)
    assert rows.shape == (60, 2000)
    assert (rows[:, -1] == -1).all()
    assert np.array_equal(rows == -1, np.isneginf(scores))
    assert (np.diff((rows == -1).astype(int), axis=1) >= 0).all()


def test_more_results_than_documents_are_all_of_them(clustered):
    rows, _ = built(clustered, "Flat").search(Dense(clustered[1][:2]), 10_000)
    assert [sorted(line) for line in rows.tolist()] == [list(range(3000))] * 2


@pytest.mark.parametrize("queries", [0, 2])
def test_no_queries_and_no_documents_are_no_results(clustered, queries):
    index = Faiss("Flat")
    index.build(clustered[0][:0], clustered[2][:0])
    assert index.search(Dense(clustered[1][:queries]), 5)[0].shape == (queries, 0)
    assert built(clustered, "Flat", recall=0.9).search(Dense(clustered[1][:0]), 5)[0].shape == (0, 5)


def test_zero_vectors_have_cosine_0(clustered):
    index = Faiss("Flat", "cosine")
    index.build(np.concatenate([np.zeros((1, 32), np.float32), clustered[0][:9]]), clustered[2][:10])
    rows, scores = index.search(Dense(clustered[1][:3]), 10)
    assert (scores[rows == 0] == 0).all()


@pytest.mark.parametrize("factory", ["HNSW16", "IVF16,Flat", "IVF16,SQ8", "PQ8x4", "RR16,SQfp16", "Flat,RFlat"])
def test_an_index_from_its_folder_finds_the_same(clustered, factory, tmp_path):
    vectors, queries, rank = clustered
    expected = built(clustered, factory).search(Dense(queries), 40)
    for _ in range(2):
        index = Faiss(factory)
        index.open(vectors, rank, tmp_path)
        for got, wanted in zip(index.search(Dense(queries), 40), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
    assert isinstance(index, SavedIndex)


def test_a_saved_index_is_built_once_for_what_only_searches_and_again_for_what_builds(clustered, tmp_path):
    vectors, _, rank = clustered
    for settings in ({}, {"efSearch": 99}, {"efConstruction": 20}):
        Faiss("HNSW8", parameters=settings).open(vectors[:300], rank[:300], tmp_path)
    Faiss("HNSW8", "cosine").open(vectors[:300], rank[:300], tmp_path)
    Faiss("HNSW8", seed=1).open(vectors[:300], rank[:300], tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_vectors_of_a_store_make_the_index_that_an_array_makes(clustered, tmp_path):
    from retrieval.encoding import encode_corpus
    from retrieval.vectors import VectorStore

    vectors, queries, rank = clustered

    class Known:
        def contract(self):
            return {"encoder": "known", "dimensions": 32}

        def encode_docs(self, texts):
            return Dense(vectors[[int(text) for text in texts]])

    encode_corpus(numbered(500, tmp_path / "corpus"), Known(), tmp_path / "vectors", shard=128, health="off")
    index, whole = Faiss("IVF8,Flat"), Faiss("IVF8,Flat")
    index.open(VectorStore(tmp_path / "vectors"), rank[:500], tmp_path / "indexes")
    whole.open(vectors[:500], rank[:500], tmp_path / "other")
    assert index.provenance()["sha256"] == whole.provenance()["sha256"]
    np.testing.assert_array_equal(index.search(Dense(queries), 20)[0], whole.search(Dense(queries), 20)[0])


def numbered(count, folder):
    """A corpus whose texts are their rows."""
    from retrieval.corpus import Corpus

    return Corpus.build([(f"d{i}", "", str(i)) for i in range(count)], folder)


@pytest.mark.parametrize("threads", [1, 3])
def test_two_builds_are_the_same_to_the_last_byte(clustered, threads, tmp_path):
    faiss.omp_set_num_threads(threads)
    for factory in ("HNSW16", "IVF16,SQ8"):
        found = []
        for name in ("one", "two"):
            index = Faiss(factory)
            index.open(clustered[0], clustered[2], tmp_path / name)
            found.append(index.provenance())
        assert found[0]["threads"] == threads
        if found[0]["repeatable"]:
            assert found[0]["sha256"] == found[1]["sha256"]


def test_another_seed_trains_another_index(clustered, tmp_path):
    found = []
    for seed in (0, 1):
        index = Faiss("IVF16,Flat", seed=seed)
        index.open(clustered[0], clustered[2], tmp_path)
        found.append(index.provenance()["sha256"])
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("factory", "rescore", "parameter"),
    [("IVF64,Flat", None, "nprobe"), ("HNSW4", None, "efSearch"), ("IVF64,SQ8", 2, "nprobe")],
)
def test_a_recall_that_was_named_is_reached(clustered, factory, rescore, parameter):
    vectors, queries, _ = clustered
    index = built(clustered, factory, recall=0.95, at=20, rescore=rescore)
    rows, _ = index.search(Dense(queries), 20)
    reached = share(rows, brute_force(vectors, queries, 20)[0])
    assert reached >= 0.95
    about = index.provenance()
    assert about["recall"] == {"named": 0.95, "reached": pytest.approx(reached, abs=1e-4), "at": 20, "queries": 60}
    assert list(about["parameters"]) == [parameter]


def test_the_setting_is_about_the_least_that_reaches_the_recall(clustered):
    vectors, queries, _ = clustered
    index = built(clustered, "IVF64,Flat", recall=0.95, at=20)
    index.search(Dense(queries), 20)
    nprobe = index.provenance()["parameters"]["nprobe"]
    less = built(clustered, "IVF64,Flat", parameters={"nprobe": nprobe - 1}).search(Dense(queries), 20)[0]
    assert 1 < nprobe < 64
    assert share(less, brute_force(vectors, queries, 20)[0]) < 0.95


def test_tuning_is_by_a_sample_of_the_first_queries_and_stays(clustered):
    _, queries, _ = clustered
    indexes = [built(clustered, "IVF64,Flat", recall=0.9, at=10, sample=25) for _ in range(2)]
    first = [index.search(Dense(queries), 10) for index in indexes]
    np.testing.assert_array_equal(first[0][0], first[1][0])
    about = indexes[0].provenance()
    assert about == indexes[1].provenance() | {"build seconds": about["build seconds"]}
    assert about["recall"]["queries"] == 25
    indexes[0].search(Dense(-queries), 10)
    assert indexes[0].provenance() == about


@pytest.mark.parametrize("threshold", [1, 2, 3, 5, 8, 17, 31, 64])
def test_tuning_ends_close_above_the_least_setting(threshold):
    value, found = tune(lambda value: float(value >= threshold), Effort("nprobe", 1, 64), 1.0)
    assert (found, threshold <= value <= threshold + max(1, threshold // 8)) == (1.0, True)


def test_a_recall_out_of_reach_is_an_error_that_says_what_reaches_it(clustered):
    index = built(clustered, "PQ8x4", recall=0.95, at=10)
    with pytest.raises(
        ValueError, match=r"PQ8x4: recall 0.95 at 10 was named, and 0\.\d+ is reached: rescore: \d+"
    ) as error:
        index.search(Dense(clustered[1]), 10)
    factor = int(str(error.value).split("rescore: ")[1].split()[0])
    built(clustered, "PQ8x4", recall=0.95, at=10, rescore=factor).search(Dense(clustered[1]), 10)
    index = built(clustered, "IVF4,PQ1x4", recall=1.0, at=10)
    with pytest.raises(ValueError, match=r"with nprobe 4, the highest, 0\.\d+ is reached: no rescore up to 32 does"):
        index.search(Dense(clustered[1]), 10)


def test_provenance_says_size_time_and_training(clustered, tmp_path):
    index = Faiss("IVF16,SQ8", training=1000)
    assert index.provenance() == {}
    index.open(clustered[0], clustered[2], tmp_path)
    about = index.provenance()
    (file,) = tmp_path.rglob("index.faiss")
    assert about["bytes per vector"] == pytest.approx(file.stat().st_size / 3000, abs=0.05)
    assert 32 + 8 <= about["bytes per vector"] < 48  # a byte a dimension and an id, and the centroids
    assert (about["training vectors"], about["faiss"], about["device"]) == (1000, faiss.__version__, "cpu")
    in_memory = built(clustered, "IVF16,SQ8", training=1000).provenance()
    assert in_memory["bytes per vector"] == about["bytes per vector"]
    assert json.loads(json.dumps(about)) == about


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"recall": 1.5}, "recall is 1.5; it is above 0 and at most 1"),
        ({"recall": 0}, "recall is 0"),
        ({"at": 0}, "at is 0; it is 1 or more"),
        ({"sample": 0}, "sample is 0"),
        ({"rescore": 0}, "rescore is 0"),
        ({"training": 0}, "training is 0"),
        ({"seed": -1}, "seed is -1; faiss takes 0 to 2147483647"),
        ({"metric": "euclidean"}, "metric is one of dot, cosine, not 'euclidean'"),
        ({"recall": 0.9, "parameters": {"nprobe": 3}}, "nprobe is tuned where a recall is named"),
        ({"device": "gpu"}, "device 'gpu' is none of cuda"),
        ({"float16": True}, "float16 is for a GPU"),
        ({"factory": "CAGRA"}, "CAGRA is built on a GPU: name a device"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, problem):
    with pytest.raises(ValueError, match=problem):
        Faiss(**settings)


def test_queries_that_are_not_of_the_index_are_refused(clustered):
    index = built(clustered, "Flat")
    with pytest.raises(ValueError, match="queries have 12 dimensions, the index has 32"):
        index.search(Dense(np.zeros((1, 12), np.float32)), 3)
    with pytest.raises(ValueError, match="a query vector is not finite"):
        index.search(Dense(np.full((1, 32), np.inf, np.float32)), 3)
    with pytest.raises(TypeError, match="faiss searches dense vectors, not Sparse"):
        index.search(Sparse(np.zeros((1, 32))), 3)


def test_a_damaged_folder_is_refused_with_the_way_to_mend_it(clustered, tmp_path):
    vectors, _, rank = clustered
    Faiss("Flat").open(vectors, rank, tmp_path)
    (path,) = tmp_path.rglob("index.faiss")
    content, about = path.read_bytes(), path.with_name("about.json")
    path.write_bytes(content[:-100])
    with pytest.raises(
        ValueError, match=rf"index.faiss has {len(content) - 100} bytes and should have.*delete .*built again"
    ):
        Faiss("Flat").open(vectors, rank, tmp_path)
    path.write_bytes(b"?" * len(content))
    with pytest.raises(ValueError, match="cannot be read"):
        Faiss("Flat").open(vectors, rank, tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="index.faiss is missing: delete"):
        Faiss("Flat").open(vectors, rank, tmp_path)
    about.write_text("{")
    with pytest.raises(ValueError, match="about.json cannot be read"):
        Faiss("Flat").open(vectors, rank, tmp_path)


def test_an_index_of_another_corpus_is_refused(clustered, tmp_path):
    vectors, _, rank = clustered
    Faiss("Flat").open(vectors, rank, tmp_path)
    with pytest.raises(ValueError, match="index of other vectors .documents: 3000 there, 50 here.: delete"):
        Faiss("Flat").open(vectors[:50], rank[:50], tmp_path)


def test_a_build_that_fails_leaves_nothing(clustered, tmp_path):
    broken = clustered[0].copy()
    broken[-1] = np.inf
    with pytest.raises(ValueError, match="row 2999"):
        Faiss("Flat").open(broken, clustered[2], tmp_path)
    assert not list(tmp_path.iterdir())
