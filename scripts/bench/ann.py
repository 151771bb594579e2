"""Approximate beside exact search, with the recall named: `python scripts/bench/ann.py --help`.

MiniLM vectors (float32) of collections below RETRIEVAL_DATA, encoded once into RETRIEVAL_CACHE, and generated ones:
clusters that lie in few of the dimensions. HNSW, IVF and IVFPQ with rescoring are tuned to the recall on a sample of the
queries; the recall that is shown is over all of them, against Flat, which searches the same float32 vectors exactly.
Speeds are medians of rounds in which the systems take turns; the ratios hold where the figures do not. Bytes are those
of the index file; what is rescored is read from the stored vectors beside it. Indexes are kept in --folder, with the
time that building them took. On a machine that others use, set OMP_WAIT_POLICY=passive: faiss's threads spin otherwise.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.corpus import Corpus, read_jsonl
from retrieval.datasets.folder import Folder
from retrieval.encoders.transformer import Transformer
from retrieval.encoding import encode_corpus
from retrieval.environment import hardware, packages
from retrieval.faiss_tuning import recall_of
from retrieval.indexes.faiss import Faiss
from retrieval.indexes.flat import Flat
from retrieval.locate import cache_folder
from retrieval.shards import key
from retrieval.types import Dense
from retrieval.vectors import VectorStore

GENERATED = "generated"
INTRINSIC, CENTRES, SPREAD, NOISE = 32, 1000, 0.7, 0.02  # of what is generated
BLOCK = 1 << 16  # vectors generated at a time
TRAINED = 64  # vectors for each centroid: faiss wants 39 at least
SYSTEMS = ("HNSW", "IVF", "IVFPQ")


@dataclass(frozen=True, eq=False)
class Case:
    """Vectors to search, and queries."""

    name: str
    vectors: VectorStore | np.ndarray
    queries: np.ndarray
    rank: np.ndarray
    folder: Path  # of its indexes


def encoded(name: str, options: argparse.Namespace) -> Case:
    """A collection; of a larger one only so many documents, drawn with seed 0."""
    encoder, collection = Transformer(dtype="float32"), Folder(name).open()
    corpus, shown = collection.corpus, f"{name} ({len(collection.corpus)})"
    if len(corpus) > options.subset:
        shown = f"{name} ({options.subset} of its {len(corpus)} documents)"
        corpus = subset(corpus, options.folder / f"{name}-{options.subset}", options.subset)
    place = cache_folder() / "vectors" / key(corpus, encoder.contract(), "float32")
    encode_corpus(corpus, encoder, place)
    texts = [record["text"] for _, record in read_jsonl(collection.folder / "queries.jsonl")][: options.queries]
    queries = encoder.encode_queries(texts).vectors
    return Case(shown, VectorStore(place), queries, corpus.ids.rank, options.folder / place.name)


def subset(corpus: Corpus, folder: Path, documents: int) -> Corpus:
    """So many documents of a corpus, as a corpus of their own."""
    if folder.is_dir():
        return Corpus(folder)
    rows = np.sort(np.random.default_rng(0).choice(len(corpus), documents, replace=False))
    return Corpus.build(corpus.documents(rows), folder)


def generated(options: argparse.Namespace) -> Case:
    """Unit vectors around centres in a subspace, with noise in all dimensions; queries are drawn as they are."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CENTRES, INTRINSIC), np.float32)
    basis = rng.standard_normal((INTRINSIC, options.dimensions), np.float32) / np.sqrt(np.float32(INTRINSIC))
    vectors = np.empty((options.documents + options.queries, options.dimensions), np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        places = centres[rng.integers(0, CENTRES, len(block))]
        block[:] = (places + SPREAD * rng.standard_normal(places.shape, np.float32)) @ basis
        block += NOISE * rng.standard_normal(block.shape, np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    rank = rng.permutation(options.documents).astype(np.int32)
    folder = options.folder / f"{GENERATED}-{options.documents}-{options.dimensions}"
    name = f"generated ({options.documents} x {options.dimensions})"
    return Case(name, vectors[: options.documents], vectors[options.documents :], rank, folder)


def approximate(case: Case, options: argparse.Namespace) -> dict[str, Faiss]:
    """The systems, opened or built."""
    documents, dimensions = case.vectors.shape
    lists = 1 << max(4, round(np.log2(4 * np.sqrt(documents))))  # faiss advises 4 to 16 times the root
    codes = dimensions // options.per_byte
    named: dict[str, Any] = {"recall": options.recall, "at": options.at}
    trained = min(documents, TRAINED * max(lists, 256))
    made = {
        "HNSW": lambda: Faiss("HNSW32", **named),
        "IVF": lambda: Faiss(f"IVF{lists},Flat", training=trained, **named),
        "IVFPQ": lambda: Faiss(f"IVF{lists},PQ{codes}", training=trained, rescore=options.rescore, **named),
    }
    found = {}
    for system in options.systems:
        index = made[system]()
        index.open(case.vectors, case.rank, case.folder)
        found[index.factory + (f" + rescore {index.rescore}" if index.rescore else "")] = index
    return found


def measured(case: Case, options: argparse.Namespace) -> None:
    """The lines of one case."""
    exact, queries = Flat(device="cpu"), Dense(case.queries)
    exact.build(case.vectors, case.rank)
    systems: dict[str, Flat | Faiss] = {"Flat, exact": exact, **approximate(case, options)}
    lists: dict[str, np.ndarray] = {}
    for name, system in list(systems.items()):
        try:
            lists[name], _ = system.search(queries, options.at)
        except ValueError as error:
            print(f"| {case.name} | {name} | {error} |{' |' * 6}", flush=True)
            del systems[name]
    speeds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(options.rounds):
        for name, system in systems.items():
            speeds[name].append(rate(system, case.queries, options))
    wanted = lists["Flat, exact"]
    for name, system in systems.items():
        about = system.provenance() if isinstance(system, Faiss) else {}
        speed, base = statistics.median(speeds[name]), statistics.median(speeds["Flat, exact"])
        size, whole = about.get("bytes per vector", 4 * case.vectors.shape[1]), 4 * case.vectors.shape[1]
        setting = ", ".join(f"{what} {value}" for what, value in about.get("parameters", {}).items()) or "-"
        print(
            f"| {case.name} | {name} | {recall_of(lists[name], wanted):.4f} | {setting} "
            f"| {speed:.0f} ({min(speeds[name]):.0f}-{max(speeds[name]):.0f}) | {speed / base:.2f} "
            f"| {size:.0f} | {size / whole:.2f} | {about.get('build seconds', 0):.1f} |",
            flush=True,
        )


def rate(system: Flat | Faiss, queries: np.ndarray, options: argparse.Namespace) -> float:
    """Queries a second."""
    step = options.batch or len(queries)
    began = time.perf_counter()
    for start in range(0, len(queries), step):
        system.search(Dense(queries[start : start + step]), options.at)
    return len(queries) / (time.perf_counter() - began)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=["limit-rebuilt", "trec-dl-pool", GENERATED])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--at", type=int, default=100, help="results, of which so many are to be the exact ones")
    parser.add_argument("--subset", type=int, default=20_000, help="documents of a larger collection that are encoded")
    parser.add_argument("--documents", type=int, default=1_000_000, help=f"that are {GENERATED}")
    parser.add_argument("--dimensions", type=int, default=384, help=f"of what is {GENERATED}")
    parser.add_argument("--queries", type=int, default=1000, help="at most")
    parser.add_argument("--batch", type=int, default=0, help="queries at a time; 0 is all")
    parser.add_argument("--per-byte", type=int, default=8, help="dimensions that a byte of PQ stands for")
    parser.add_argument("--rescore", type=int, default=4, help="times the results that IVFPQ's codes choose")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=cache_folder() / "bench" / "ann")
    return parser.parse_args()


def main(options: argparse.Namespace) -> None:
    """All cases."""
    at = f"recall@{options.at}"
    print(f"{datetime.date.today()}  {hardware()}\n{packages()}")
    print(f"{at} of {options.recall} named; queries at a time: {options.batch or 'all'}; {options.rounds} rounds\n")
    print(f"| vectors | system | {at} | tuned | queries/s (range) | x exact | bytes/vector | x exact | build s |")
    print(f"|{'---|' * 9}", flush=True)
    for name in options.cases:
        measured(generated(options) if name == GENERATED else encoded(name, options), options)


if __name__ == "__main__":
    main(arguments())
