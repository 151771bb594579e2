"""Encode a collection once: `python -m retrieval.encode configs/x.yaml`. Killed and started again, it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval.cli import run
from retrieval.locate import cache_folder
from retrieval.protocols import Dataset, Encoder
from retrieval.shards import plain
from retrieval.sparse_vectors import SparseStore, encode_sparse
from retrieval.vectors import VectorStore, encode_corpus

__all__ = ["encode"]


def encode(dataset: Dataset, encoder: Encoder, out: Path | None = None) -> dict[str, Any]:
    """Write the vectors of every document to OUT/vectors, for `retriever: {type: dense, vectors: OUT/vectors}`.

    The type is `sparse` for an encoder that weighs the entries of a vocabulary.
    """
    collection = dataset.open()
    write = encode_sparse if "vocabulary" in encoder.contract() else encode_corpus
    store: VectorStore | SparseStore = write(collection.corpus, encoder, (out or cache_folder()) / "vectors")
    store.verify()
    print(f"{len(store)} documents x {store.shape[1]} dimensions in {store.folder}; {store.truncated} were cut")
    return {
        "documents": len(store),
        "dimensions": store.shape[1],
        "truncated documents": store.truncated,
        "empty documents": collection.corpus.empty,
        "contract": plain(store.contract),
    }


if __name__ == "__main__":
    run(encode)
