"""FAISS on GPUs. Written after faiss's documentation; no GPU was at hand to run it on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np

from retrieval.faiss_index import parts, reason

__all__ = ["CAGRA", "LARGEST", "cagra", "check_device", "require_gpu", "search_cagra", "to_gpu"]

CAGRA = "CAGRA"  # its factory string here: faiss has none
LARGEST = 2048  # results, and lists probed, that faiss's kernels take
HALVED = ("IndexFlat", "IndexFlatIP", "IndexIVFPQ")  # whose vectors, or tables, can be float16 on a GPU


def check_device(device: str | None, float16: bool, factory: str) -> None:
    """Raises ValueError for a device that is none, and for what only a GPU does where none is named."""
    if device is not None and not re.fullmatch(r"cuda(:(\d+|shards|replicas))?", device):
        named = "cuda, cuda:1, cuda:shards (parted over all GPUs) or cuda:replicas (a copy on each)"
        raise ValueError(f"device {device!r} is none of {named}; leave it out for the processor")
    if device is None and float16:
        raise ValueError("float16 is for a GPU: name a device, or take the factory SQfp16, which halves vectors")
    if device is None and factory == CAGRA:
        raise ValueError("CAGRA is built on a GPU: name a device, such as cuda")


def require_gpu(faiss: ModuleType, device: str | None) -> None:
    """Raises ModuleNotFoundError for a build without GPUs, ValueError where there are not as many."""
    if device is None:
        return
    if not hasattr(faiss, "StandardGpuResources"):
        fix = "pip uninstall faiss-cpu, then pip install faiss-gpu (the extra `gpu`); or leave device out"
        raise ModuleNotFoundError(f"device {device!r}: this faiss {faiss.__version__} has no GPU support; {fix}")
    if _number(device) >= faiss.get_num_gpus():
        raise ValueError(f"device {device!r}: faiss sees {faiss.get_num_gpus()} GPUs; name another, or leave it out")


def to_gpu(faiss: ModuleType, index: Any, device: str, float16: bool) -> Any:
    """The index on one GPU, parted over all, or copied to all. Raises ValueError for a kind that GPUs do not take."""
    kind = next(name for part in parts(index) if (name := type(part).__name__) != "IndexPreTransform")
    if float16 and kind not in HALVED:
        raise ValueError(f"float16 makes no difference to {kind} on a GPU: leave it out, or take a factory of SQfp16")
    several = device.endswith(("shards", "replicas"))
    options = faiss.GpuMultipleClonerOptions() if several else faiss.GpuClonerOptions()
    options.useFloat16 = float16
    try:
        if not several:
            return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), _number(device), index, options)
        options.shard = device.endswith("shards")
        return faiss.index_cpu_to_all_gpus(index, options)
    except RuntimeError as error:
        can = "Flat, SQfp16, IVF with Flat, SQ8 or PQ, and CAGRA"
        raise ValueError(f"{kind} cannot be on {device} ({reason(error)}): take {can}; or leave device out") from error


def cagra(faiss: ModuleType, blocks: Iterable[np.ndarray], dimensions: int, device: str) -> Any:
    """The graph of CAGRA (Ootomo et al. 2024), back on the processor; all vectors are in memory at once."""
    if not hasattr(faiss, "GpuIndexCagra"):
        fix = "pip install faiss-gpu-cuvs in place of faiss-cpu or faiss-gpu; or take HNSW32"
        raise ModuleNotFoundError(f"CAGRA: this faiss {faiss.__version__} is built without cuVS; {fix}")
    config = faiss.GpuIndexCagraConfig()
    config.device = _number(device)
    index = faiss.GpuIndexCagra(faiss.StandardGpuResources(), dimensions, faiss.METRIC_INNER_PRODUCT, config)
    index.train(np.concatenate([np.empty((0, dimensions), np.float32), *blocks]))
    return faiss.index_gpu_to_cpu(index)


def search_cagra(faiss: ModuleType, index: Any, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and rows; the search keeps at least k nodes, in multiples of 32."""
    settings = faiss.SearchParametersCagra()
    settings.itopk_size = max(64, -(-k // 32) * 32)
    return index.search(queries, k, params=settings)


def _number(device: str) -> int:
    """Of the GPU; the first where all are meant."""
    return int(re.sub(r"\D", "", device) or 0)
