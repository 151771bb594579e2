"""FAISS asked for GPUs: what it passes on, on a pretended one, and what it refuses."""

from __future__ import annotations

import pytest

from retrieval.indexes.faiss import Faiss
from retrieval.types import Dense
from tests.clustered import built, clustered_vectors

faiss = pytest.importorskip("faiss", reason="needs faiss: pip install faiss-cpu")


@pytest.fixture(scope="module")
def clustered():
    return clustered_vectors()


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this faiss has GPU support")
def test_a_gpu_that_this_build_has_not_is_refused(clustered, tmp_path):
    with pytest.raises(ModuleNotFoundError, match="has no GPU support; .* pip install faiss-gpu"):
        built(clustered, "Flat", device="cuda")
    Faiss("Flat").open(clustered[0], clustered[2], tmp_path)
    with pytest.raises(ModuleNotFoundError, match="has no GPU support"):
        Faiss("Flat", device="cuda").open(clustered[0], clustered[2], tmp_path)


class Options:
    """What faiss's GPU build has for the options of cloning."""


@pytest.fixture
def pretended(monkeypatch):
    """A faiss that says it has two GPUs, and what it was asked to put on them; the index stays where it is."""
    asked = []
    pretended_names = {
        "StandardGpuResources": Options,
        "GpuClonerOptions": Options,
        "GpuMultipleClonerOptions": Options,
        "GpuParameterSpace": faiss.ParameterSpace,
        "get_num_gpus": lambda: 2,
        "index_cpu_to_gpu": lambda _, number, index, options: asked.append((number, vars(options))) or index,
        "index_cpu_to_all_gpus": lambda index, options: asked.append(("all", vars(options))) or index,
    }
    for name, value in pretended_names.items():
        monkeypatch.setattr(faiss, name, value, raising=False)
    return asked


def test_the_device_says_which_gpus_and_how(clustered, pretended):
    for device in ("cuda", "cuda:1", "cuda:shards", "cuda:replicas"):
        index = built(clustered, "Flat", device=device, float16=True)
        assert index.search(Dense(clustered[1]), 5)[0].shape == (60, 5)
    assert pretended == [
        (0, {"useFloat16": True}),
        (1, {"useFloat16": True}),
        ("all", {"useFloat16": True, "shard": True}),
        ("all", {"useFloat16": True, "shard": False}),
    ]


def test_what_a_gpu_does_not_do_is_refused(clustered, pretended, monkeypatch):
    with pytest.raises(ValueError, match="faiss sees 2 GPUs"):
        built(clustered, "Flat", device="cuda:2")
    with pytest.raises(ValueError, match="k times rescore is 3000, and faiss finds at most 2048 on a GPU"):
        built(clustered, "Flat", device="cuda", rescore=3).search(Dense(clustered[1]), 1000)
    with pytest.raises(ValueError, match="float16 makes no difference to IndexIVFFlat"):
        built(clustered, "IVF8,Flat", device="cuda", float16=True)
    with pytest.raises(ModuleNotFoundError, match="CAGRA.*without cuVS; pip install faiss-gpu-cuvs"):
        built(clustered, "CAGRA", device="cuda")

    def refuse(*_):
        raise RuntimeError("Error in x at y.cpp:1: Error: 'z' failed: This index type is not implemented on GPU.")

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", refuse)
    with pytest.raises(ValueError, match="IndexHNSWFlat cannot be on cuda .This index type is not implemented"):
        built(clustered, "HNSW8", device="cuda")
