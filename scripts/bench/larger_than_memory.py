"""Exact search of vectors larger than the memory that a process may use: `python scripts/bench/larger_than_memory.py --help`.

Vectors are generated and written as retrieval.encode writes them. One process may hold no more than --limit (RLIMIT_DATA:
all that is allocated; what the system keeps of files is not counted, and not the process's own) and searches the store.
Another holds all vectors in memory. The lists, rows and scores, have to be equal. Shown are the sizes, the largest
resident size of each (which counts pages of mapped files too, as long as they're mapped), and seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from generated_vectors import Generated, draw

from retrieval.environment import hardware, packages
from retrieval.vectors import VectorStore

GB = 1e9


def limited(bytes_: int, folder: Path) -> str:
    """Allow this process no more, and show that it holds: the vectors themselves do not fit."""
    resource.setrlimit(resource.RLIMIT_DATA, (bytes_, bytes_))
    try:
        np.empty(VectorStore(folder).shape, np.float32)
    except MemoryError:
        return "refused"
    return "not refused: the limit does not hold here"


def held(store: VectorStore) -> np.ndarray:
    """All vectors in memory."""
    vectors = np.empty(store.shape, np.float32)
    for first, tile in store.tiles():
        vectors[first : first + len(tile)] = tile
    return vectors


def search(folder: Path, out: Path, queries: int, k: int, limit: int | None) -> None:
    """One process's search; its lists and figures go to `out`."""
    import torch  # before the limit: this is about vectors, not about libraries

    from retrieval.indexes.flat import Flat
    from retrieval.types import Dense

    whole = limited(limit, folder) if limit else "held"
    store = VectorStore(folder)
    vectors = store if limit else held(store)
    index, started = Flat(device="cpu"), time.perf_counter()
    index.build(vectors, np.random.default_rng(0).permutation(len(store)).astype(np.int32))
    built, asked = time.perf_counter(), Dense(draw(queries, store.shape[1], 1, 1))
    rows, scores = index.search(asked, k)
    about = {"whole": whole, "build": built - started, "search": time.perf_counter() - built}
    about |= {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "threads": torch.get_num_threads()}
    np.savez(out, rows=rows, scores=scores, about=json.dumps(about))


def in_process(arguments: list[str], out: Path) -> tuple[np.ndarray, np.ndarray, dict]:
    """The lists and figures of a process of its own."""
    subprocess.run([sys.executable, __file__, *arguments, "--out", str(out)], check=True)
    with np.load(out) as found:
        return found["rows"], found["scores"], json.loads(str(found["about"]))


def compare(asked: argparse.Namespace, folder: Path) -> bool:
    """Write the vectors, search them in both ways, print a table."""
    started = time.perf_counter()
    store = Generated(asked.documents, asked.dimensions).store(folder, asked.dtype)
    wrote = time.perf_counter() - started
    size, disk = 4 * asked.documents * asked.dimensions, sum(path.stat().st_size for path in store.folder.iterdir())
    task = ["--queries", str(asked.queries), "--k", str(asked.k), "--store", str(store.folder)]
    systems = {
        "stored, memory limited": in_process([*task, "--limit", str(asked.limit)], folder / "limited.npz"),
        "in memory": in_process([*task, "--limit", "0"], folder / "memory.npz"),
    }
    (rows, scores, about), (other_rows, other_scores, _) = systems.values()
    equal = bool((rows == other_rows).all() and (scores == other_scores).all())
    print(f"{hardware()}\n{packages()}\n{about['threads']} threads; {asked.documents} documents x {asked.dimensions}")
    print(f"as float32 {size / GB:.2f} GB, stored as {asked.dtype} {disk / GB:.2f} GB, written in {wrote:.1f} s")
    print(f"{asked.queries} queries, k = {asked.k}\n")
    print("| vectors | limit, GB | float32 vectors as a whole | largest resident size, GB | norms, s | search, s |")
    print("|---|---|---|---|---|---|")
    for (name, (*_, figures)), limit in zip(systems.items(), (asked.limit, "none"), strict=True):
        took = f"{figures['peak'] / GB:.2f} | {figures['build']:.1f} | {figures['search']:.1f}"
        print(f"| {name} | {limit} | {figures['whole']} | {took} |")
    print(f"\nrows and scores are {'equal' if equal else 'NOT equal'}")
    return equal


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=1024)
    parser.add_argument("--dtype", default="float32", help="float32, float16, bfloat16 or int8")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--limit", type=float, default=1.0, help="GB that the process with the limit may allocate")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the vectors are written"
    )
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)  # of the processes that this one starts
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.store:
        search(asked.store, asked.out, asked.queries, asked.k, int(asked.limit * GB) or None)
    else:
        with tempfile.TemporaryDirectory(dir=asked.folder) as name:
            sys.exit(not compare(asked, Path(name)))
