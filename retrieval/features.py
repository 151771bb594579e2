"""Extract features of documents for PromptPRF: `python -m retrieval.features configs/x.yaml`. Killed, it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from retrieval.cli import run as run_recipe
from retrieval.corpus import Corpus
from retrieval.feature_store import SHARD, extract_corpus
from retrieval.locate import cache_folder
from retrieval.protocols import Dataset, Extractor
from retrieval.run_file import read_run

__all__ = ["features"]


def features(
    dataset: Dataset,
    extractor: Extractor,
    run: Path | None = None,
    depth: int = 10,
    shard: int = SHARD,
    out: Path | None = None,
) -> dict[str, Any]:
    """Write the feature of every document to OUT/features, for `model: {type: promptprf, features: OUT/features}`.

    What is counted is of all that lies there, whichever run made it; shards with failed ones are done again by the next
    run. `run` is a run file: only the first `depth` documents of its queries are read. `shard` is how many documents a
    kill may cost.
    """
    corpus = dataset.open().corpus
    rows = None if run is None else _found(run, corpus, depth)
    store = extract_corpus(corpus, extractor, (out or cache_folder()) / "features", rows, shard)
    empty = store.features(np.arange(len(corpus), dtype=np.int32) if rows is None else rows).count("")
    print(f"{len(store)} features in {store.folder}; {empty} are empty")
    for what, count in store.counts.items():
        print(f"{what}: {count}")
    return {"documents": len(store), "empty features": empty, **store.counts, "contract": dict(extractor.contract())}


def _found(path: Path, corpus: Corpus, depth: int) -> np.ndarray:
    """The rows of the first documents of a run, each once."""
    if depth < 1:
        raise ValueError(f"depth is {depth}; at least the first document of a query is read")
    rows = np.unique(read_run(path, docs=corpus.ids).rows[:, :depth])
    return rows[rows >= 0].astype(np.int32)


if __name__ == "__main__":
    run_recipe(features)
