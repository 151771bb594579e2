"""Work for the actors of a Ray cluster, whose machines see one file system. Needs the extra `ray`."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from retrieval.corpus import Corpus
from retrieval.encoding import encode_corpus
from retrieval.health import OnFault
from retrieval.number_formats import Number
from retrieval.protocols import Encoder

__all__ = ["encode_on_ray", "started"]


def started() -> Any:
    """The `ray` module, connected to the cluster that RAY_ADDRESS names, or to one of this machine.

    Raises ModuleNotFoundError with the line that installs it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Ray is not installed: pip install 'ray[data]', or the extra `ray`") from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False)
    return ray


def encode_on_ray(
    corpus: Corpus, encoder: Encoder, folder: Path, dtype: Number, shard: int, health: OnFault, actors: int | None
) -> None:
    """As `encode_corpus`, the shards parted among actors that each load the encoder once.

    The driver looks at the first documents, and does what a lost actor left.
    """
    ray = started()
    count = -(-len(corpus) // shard)
    gpus, cores = int(ray.cluster_resources().get("GPU", 0)), int(ray.cluster_resources()["CPU"])
    actors = max(1, min(actors or gpus or cores - 1, count))
    # an actor pool that reserves every core leaves none to read with, and hangs
    share = {"num_gpus": 1} if gpus else {"num_cpus": max(0.1, (cores - 1) / actors)}
    places = [
        str(Path(corpus.folder).absolute()),
        _unloaded(encoder),
        str(Path(folder).absolute()),
        dtype,
        shard,
        health,
    ]
    work = ray.data.from_items([{"number": number} for number in range(count)], override_num_blocks=count)
    pool = ray.data.ActorPoolStrategy(size=actors)
    work.map_batches(_Shards, fn_constructor_args=places, batch_size=1, compute=pool, **share).materialize()
    encode_corpus(corpus, encoder, folder, dtype, shard, health)


def _unloaded(encoder: Any) -> Any:
    """A copy without what it loaded so far: each actor loads its own."""
    fresh = copy.copy(encoder)
    for name in list(vars(fresh)):
        if isinstance(getattr(type(fresh), name, None), cached_property):
            del fresh.__dict__[name]
    return fresh


class _Shards:
    """An actor: a copy of the encoder, and the shards that it is given."""

    def __init__(self, corpus: str, encoder: Encoder, folder: str, dtype: Number, shard: int, health: OnFault):
        opened = Corpus(Path(corpus))
        self.encode: Callable[[list[int]], None] = lambda numbers: encode_corpus(
            opened, encoder, Path(folder), dtype, shard, health, numbers
        )

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Encode the shards of these numbers."""
        self.encode([int(number) for number in batch["number"]])
        return batch
