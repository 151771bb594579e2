"""Ray: actors that part a corpus give the vectors and the lists of one process."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from retrieval.corpus import Corpus, Document
from retrieval.encoders.transformer import Transformer
from retrieval.encoding import encode_corpus
from retrieval.indexes.flat import Flat
from retrieval.indexes.ray import Ray
from retrieval.ray_engine import encode_on_ray, started
from retrieval.types import Dense
from retrieval.vectors import VectorStore
from tests.conftest import TEXTS


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="needs ray: pip install 'ray[data]'")
    ray.init(num_cpus=3, include_dashboard=False, logging_level="ERROR", log_to_driver=False, object_store_memory=10**8)
    yield ray
    ray.shutdown()


def test_two_actors_encode_and_search_as_one_process_does(cluster, tiny_model, tmp_path):
    corpus = Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(TEXTS)), tmp_path / "corpus")
    encoder = Transformer(str(tiny_model), pooling="mean", dtype="float32", device="cpu")
    encode_corpus(corpus, encoder, tmp_path / "one", shard=64)
    encode_on_ray(corpus, encoder, tmp_path / "ray", "float32", 64, "stop", actors=2)
    one, parted = VectorStore(tmp_path / "one"), VectorStore(tmp_path / "ray")
    np.testing.assert_allclose(parted.rows(np.arange(400)), one.rows(np.arange(400)), atol=1e-6, rtol=0)
    queries = Dense(one.rows(np.arange(0, 400, 7)))
    flat, both = Flat(device="cpu"), Ray(Flat(device="cpu"), actors=2)
    flat.build(one, corpus.ids.rank)
    both.build(one, corpus.ids.rank)
    for expected, found in zip(flat.search(queries, 30), both.search(queries, 30), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert both.search(queries, 1000)[0].shape == (58, 400)  # k is larger than the corpus, and than each part


def test_without_ray_the_error_is_the_line_that_installs_it(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **named):
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ray\[data\]', or the extra `ray`"):
        started()


def test_no_actors_are_refused():
    with pytest.raises(ValueError, match="actors is 0"):
        Ray(Flat(), actors=0)
