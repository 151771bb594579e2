"""FAISS by factory string: approximate and compressed search, with the recall named in the recipe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.compiled import chosen
from retrieval.faiss_files import opened, size, write
from retrieval.faiss_gpu import CAGRA, LARGEST, cagra, check_device, require_gpu, search_cagra, to_gpu
from retrieval.faiss_index import Blocks, faiss_package, fill, made, polysemous, repeatable, set_parameters, train, unit
from retrieval.faiss_tuning import effort, recall_of, tune
from retrieval.files import digest, whole_folder
from retrieval.indexes.flat import Flat
from retrieval.order import order
from retrieval.types import Dense, Representations
from retrieval.vector_tiles import checked
from retrieval.vectors import VectorStore

__all__ = ["Faiss"]

QUERIES = 4096  # searched at a time
FACTORS = (2, 4, 8, 16, 32)  # of rescoring, tried where a recall is not reached
TUNED = ("nprobe", "efSearch")
BUILDING = ("efConstruction", "ht")  # how the parameters end that an index is built with


class Faiss:
    """Inner products or cosines by an index of FAISS (Douze et al. 2024), named by its factory string.

    Flat, HNSWm, SQ8, SQfp16, PQm, IVFn,x, OPQm,x and what else faiss makes of inner products. Scores are faiss's, of
    the codes, until `rescore` makes them those of Flat. Results are brought into the one order; which of equal scores
    at the cut are among them is faiss's choice. A list may be shorter than k, where few lists of an IVF are probed.

    With `recall`, the first search tunes nprobe or efSearch on a sample of its queries, against exact search; that
    setting stays until the index is opened again. faiss 1.15 builds the same HNSW with any number of threads, older
    ones only with OMP_NUM_THREADS=1: `repeatable` in the manifest.

    `device` and the factory CAGRA, which is built on one, could not be run where this was written. All else is trained
    and filled on the processor.
    """

    def __init__(
        self,
        factory: str = "HNSW32",
        metric: Literal["dot", "cosine"] = "dot",
        recall: float | None = None,
        at: int = 100,
        sample: int = 200,
        rescore: int | None = None,
        parameters: dict[str, float] | None = None,
        training: int | None = None,
        seed: int = 0,
        device: str | None = None,
        float16: bool = False,
    ):
        """`recall` is to be reached in the first `at` results of a `sample` of queries.

        `rescore`: so many times k candidates are scored again with the stored vectors. `parameters` have faiss's names:
        nprobe, efSearch, quantizer_efSearch, k_factor_rf; efConstruction, for building; ht, without which PQ is not
        trained for polysemous filtering, which takes minutes. `training` is the most vectors that are trained on; None:
        what faiss uses. `device`: cuda, cuda:1, cuda:shards, cuda:replicas; None is the processor. `float16` halves
        vectors or tables there.
        """
        chosen("metric", metric, Literal["dot", "cosine"])
        check_device(device, float16, factory)
        if recall is not None and not 0 < recall <= 1:
            raise ValueError(f"recall is {recall}; it is above 0 and at most 1, or None to tune nothing")
        for name, value in (("at", at), ("sample", sample), ("rescore", rescore), ("training", training)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is 1 or more")
        if not 0 <= seed < 2**31:
            raise ValueError(f"seed is {seed}; faiss takes 0 to {2**31 - 1}")
        self.factory, self.metric, self.seed, self.training = factory, metric, seed, training
        self.recall, self.at, self.sample, self.rescore = recall, at, sample, rescore
        self.parameters, self.device, self.float16 = dict(parameters or {}), device, float16
        self.tuned: dict[str, Any] | None = None  # the setting, and the recall it reached
        for name in TUNED if recall is not None else ():
            if name in self.parameters:
                raise ValueError(f"parameters: {name} is tuned where a recall is named: leave one of them out")

    def build(self, vectors: VectorStore | np.ndarray, rank: np.ndarray) -> None:
        """Index float32 [documents, dimensions] in memory. Raises ValueError for what cannot be indexed."""
        index, about = self._made(vectors)
        self._use(vectors, rank, index, about | {"bytes": size(index)})

    def open(self, vectors: VectorStore | np.ndarray, rank: np.ndarray, folder: Path) -> None:
        """The same, memory-mapped from `folder`, built if it is not there. Raises ValueError for a file cut short."""
        place = Path(folder) / f"faiss-{self._key()}"
        if not place.is_dir():
            index, about = self._made(vectors)
            with whole_folder(place, shared=True) as part:
                write(index, part, about)
        documents, dimensions = vectors.shape
        self._use(vectors, rank, *opened(place, {"documents": documents, "dimensions": dimensions}))

    def search(self, queries: Representations, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 and scores float32 [queries, min(k, documents)] in the one order, then -1 and -inf.

        Raises ValueError where the highest setting does not reach the recall.
        """
        asked, k = checked(queries, self.vectors.shape[1], "faiss"), min(k, len(self.rank))
        if not len(asked) or not k:
            return np.empty((len(asked), k), np.int32), np.empty((len(asked), k), np.float32)
        if self.recall is not None and self.tuned is None:
            self.tuned = self._tune(asked, self.recall)
        parts = [self._search(asked[at : at + QUERIES], k) for at in range(0, len(asked), QUERIES)]
        rows, scores = zip(*parts, strict=True)
        return np.concatenate(rows), np.concatenate(scores)

    def provenance(self) -> dict[str, Any]:
        """What the index is, its size and build time, and the recall it was tuned to; nothing before it is built."""
        if not hasattr(self, "index"):
            return {}
        tuned = self.tuned or {"parameters": {}, "recall": None}
        left_out = ("documents", "dimensions", "bytes")
        return {
            "index": "faiss",
            **{name: value for name, value in self.about.items() if name not in left_out},
            "bytes per vector": round(self.about["bytes"] / max(1, len(self.rank)), 1),
            "device": self.device or "cpu",
            "rescore": self.rescore,
            "parameters": self.parameters | tuned["parameters"],
            "recall": tuned["recall"],
        }

    def _key(self) -> str:
        building = {name: value for name, value in self.parameters.items() if name.endswith(BUILDING)}
        settings = {"factory": self.factory, "metric": self.metric, "seed": self.seed, "training": self.training}
        return digest(settings | {"parameters": building})

    def _made(self, vectors: VectorStore | np.ndarray) -> tuple[Any, dict[str, Any]]:
        """The index, on the processor, and what it is."""
        faiss, began = faiss_package(), time.perf_counter()
        require_gpu(faiss, self.device)
        blocks, trained = Blocks(vectors, self.metric), 0
        if self.factory == CAGRA:
            index = cagra(faiss, blocks, vectors.shape[1], str(self.device))
        else:
            index = made(self.factory, vectors.shape[1])
            set_parameters(index, self.parameters)
            polysemous(index, "ht" in self.parameters)
            trained = train(index, self.factory, blocks, self.training, self.seed)
            fill(index, self.factory, blocks)
        return index, {
            "factory": self.factory,
            "metric": self.metric,
            "documents": vectors.shape[0],
            "dimensions": vectors.shape[1],
            "training vectors": trained,
            "seed": self.seed,
            "threads": faiss.omp_get_max_threads(),
            "repeatable": repeatable(index),
            "faiss": faiss.__version__,
            "build seconds": round(time.perf_counter() - began, 3),
        }

    def _use(self, vectors: VectorStore | np.ndarray, rank: np.ndarray, index: Any, about: dict[str, Any]) -> None:
        faiss, on_gpu = faiss_package(), self.device is not None
        require_gpu(faiss, self.device)
        self.vectors, self.rank, self.about = vectors, rank, about
        self.effort = effort(index, self.at, LARGEST if on_gpu else None)
        self.index = index if self.device is None else to_gpu(faiss, index, self.device, self.float16)
        set_parameters(self.index, self.parameters, on_gpu)
        self.tuned = None
        self._flat: Flat | None = None

    def _search(self, asked: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        rows, scores = self._nearest(asked, min(k * (self.rescore or 1), len(self.rank)))
        if self.rescore is not None:
            scores = self._exact().score(asked, np.maximum(rows, 0))  # of row 0 where there is none: order drops it
        return order(rows, scores, self.rank, k)

    def _nearest(self, asked: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and scores [queries, k] as faiss has them."""
        queries = asked if self.metric == "dot" else unit(asked)
        if self.device is not None and k > LARGEST:
            what = "k" if self.rescore is None else "k times rescore"
            raise ValueError(
                f"{what} is {k}, and faiss finds at most {LARGEST} on a GPU: ask for fewer, or leave device out"
            )
        if self.factory == CAGRA:
            scores, rows = search_cagra(faiss_package(), self.index, queries, k)
        else:
            scores, rows = self.index.search(queries, k)
        return rows.astype(np.int32), scores

    def _exact(self) -> Flat:
        if self._flat is None:
            self._flat = Flat(self.metric)
            self._flat.build(self.vectors, self.rank)
        return self._flat

    def _tune(self, asked: np.ndarray, wanted: float) -> dict[str, Any]:
        """Set what reaches the recall, and say what it is."""
        count, at = min(self.sample, len(asked)), min(self.at, len(self.rank))
        drawn = np.sort(np.random.default_rng(self.seed).choice(len(asked), count, replace=False))
        sample, between = asked[drawn], self.effort
        exact, _ = self._exact().search(Dense(sample), at)

        def reached(value: int | None) -> float:
            if between and value:
                set_parameters(self.index, {between.name: value}, self.device is not None)
            return recall_of(self._search(sample, at)[0], exact)

        value, found = tune(reached, between, wanted) if between else (None, reached(None))
        if found < wanted:
            setting = f" with {between.name} {value}, the highest," if between else ""
            advice = self._advice(sample, exact, wanted)
            raise ValueError(
                f"{self.factory}: recall {wanted} at {at} was named, and{setting} {found:.4f} is reached: {advice}"
            )
        reached(value)
        if self.rescore is None:
            self._flat = None  # what it holds is not needed again
        about = {"named": wanted, "reached": round(found, 4), "at": at, "queries": count}
        return {"parameters": {between.name: value} if between else {}, "recall": about}

    def _advice(self, sample: np.ndarray, exact: np.ndarray, wanted: float) -> str:
        at, most = exact.shape[1], len(self.rank) if self.device is None else LARGEST
        factors = [factor for factor in FACTORS if factor > (self.rescore or 1) and (factor // 2) * at < most]
        for factor in factors:
            if recall_of(self._nearest(sample, min(at * factor, most))[0], exact) >= wanted:
                return f"rescore: {factor} reaches it"
        return (
            f"no rescore up to {FACTORS[-1]} does either; name a factory that keeps more of each vector, or less recall"
        )
