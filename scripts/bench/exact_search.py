"""Exact search beside faiss and torch, interleaved in one run: `python scripts/bench/exact_search.py --help`.

Generated vectors of length 1. Of torch the best of several ways to part the product, found in the warm-up, takes part; each
figure is a median of rounds in which the systems take turns. The ratios hold where the figures do not. Ours gives
scores that are exact to the last bit of float32 and one order of ties, which neither peer does; the lists are compared
as sets, up to documents whose exact scores are closer to the k-th than a float32 product can tell.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch
from generated_vectors import Generated, draw

from retrieval.environment import hardware, packages
from retrieval.exact import gamma
from retrieval.indexes.flat import Flat
from retrieval.types import Dense
from retrieval.vectors import VectorStore

Search = Callable[[], np.ndarray]  # rows [queries, k]
TILES = (16384, 50_000)  # documents that torch multiplies at a time
BATCHES = (250, 500)  # or queries
STORED = ("float32", "float16")


def ours(vectors: np.ndarray | VectorStore, queries: np.ndarray, k: int) -> Search:
    """Flat, with its defaults."""
    index = Flat(device="cpu")
    index.build(vectors, np.arange(len(vectors), dtype=np.int32))
    return lambda: index.search(Dense(queries), k)[0]


def with_faiss(vectors: np.ndarray, queries: np.ndarray, k: int) -> Search:
    """IndexFlatIP; it parts queries and documents itself."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return lambda: index.search(queries, k)[1]


def with_torch(vectors: np.ndarray, queries: np.ndarray, k: int, batch: int, tile: int) -> Search:
    """Product and topk, so many queries and documents at a time."""
    docs, asked = torch.from_numpy(vectors), torch.from_numpy(queries)

    def some(part: torch.Tensor) -> torch.Tensor:
        if tile >= len(docs):
            return (part @ docs.T).topk(k, dim=1).indices
        best, rows = [], []
        for start in range(0, len(docs), tile):
            found = (part @ docs[start : start + tile].T).topk(min(k, len(docs) - start, tile), dim=1)
            best.append(found.values)
            rows.append(found.indices + start)
        return torch.cat(rows, 1).gather(1, torch.cat(best, 1).topk(k, dim=1).indices)

    def search() -> np.ndarray:
        with torch.inference_mode():
            return torch.cat([some(asked[at : at + batch]) for at in range(0, len(asked), batch)]).numpy()

    return search


def ways(vectors: np.ndarray, queries: np.ndarray, k: int) -> dict[str, dict[str, Search]]:
    """Each peer, in all the ways that are tried."""
    whole, documents = len(queries), len(vectors)
    tiled = {f"tiles of {tile}": with_torch(vectors, queries, k, whole, tile) for tile in TILES if tile < documents}
    parts = {f"{batch} queries": with_torch(vectors, queries, k, batch, documents) for batch in BATCHES}
    return {
        "faiss IndexFlatIP": {"whole": with_faiss(vectors, queries, k)},
        "torch product + topk": {"whole": with_torch(vectors, queries, k, whole, documents)} | tiled | parts,
    }


def seconds(search: Search) -> float:
    """Of one call."""
    started = time.perf_counter()
    search()
    return time.perf_counter() - started


def best_way(name: str, tried: dict[str, Search]) -> tuple[str, Search]:
    """The way that takes least time, of two calls each after one that is not counted."""
    taken = {way: min([seconds(search) for _ in range(3)][1:]) for way, search in tried.items()}
    print(f"{name}: " + ", ".join(f"{way} {time_:.3f} s" for way, time_ in taken.items()), flush=True)
    way = min(taken, key=taken.__getitem__)
    return f"{name}, {way}", tried[way]


def differing(found: np.ndarray, expected: np.ndarray, vectors: np.ndarray, queries: np.ndarray) -> tuple[int, int]:
    """In how many queries the sets differ, and in how many by more than float32 products can be wrong by."""
    sets, more, error = 0, 0, 2 * gamma(vectors.shape[1] + 8)
    for query, left, right in zip(queries.astype(np.float64), found, expected, strict=True):
        odd = np.setxor1d(left, right)
        last = (vectors[right] @ query).min()
        sets += bool(len(odd))
        more += bool((np.abs(vectors[odd] @ query - last) > error).any())
    return sets, more


def main(documents: int, dimensions: int, count: int, k: int, rounds: int, stored: bool, folder: Path) -> None:
    """Time and compare."""
    generated, queries = Generated(documents, dimensions), draw(count, dimensions, 1, 1)
    vectors = np.concatenate(list(generated.blocks()))
    systems = {"ours": ours(vectors, queries, k)}
    systems |= dict(best_way(name, tried) for name, tried in ways(vectors, queries, k).items())
    if stored:
        systems |= {f"ours, stored {dtype}": ours(generated.store(folder, dtype), queries, k) for dtype in STORED}
    lists = {name: search() for name, search in systems.items()}
    times: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, search in systems.items():
            times[name].append(seconds(search))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    peer = min(median for name, median in medians.items() if not name.startswith("ours"))
    print(f"\n{hardware()}\n{packages()}\n{torch.get_num_threads()} threads; median and range of {rounds} rounds")
    print(f"{documents} documents x {dimensions}, {count} queries, k = {k}\n")
    print("| system | x best peer | seconds | least to most | queries with another set than ours | beyond float32 |")
    print("|---|---|---|---|---|---|")
    for name, median in medians.items():
        low, high = min(times[name]), max(times[name])
        sets = differing(lists[name], lists["ours"], vectors, queries)
        print(f"| {name} | {peer / median:.2f} | {median:.3f} | {low:.3f} to {high:.3f} | {sets[0]} | {sets[1]} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stored", action="store_true", help="also search vectors on disk, as float32 and as float16")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        main(asked.documents, asked.dimensions, asked.queries, asked.k, asked.rounds, asked.stored, Path(name))
