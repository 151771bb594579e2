"""Exact search beside faiss and torch, interleaved: `python scripts/bench/exact_search.py --help`.

Generated vectors of length 1. Each system has a process of its own, since threads of one keep waiting, and cores busy,
after a search; they take turns, and each figure is a median of rounds. The ratios hold where the figures do not. Torch
parts the product in the way that was best of several in its warm-up. Ours gives scores that are exact to the last bit
of float32 and one order of ties, which the peers don't; so lists are compared as sets, up to documents whose exact
scores are closer to the k-th than float32 products can tell.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from generated_vectors import Generated, draw

from retrieval.environment import hardware, packages
from retrieval.exact import gamma

Search = Callable[[], np.ndarray]  # rows [queries, k]
SYSTEMS = ("ours", "faiss IndexFlatIP", "torch product + topk")
STORED = ("ours, stored float32", "ours, stored float16")
TILES = (16384, 50_000)  # documents that torch multiplies at a time
BATCHES = (250, 500)  # or queries


def ours(asked: argparse.Namespace, queries: np.ndarray) -> dict[str, Search]:
    """Flat, with its defaults; of vectors in memory, or of those stored with the dtype that the name says."""
    from retrieval.indexes.flat import Flat
    from retrieval.types import Dense

    generated, index = Generated(asked.documents, asked.dimensions), Flat(device="cpu")
    stored = asked.system.partition(" stored ")[2]
    index.build(generated.store(asked.folder, stored) if stored else generated.whole(), np.arange(asked.documents))
    return {"": lambda: index.search(Dense(queries), asked.k)[0]}


def with_faiss(asked: argparse.Namespace, queries: np.ndarray) -> dict[str, Search]:
    """IndexFlatIP, which parts queries and documents itself."""
    import faiss

    index = faiss.IndexFlatIP(asked.dimensions)
    index.add(Generated(asked.documents, asked.dimensions).whole())
    return {"": lambda: index.search(queries, asked.k)[1]}


def with_torch(asked: argparse.Namespace, queries: np.ndarray) -> dict[str, Search]:
    """Product and topk: whole, so many documents at a time, so many queries at a time."""
    import torch

    docs, all_ = torch.from_numpy(Generated(asked.documents, asked.dimensions).whole()), torch.from_numpy(queries)

    def part(some: torch.Tensor, tile: int) -> torch.Tensor:
        if tile >= len(docs):
            return (some @ docs.T).topk(asked.k, dim=1).indices
        best, rows = [], []
        for start in range(0, len(docs), tile):
            found = (some @ docs[start : start + tile].T).topk(min(asked.k, len(docs) - start, tile), dim=1)
            best.append(found.values)
            rows.append(found.indices + start)
        return torch.cat(rows, 1).gather(1, torch.cat(best, 1).topk(asked.k, dim=1).indices)

    def way(batch: int, tile: int) -> Search:
        def search() -> np.ndarray:
            with torch.inference_mode():
                return torch.cat([part(some, tile) for some in all_.split(batch)]).numpy()

        return search

    ways = {"whole": way(len(queries), len(docs))}
    ways |= {f"{tile} documents": way(len(queries), tile) for tile in TILES}
    return ways | {f"{batch} queries": way(batch, len(docs)) for batch in BATCHES}


def seconds(search: Search) -> float:
    """Of one call."""
    started = time.perf_counter()
    search()
    return time.perf_counter() - started


def serve(asked: argparse.Namespace) -> None:
    """Be one system: warm up, then search once for each line of input, and answer with the seconds."""
    make = ours if asked.system.startswith("ours") else with_faiss if "faiss" in asked.system else with_torch
    ways = make(asked, draw(asked.queries, asked.dimensions, 1, 1))
    taken = {way: min([seconds(search) for _ in range(3)][1:]) for way, search in ways.items()}
    best = min(taken, key=taken.__getitem__)
    np.save(asked.out, ways[best]())
    print(best, flush=True)
    for _ in sys.stdin:
        print(seconds(ways[best]), flush=True)


class System:
    """A process that is one system."""

    def __init__(self, name: str, asked: argparse.Namespace, folder: Path):
        self.name, self.out = name, folder / f"{name}.npy"
        settings = [f"--{key}={getattr(asked, key)}" for key in ("documents", "dimensions", "queries", "k")]
        settings += [f"--system={name}", f"--folder={folder}", f"--out={self.out}"]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        way = self._answer()
        self.called = f"{name}, {way}" if way else name
        self.times: list[float] = []

    def search(self) -> None:
        """Once."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.times.append(float(self._answer()))

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _answer(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with an error")
        return line.strip()


def differing(found: np.ndarray, expected: np.ndarray, vectors: np.ndarray, queries: np.ndarray) -> tuple[int, int]:
    """In how many queries the sets differ, and in how many by more than float32 products can be wrong by."""
    sets, more, error = 0, 0, 2 * gamma(vectors.shape[1] + 8)
    for query, left, right in zip(queries.astype(np.float64), found, expected, strict=True):
        odd = np.setxor1d(left, right)
        sets += bool(len(odd))
        more += bool((np.abs(vectors[odd] @ query - (vectors[right] @ query).min()) > error).any())
    return sets, more


def main(asked: argparse.Namespace, folder: Path) -> None:
    """Time and compare."""
    systems = [System(name, asked, folder) for name in SYSTEMS + (STORED if asked.stored else ())]
    for _ in range(asked.rounds):
        for system in systems:
            system.search()
    medians = {system.name: statistics.median(system.times) for system in systems}
    peer = min(median for name, median in medians.items() if not name.startswith("ours"))
    vectors = Generated(asked.documents, asked.dimensions).whole()
    queries, expected = draw(asked.queries, asked.dimensions, 1, 1), np.load(systems[0].out)
    print(
        f"{hardware()}\n{packages()}\nmedian and range of {asked.rounds} rounds; {asked.documents} documents x ", end=""
    )
    print(f"{asked.dimensions}, {asked.queries} queries, k = {asked.k}\n")
    print("| system | x best peer | seconds | least to most | other sets than ours, of queries | beyond float32 |")
    print("|---|---|---|---|---|---|")
    for system in systems:
        median, low, high = medians[system.name], min(system.times), max(system.times)
        sets = differing(np.load(system.out), expected, vectors, queries)
        row = f"{peer / median:.2f} | {median:.3f} | {low:.3f} to {high:.3f} | {sets[0]} | {sets[1]}"
        print(f"| {system.called} | {row} |")
        system.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--stored", action="store_true", help="also search vectors on disk, as float32 and as float16")
    parser.add_argument("--system", help=argparse.SUPPRESS)  # of the processes that this one starts
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.system:
        serve(asked)
    else:
        with tempfile.TemporaryDirectory() as name:
            main(asked, Path(name))
