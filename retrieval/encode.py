"""Encode a collection once: `python -m retrieval.encode configs/x.yaml`. Killed and started again, it goes on.

`accelerate launch -m retrieval.encode configs/x.yaml` parts the shards among its ranks, as do several such commands on
one folder; `engine=ray` parts them among the actors of a cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from retrieval.cli import run
from retrieval.encoding import SHARD, encode_corpus, open_store
from retrieval.environment import is_first_process
from retrieval.health import OnFault, kept
from retrieval.locate import cache_folder
from retrieval.number_formats import Number
from retrieval.protocols import Dataset, Encoder
from retrieval.ray_engine import encode_on_ray
from retrieval.sparse_vectors import SparseStore

__all__ = ["encode"]


def encode(
    dataset: Dataset,
    encoder: Encoder,
    dtype: Number = "float32",
    shard: int = SHARD,
    health: OnFault = "stop",
    engine: Literal["here", "ray"] = "here",
    actors: int | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Write the vectors of every document to OUT/vectors, for `retriever: {type: dense, vectors: OUT/vectors}`.

    The type is `sparse` for an encoder that weighs the entries of a vocabulary. `shard` is how many documents a kill
    may cost; `health=warn` goes on with an encoder whose first vectors look broken. `actors` are those of ray: by
    default one a GPU, else one a core but one.
    """
    if actors is not None and engine != "ray":
        raise ValueError(f"actors={actors} is for engine=ray; ranks come from `accelerate launch`")
    collection = dataset.open()
    folder = (out or cache_folder()) / "vectors"
    if engine == "ray":
        encode_on_ray(collection.corpus, encoder, folder, dtype, shard, health, actors)
    else:
        encode_corpus(collection.corpus, encoder, folder, dtype, shard, health)
    return _results(collection.corpus.empty, folder) if is_first_process() else {}


def _results(empty: int, folder: Path) -> dict[str, Any]:
    store = open_store(folder)
    store.verify()
    about: dict[str, Any] = {
        "documents": len(store),
        "dimensions": store.shape[1],
        "dtype": "float32" if isinstance(store, SparseStore) else store.dtype,
        "truncated documents": store.truncated,
        "empty documents": empty,
        "health": kept(folder),
        "contract": dict(store.contract),
    }
    print(f"{len(store)} documents x {store.shape[1]} in {store.folder}, {about['dtype']}; {store.truncated} were cut")
    if about["health"]:
        print("health: mean cosine {cosine:.3f}, mean norm {norm:.3f}".format(**about["health"]))
    return about


if __name__ == "__main__":
    run(encode)
