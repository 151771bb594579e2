"""What FAISS is given, and the factories, parameters and vectors that are refused."""

from __future__ import annotations

import builtins
import logging

import numpy as np
import pytest

from retrieval.faiss_index import Blocks
from retrieval.indexes.faiss import Faiss
from tests.clustered import built, clustered_vectors

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


def test_few_training_vectors_are_told_of_once(clustered, caplog, capfd):
    with caplog.at_level(logging.WARNING):
        built(clustered, "IVF100,PQ4x4")
    assert "3000 vectors train 100 centroids; 3900 make good ones" in caplog.text
    assert "WARNING" not in capfd.readouterr().err  # faiss's own, one for each k-means


@pytest.mark.parametrize(
    ("factory", "problem"),
    [
        ("IVFx,Flat", r"'IVFx,Flat' makes no index of 32 dimensions \(could not parse.*such as Flat; HNSW32"),
        ("", "'' makes no index"),
        ("PQ5", r"'PQ5' makes no index of 32 dimensions \(The dimension of the vector \(d\) should be a multiple"),
        ("HNSW32,PQ4", "IndexHNSWPQ has no inner products in faiss"),
        ("PCAR16,Flat", "PCAMatrix changes inner products; rotate with OPQ or RR"),
        ("L2norm,Flat", "NormalizationTransform changes inner products"),
        ("IDMap,Flat", "leave IDMap out"),
        (
            "IVF4000,Flat",
            "has 4000 centroids and 3000 vectors to train on: it needs at least 4000, and 156000 for good",
        ),
    ],
)
def test_a_factory_that_makes_no_index_is_refused(clustered, factory, problem):
    with pytest.raises(ValueError, match=problem):
        built(clustered, factory)


@pytest.mark.parametrize("factory", ["PQ8", "OPQ8,PQ8x4"])
def test_too_few_vectors_for_a_codebook_are_refused(clustered, factory):
    with pytest.raises(ValueError, match="has 256 centroids and 200 vectors to train on"):
        Faiss(factory).build(clustered[0][:200], clustered[2][:200])


def test_training_that_would_be_ignored_is_refused(clustered):
    with pytest.raises(ValueError, match="'HNSW32' is not trained: leave `training` out"):
        built(clustered, "HNSW32", training=100)
    with pytest.raises(ValueError, match="training is 200000, and of 'IVF16,Flat' at most 100000 are used"):
        built(clustered, "IVF16,Flat", training=200_000)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"nprobes": 4}, "the index has no 'nprobes'; those of its search: nprobe"),
        ({"efSearch": 4}, "the index has no 'efSearch'"),
        ({"nprobe": 0}, "nprobe is 0; it is 1 or more"),
    ],
)
def test_a_parameter_that_the_index_has_not_is_refused(clustered, parameters, problem):
    with pytest.raises(ValueError, match=problem):
        built(clustered, "IVF16,Flat", parameters=parameters)


@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat"])
def test_a_vector_that_is_not_finite_is_refused_with_its_row(clustered, factory):
    broken = clustered[0].copy()
    broken[11, 3] = np.nan
    with pytest.raises(ValueError, match="row 11 is not finite"):
        Faiss(factory).build(broken, clustered[2])


def test_without_the_package_the_error_is_the_line_that_installs_it(clustered, monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name == "faiss":
            raise ModuleNotFoundError("No module named 'faiss'", name="faiss")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ModuleNotFoundError, match="pip install faiss-cpu .the extra `cpu`."):
        Faiss("Flat").build(clustered[0], clustered[2])


def test_blocks_are_of_unit_length_for_cosines_and_as_they_are_for_products(clustered):
    vectors = clustered[0]
    (dots,), (units,) = Blocks(vectors, "dot"), Blocks(vectors, "cosine")
    np.testing.assert_array_equal(dots, vectors)
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(Blocks(vectors, "dot").sample(9, 3), Blocks(vectors, "dot").sample(9, 3))


def test_polysemous_training_is_only_for_its_filter(clustered):
    plain, filtered = built(clustered, "PQ2x4"), built(clustered, "PQ2x4", parameters={"ht": 8})
    trained = [faiss.downcast_index(index.index).do_polysemous_training for index in (plain, filtered)]
    assert trained == [False, True]
