"""The inverted index over sparse vectors: what it refuses, and its order of ties. Products are checked elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from retrieval.indexes.inverted import Inverted, falling
from retrieval.sparse_search import Impacts, WeightedTerms
from retrieval.types import Dense, Sparse


class Store:
    """Sparse vectors in memory, in two shards."""

    def __init__(self, folder, matrix):
        self.folder, self.shape, self.matrix, self.digest = folder, matrix.shape, matrix, str(matrix.tolist())

    def chunks(self):
        half = len(self.matrix) // 2
        yield csr_array(self.matrix[:half])
        yield csr_array(self.matrix[half:])


MATRIX = np.array([[1, 0, 0.5], [0, 2, 0], [1, 0, 0.5], [0, 0, 0], [1, 0, 0.25]], np.float32)
RANK = np.arange(5, dtype=np.int32)


def sparse(*rows):
    return Sparse(csr_array(np.array(rows, np.float32)))


@pytest.fixture
def index(tmp_path):
    index = Inverted()
    index.build(Store(tmp_path, MATRIX), RANK)
    return index


def test_products_and_ties(index):
    rows, scores = index.search(sparse([2, 0, 1], [0, 0, 0], [0, 3, 0]), 9)
    assert rows.tolist() == [[2, 0, 4, -1, -1], [-1] * 5, [1, -1, -1, -1, -1]]
    np.testing.assert_array_equal(scores[0], np.float32([2.5, 2.5, 2.25, -np.inf, -np.inf]))


@pytest.mark.parametrize("device", [None, "cpu"])
def test_the_device_changes_nothing(device, tmp_path):
    index = Inverted(device=device, ties="lucene")
    index.build(Store(tmp_path, MATRIX), RANK)
    rows, scores = index.search(sparse([2, 0, 1]), 3)
    assert rows.tolist() == [[0, 2, 4]] and scores[0, 1] == np.nextafter(np.float32(2.5), np.float32(0))


def test_an_index_is_built_once(index, tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "chunks", None)
    again = Inverted()
    again.build(Store(tmp_path, MATRIX), RANK)
    np.testing.assert_array_equal(again.search(sparse([1, 1, 1]), 5)[0], index.search(sparse([1, 1, 1]), 5)[0])


def test_an_index_cut_short_is_an_error(index, tmp_path):
    path = tmp_path / "inverted" / "docs"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="docs has 27 bytes and should have 28: delete"):
        Inverted().build(Store(tmp_path, MATRIX), RANK)


@pytest.mark.parametrize("other", [MATRIX[:4], 2 * MATRIX], ids=["fewer", "heavier"])
def test_an_index_of_other_vectors_is_refused(index, tmp_path, other):
    with pytest.raises(ValueError, match="is not of the vectors beside it, or of another corpus: delete it"):
        Inverted().build(Store(tmp_path, other), RANK[: len(other)])


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_weights_that_are_negative_or_no_number_are_refused(index, weight):
    with pytest.raises(ValueError, match=rf"query 1: the weight of a term is {weight}; weights are 0 or more"):
        index.search(sparse([1, 0, 0], [0, weight, 1]), 3)


def test_other_kinds_and_widths_of_queries_are_refused(index):
    with pytest.raises(TypeError, match="inverted searches sparse vectors, not Dense"):
        index.search(Dense(np.ones((1, 3), np.float32)), 3)
    with pytest.raises(ValueError, match="queries have 4 dimensions, the index 3: not of the same encoder"):
        index.search(sparse([1, 0, 0, 1]), 3)


def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    index = Inverted(device="cuda")
    index.build(Store(tmp_path, MATRIX), RANK)
    with pytest.raises(ValueError, match="device 'cuda': this machine, or this build of torch, has no CUDA device"):
        index.search(sparse([1, 0, 0]), 3)


def test_scores_that_are_equal_are_made_to_fall():
    one = np.float32(1)
    below = np.nextafter(one, np.float32(0))
    scores = np.array([[2, 1, 1, below, 0.5, -np.inf]], np.float32)
    rows = np.array([[0, 1, 2, 3, 4, -1]], np.int32)
    found = falling(rows, scores)
    assert (np.diff(found[0, :5]) < 0).all() and found[0, 0] == 2 and found[0, 1] == 1 and np.isneginf(found[0, 5])
    np.testing.assert_allclose(found[0, :5], scores[0, :5], rtol=1e-6)


def test_highest_impacts_are_those_of_sorting():
    rng = np.random.default_rng(0)
    counts = [0, 1, 9, 10, 11, 150, 1000, 2500]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    impacts = rng.random(offsets[-1]).astype(np.float32)
    index = Impacts.of(offsets, np.zeros(len(impacts), np.int32), impacts)
    for term, count in enumerate(counts):
        falls = np.sort(impacts[offsets[term] : offsets[term + 1]])[::-1]
        expected = [falls[depth - 1] if depth <= count else 0 for depth in (1, 10, 100, 1000)]
        np.testing.assert_array_equal(index.highest[:, term], np.float32(expected))


def test_terms_without_documents_cost_nothing():
    index = Inverted()
    index.open(Impacts.of(np.zeros(4, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32)), RANK)
    asked = WeightedTerms(np.array([0, 2]), np.array([0, 2], np.int32), np.ones(2))
    assert (index.find(asked, 3)[0] == -1).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_torch_reads_any_kind_of_impacts(dtype):
    impacts = np.array([3, 255, 1, 2], dtype)
    asked = WeightedTerms(np.array([0, 2, 3]), np.array([0, 1, 1], np.int32), np.array([1.5, 2.0, 1.0]))
    found = []
    for device in (None, "cpu"):
        index = Inverted(device=device)
        index.open(Impacts.of(np.array([0, 2, 4]), np.array([0, 3, 0, 1], np.int32), impacts), RANK)
        found.append(index.find(asked, 5))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert found[0][0][0].tolist() == [3, 0, 1, -1, -1] and found[0][1][0, 0] == 382.5


def test_torch_takes_a_few_queries_at_a_time(monkeypatch):
    from retrieval import torch_sparse

    monkeypatch.setattr(torch_sparse, "CELLS", 20)
    rng = np.random.default_rng(0)
    impacts = Impacts.of(np.arange(0, 41, 10), np.tile(np.arange(10, dtype=np.int32), 4), rng.random(40).astype("f4"))
    asked = WeightedTerms(np.array([0, 1, 1, 4, 6]), np.array([0, 1, 2, 3, 0, 3], np.int32), np.ones(6))
    found = []
    for device in (None, "cpu"):
        index = Inverted(device=device)
        index.open(impacts, np.arange(10, dtype=np.int32))
        found.append(index.find(asked, 10))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
