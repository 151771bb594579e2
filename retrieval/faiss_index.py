"""FAISS indexes by their factory strings: checked, trained on a sample, filled block by block.

faiss's Python objects do not keep their owners alive: whoever walks the parts of an index holds the index itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from retrieval.vector_tiles import VectorTiles
from retrieval.vectors import VectorStore

__all__ = [
    "Blocks",
    "faiss_package",
    "fill",
    "made",
    "parts",
    "reason",
    "repeatable",
    "set_parameters",
    "train",
    "unit",
]

log = logging.getLogger(__name__)

EXAMPLES = "Flat; HNSW32; SQ8; SQfp16; IVF1024,Flat; IVF1024,SQ8; IVF1024,PQ48; OPQ48,IVF1024,PQ48"
BLOCK = 1 << 24  # float32 numbers of vectors added at a time: fixed, for HNSW depends on it
LEAST, MOST = 39, 256  # vectors that faiss wants, and uses at most, for each centroid of k-means
SAMPLE = 100_000  # vectors for what is not trained by k-means, such as the ranges of a scalar quantiser
OPQ_CENTROIDS = 256  # of the product quantiser by which OPQ finds its rotation
PRODUCTS_KEPT = ("OPQMatrix", "RandomRotationMatrix", "RemapDimensionsTransform")  # or nearly, where they shorten
INNER = ("index", "base_index", "refine_index", "quantizer", "storage")


def faiss_package() -> ModuleType:
    """The module. Raises ModuleNotFoundError with the line that installs it."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        lines = "pip install faiss-cpu (the extra `cpu`), or on a GPU machine faiss-gpu (the extra `gpu`), never both"
        raise ModuleNotFoundError(f"the index faiss needs the package faiss: {lines}", name="faiss") from error
    return faiss


class Blocks:
    """The vectors as faiss gets them: float32, of length 1 for cosines, in blocks that do not depend on the shards."""

    def __init__(self, vectors: VectorStore | np.ndarray, metric: Literal["dot", "cosine"]):
        self._tiles, self._metric = VectorTiles(vectors, 1), metric
        self.shape: tuple[int, int] = vectors.shape

    def __iter__(self) -> Iterator[np.ndarray]:
        documents, dimensions = self.shape
        step = max(1, BLOCK // dimensions)
        starts = range(0, documents, step)
        for start in tqdm(starts, desc="index", unit=" blocks", disable=len(starts) < 2):
            yield self.rows(np.arange(start, min(start + step, documents)))

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Those of these rows. Raises ValueError that names a row whose vector is not finite."""
        found = self._tiles.rows(rows)
        finite = np.isfinite(found).all(axis=1)
        if not finite.all():
            raise ValueError(f"the vector of row {rows[int(finite.argmin())]} is not finite")
        return found if self._metric == "dot" else unit(found)

    def sample(self, count: int, seed: int) -> np.ndarray:
        """So many of them, drawn with `seed`, in the order of their rows."""
        return self.rows(np.sort(np.random.default_rng(seed).choice(self.shape[0], count, replace=False)))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Float32 rows of length 1; the zero vector stays."""
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def made(factory: str, dimensions: int) -> Any:
    """An empty index for inner products. Raises ValueError for a string that makes none."""
    faiss = faiss_package()
    try:
        index = faiss.index_factory(dimensions, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        problem = f"factory {factory!r} makes no index of {dimensions} dimensions ({reason(error)})"
        raise ValueError(f"{problem}; such as {EXAMPLES}") from None
    for part in parts(index):
        if part.metric_type != faiss.METRIC_INNER_PRODUCT:
            kind = type(part).__name__
            raise ValueError(f"factory {factory!r}: {kind} has no inner products in faiss; such as {EXAMPLES}")
        if "IDMap" in type(part).__name__:
            raise ValueError(f"factory {factory!r}: leave IDMap out, documents are rows here; such as {EXAMPLES}")
    for change in transforms(index):
        if type(change).__name__ not in PRODUCTS_KEPT:
            kind = type(change).__name__
            raise ValueError(f"factory {factory!r}: {kind} changes inner products; rotate with OPQ or RR instead")
    return index


def parts(index: Any) -> Iterator[Any]:
    """The index and all that is in it, the outermost first."""
    part = faiss_package().downcast_index(index)
    yield part
    for name in INNER:
        inner = getattr(part, name, None)
        if inner is not None:
            yield from parts(inner)


def transforms(index: Any) -> list[Any]:
    """What is done to vectors before they are indexed."""
    found = faiss_package()
    chains = [part.chain for part in parts(index) if hasattr(part, "chain")]
    return [found.downcast_VectorTransform(chain.at(i)) for chain in chains for i in range(chain.size())]


def train(index: Any, factory: str, blocks: Blocks, training: int | None, seed: int) -> int:
    """Train on as many vectors as faiss uses, or on `training` of them; returns how many. Says if they are few.

    Raises ValueError for fewer vectors than centroids.
    """
    if index.is_trained:
        if training is not None:
            raise ValueError(f"factory {factory!r} is not trained: leave `training` out")
        return 0
    needed = _centroids(index)
    enough = max(MOST * needed, SAMPLE)
    if training is not None and training > enough:
        raise ValueError(f"training is {training}, and of {factory!r} at most {enough} are used: name fewer")
    count = min(blocks.shape[0], enough if training is None else training)
    if count < max(1, needed):
        raise ValueError(
            f"factory {factory!r} has {needed} centroids and {count} vectors to train on: it needs at least {needed}, "
            f"and {LEAST * needed} for good ones; name fewer centroids, or take HNSW32 or Flat, which need none"
        )
    if count < LEAST * needed:
        log.warning("%s: %d vectors train %d centroids; %d make good ones", factory, count, needed, LEAST * needed)
    sample = blocks.sample(count, seed)
    given = _seeded(index, seed)
    _told(factory, lambda: index.train(sample))
    for rotation, _ in given:
        rotation.pq = None
    return count


def fill(index: Any, factory: str, blocks: Blocks) -> None:
    """Add every vector."""
    _any_threads()
    for block in blocks:
        _told(factory, lambda block=block: index.add(block))  # type: ignore[misc]


def set_parameters(index: Any, parameters: Mapping[str, float], on_gpu: bool = False) -> None:
    """Set parameters by faiss's names. Raises ValueError for a name that the index has not, or a value below 1."""
    faiss = faiss_package()
    space = faiss.GpuParameterSpace() if on_gpu else faiss.ParameterSpace()
    for name, value in parameters.items():
        if value < 1:
            raise ValueError(f"parameters: {name} is {value}; it is 1 or more")
        try:
            space.set_index_parameter(index, name, value)
        except RuntimeError:
            space.initialize(index)
            ranges = space.parameter_ranges
            has = ", ".join(ranges.at(i).name for i in range(ranges.size())) or "none"
            raise ValueError(f"parameters: the index has no {name!r}; those of its search: {has}") from None


def polysemous(index: Any, wanted: bool) -> None:
    """Whether codes are numbered so that their Hamming distances say something (Douze et al. 2016)."""
    for part in parts(index):
        if hasattr(part, "do_polysemous_training"):
            part.do_polysemous_training = wanted


def repeatable(index: Any) -> bool:
    """Whether building it again gives the same index, with as many threads."""
    one_thread = faiss_package().omp_get_max_threads() == 1
    return one_thread or _any_threads() or not any(hasattr(part, "hnsw") for part in parts(index))


def reason(error: RuntimeError) -> str:
    """What faiss says, without where in its source it says it."""
    return str(error).rpartition("failed: ")[2].rpartition(".cpp:")[2].strip().lstrip("0123456789: ")


def _centroids(index: Any) -> int:
    """The most that one k-means of its training has."""
    found = [getattr(part, "nlist", 0) for part in parts(index)]
    found += [part.pq.ksub for part in parts(index) if hasattr(part, "pq")]
    found += [OPQ_CENTROIDS for change in transforms(index) if type(change).__name__ == "OPQMatrix"]
    return max(found, default=0)


def _seeded(index: Any, seed: int) -> list[tuple[Any, Any]]:
    """Seed every k-means, and keep faiss from a line for each that has few vectors: that was told once.

    Returns the rotations with the quantisers they were given, which must live while they are trained.
    """
    faiss = faiss_package()
    given = []
    for change in transforms(index):
        if type(change).__name__ == "OPQMatrix":
            quantiser = faiss.ProductQuantizer(change.d_out, change.M, OPQ_CENTROIDS.bit_length() - 1)
            change.pq = quantiser
            quantiser.thisown = True  # setting it gave it away, and the rotation does not free it
            given.append((change, quantiser))
    clusterings = [part.cp for part in parts(index) if hasattr(part, "cp")]
    quantisers = [part.pq for part in parts(index) if hasattr(part, "pq")] + [quantiser for _, quantiser in given]
    for clustering in clusterings + [quantiser.cp for quantiser in quantisers]:
        clustering.seed, clustering.min_points_per_centroid = seed, 1
    return given


def _any_threads() -> bool:
    """Have HNSW built the same by any number of threads, and say whether this faiss can."""
    faiss = faiss_package()
    try:
        faiss.cvar.hnsw_deterministic_build = True  # what was the rule in 1.15.1 became an option
    except AttributeError:
        return hasattr(faiss, "hnsw_add_vertices_deterministic")
    return True


def _told(factory: str, work: Any) -> None:
    try:
        work()
    except RuntimeError as error:
        raise ValueError(f"faiss cannot build {factory!r}: {reason(error)}") from error
