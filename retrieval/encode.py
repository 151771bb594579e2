"""Encode a collection once: `python -m retrieval.encode configs/x.yaml`. Killed and started again, it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retrieval.cli import run
from retrieval.locate import cache_folder
from retrieval.protocols import Dataset, Encoder
from retrieval.vectors import encode_corpus

__all__ = ["encode"]


def encode(dataset: Dataset, encoder: Encoder, out: Path | None = None) -> dict[str, Any]:
    """Write the vectors of every document to OUT/vectors, for `retriever: {type: dense, vectors: OUT/vectors}`."""
    collection = dataset.open()
    store = encode_corpus(collection.corpus, encoder, (out or cache_folder()) / "vectors")
    store.verify()
    print(f"{len(store)} documents x {store.shape[1]} dimensions in {store.folder}; {store.truncated} were cut")
    return {
        "documents": len(store),
        "dimensions": store.shape[1],
        "truncated documents": store.truncated,
        "empty documents": collection.corpus.empty,
        "contract": json.loads(json.dumps(dict(store.contract))),
    }


if __name__ == "__main__":
    run(encode)
