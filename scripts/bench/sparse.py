"""BM25 and term feedback beside bm25s and Pyserini, interleaved: `python scripts/bench/sparse.py --help`.

Collections below RETRIEVAL_DATA, and a generated one (zipf.py), kept in --folder. Each figure is a median of rounds in
which the systems take turns, after two seconds each that are not counted; the ratios hold where the figures do not.
Queries go from text to ranked lists. Pyserini's lists are timed as batch_search returns them, ids not read. Building
is from text in memory (bm25s), an ingested corpus (ours) or files of records (Anserini, its own process and start
included) to an index that can be searched, on all cores where a system can use them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from prf.rm3 import RM3
from prf.rocchio import Rocchio
from retrieval import jvm
from retrieval.analyzers.english import CHUNK, English
from retrieval.collection import Collection
from retrieval.corpus import Corpus, read_documents, read_jsonl
from retrieval.datasets.folder import Folder
from retrieval.environment import hardware, packages
from retrieval.indexes.inverted import Inverted
from retrieval.locate import cache_folder
from retrieval.lucene_index import index_documents
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.types import Queries

CORES = psutil.cpu_count() or 1
QUERIES = 1000
WARM, LEAST = 2.0, 0.2  # seconds of calls that are not counted, in which Java compiles, and of those of a round
GENERATED = "zipf"
PARTS = ("build", "tokens", "search", "feedback", "memory")
SYSTEMS = ("ours", "bm25s", "pyserini")
BARS = {  # how many times as fast as the peer ours is to be
    "build": {"bm25s": 1.5, "pyserini": 1.3},
    "tokens": {"bm25s": 2.0},
    "search": {"bm25s": 1.3, "pyserini": 20.0},
    "feedback": {"pyserini": 10.0},
}
MODELS = {"rm3": RM3, "rocchio": Rocchio}
Work = tuple[Callable[[], Any], int]  # and how many documents or queries it does


class Case:
    """A collection, and what the systems make of it."""

    def __init__(self, collection: Collection, folder: Path):
        """`folder` keeps Pyserini's files and indexes."""
        self.name, self.collection, self.folder = collection.name, collection, folder

    @cached_property
    def corpus(self) -> Corpus:
        """Ours: ingested."""
        return self.collection.corpus

    @cached_property
    def texts(self) -> list[str]:
        """Title and text of each document, as every system indexes them."""
        batches = (zip(*(part.to_pylist() for part in batch), strict=True) for batch in self.corpus.batches())
        return [f"{title} {text}".strip() for batch in batches for title, text in batch]

    @cached_property
    def queries(self) -> Queries:
        """Those of the file, or as many of them at even distances as are timed."""
        found = {
            str(record["_id"]): record["text"] for _, record in read_jsonl(self.collection.folder / "queries.jsonl")
        }
        return _spread(Queries(list(found), list(found.values())), QUERIES)

    def records(self) -> Path:
        """Anserini's input, a file for each thread."""
        folder = self.folder / f"records-{CORES}"
        if not folder.is_dir():
            part = Path(tempfile.mkdtemp(dir=self.folder))
            for number in range(CORES):
                with open(part / f"{number}.jsonl", "w", encoding="utf-8") as file:
                    for row in range(number, len(self.texts), CORES):
                        file.write(json.dumps({"id": str(row), "contents": self.texts[row]}) + "\n")
            part.rename(folder)
        return folder


class Ours:
    """BM25 and FeedbackRetriever."""

    def __init__(self, case: Case):
        self.case = case

    def build(self, folder: Path) -> None:
        """Analysis included."""
        BM25().open(self.case.corpus, folder)

    def build_with_ingest(self, folder: Path) -> None:
        """From corpus.jsonl on."""
        documents = read_documents(self.case.collection.folder / "corpus.jsonl")
        BM25().open(Corpus.build(documents, folder / "corpus"), folder)

    def search(self, k: int, threads: int, queries: Queries) -> Callable[[], Any]:
        """Queries as they come."""
        retriever = self._opened(BM25(index=Inverted(threads=threads)))
        return lambda: retriever.retrieve(queries, k)

    def feedback(self, model: str, k: int, queries: Queries) -> Callable[[], Any]:
        """Two passes."""
        retriever = self._opened(FeedbackRetriever(BM25(), MODELS[model]()))
        return lambda: retriever.retrieve(queries, k)

    def _opened(self, retriever: Any) -> Any:
        retriever.open(self.case.corpus, cache_folder())
        return retriever


class Bm25s:
    """With its compiled search, PyStemmer's Porter stemmer and its English stop words."""

    def __init__(self, case: Case):
        import bm25s
        import Stemmer

        logging.getLogger("bm25s").setLevel(logging.WARNING)
        self.case, self.bm25s, self.stemmer = case, bm25s, Stemmer.Stemmer("porter")

    def tokenize(self, texts: list[str]) -> Any:
        """Terms as numbers."""
        return self.bm25s.tokenize(texts, stopwords="en", stemmer=self.stemmer, show_progress=False)

    def build(self, folder: Path | None = None) -> Any:
        """In memory, nothing is written."""
        index = self.bm25s.BM25(k1=0.9, b=0.4, method="lucene", backend="numba", csc_backend="scipy")
        index.index(self.tokenize(self.case.texts), show_progress=False)
        return index

    @cached_property
    def index(self) -> Any:
        """One that stays."""
        return self.build()

    def search(self, k: int, threads: int, queries: Queries) -> Callable[[], Any]:
        """Tokens included."""
        return lambda: self._retrieve(self.tokenize(list(queries.texts)), k, threads)

    def search_alone(self, k: int, threads: int, queries: Queries) -> Callable[[], Any]:
        """From tokens made before."""
        tokens = self.tokenize(list(queries.texts))
        return lambda: self._retrieve(tokens, k, threads)

    def _retrieve(self, tokens: Any, k: int, threads: int) -> Any:
        return self.index.retrieve(tokens, k=k, n_threads=0 if threads == 1 else threads, show_progress=False)


class Pyserini:
    """Anserini's IndexCollection, and LuceneSearcher."""

    def __init__(self, case: Case):
        self.case = case

    def build(self, folder: Path) -> None:
        """A minimal index: no positions, vectors or texts."""
        where = ["-input", str(self.case.records()), "-index", str(folder / "index"), "-threads", str(CORES)]
        how = ["-collection", "JsonCollection", "-generator", "DefaultLuceneDocumentGenerator"]
        jvm.run("io.anserini.index.IndexCollection", *where, *how)

    def searcher(self, vectors: bool = False) -> Any:
        """Of an index that stays; feedback needs vectors of documents."""
        folder = self.case.folder / ("lucene-vectors" if vectors else "lucene")
        if not folder.is_dir():
            records = ({"id": str(row), "contents": text} for row, text in enumerate(self.case.texts))
            index_documents(records, folder, CORES, *(["-storeDocvectors"] if vectors else []))
        searcher = jvm.pyserini_module("pyserini.search.lucene").LuceneSearcher(str(folder))
        searcher.set_bm25(0.9, 0.4)
        return searcher

    def search(self, k: int, threads: int, queries: Queries) -> Callable[[], Any]:
        """By its batch search."""
        searcher = self.searcher()
        return lambda: searcher.batch_search(list(queries.texts), list(queries.ids), k=k, threads=threads)

    def feedback(self, model: str, k: int, queries: Queries) -> Callable[[], Any]:
        """With its defaults."""
        searcher = self.searcher(vectors=True)
        getattr(searcher, f"set_{model}")()
        return lambda: searcher.batch_search(list(queries.texts), list(queries.ids), k=k, threads=CORES)


MADE: dict[str, Callable[[Case], Any]] = {"ours": Ours, "bm25s": Bm25s, "pyserini": Pyserini}


class Bench:
    """Times works in turns and prints a line of the table for each task."""

    def __init__(self, rounds: int):
        self.rounds = rounds
        print("| collection | task | x bm25s | x Pyserini | bars met | ours /s | bm25s /s | Pyserini /s | notes |")
        print(f"|{'---|' * 9}", flush=True)

    def compare(self, name: str, part: str, task: str, works: dict[str, Work]) -> None:
        """One task of one collection; a work whose name is no system's becomes a note."""
        speeds: dict[str, list[float]] = {system: [] for system in works}
        for work, _ in works.values():
            _seconds(work, WARM)
        for _ in range(self.rounds):
            for system, (work, count) in works.items():
                speeds[system].append(count / _seconds(work))
        medians = {system: statistics.median(values) for system, values in speeds.items()}
        ratios = {peer: medians["ours"] / medians[peer] for peer in SYSTEMS[1:] if {"ours", peer} <= {*medians}}
        bars = {peer: bar for peer, bar in BARS[part].items() if peer in ratios}
        met = "; ".join(f"{'yes' if ratios[peer] >= bar else 'NO'}, {bar:g} x {peer}" for peer, bar in bars.items())
        cells = [f"{ratios[peer]:.2f}" if peer in ratios else "" for peer in SYSTEMS[1:]]
        figures = [_figure(speeds[system]) if system in speeds else "" for system in SYSTEMS]
        notes = "; ".join(f"{what} {_figure(speeds[what])}" for what in works if what not in SYSTEMS)
        print(f"| {name} | {task} | {' | '.join([*cells, met, *figures, notes])} |", flush=True)


def _seconds(work: Callable[[], Any], least: float = LEAST) -> float:
    """Seconds of one call, repeated where it is short."""
    calls, started = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - started < least:
        work()
        calls += 1
    return (time.perf_counter() - started) / calls


def _figure(speeds: list[float]) -> str:
    return f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f}-{max(speeds):,.0f})"


def build(bench: Bench, case: Case, systems: dict[str, Any]) -> None:
    """Documents/s from text to index."""

    def fresh(work: Callable[[Path], Any]) -> Work:
        def run() -> None:
            with tempfile.TemporaryDirectory(dir=case.folder) as folder:
                work(Path(folder))

        return run, len(case.corpus)

    if "pyserini" in systems:
        case.records()
    works = {name: fresh(system.build) for name, system in systems.items()}
    if "ours" in systems:
        works["ours from corpus.jsonl"] = fresh(systems["ours"].build_with_ingest)
    bench.compare(case.name, "build", "build, documents", works)


def tokens(bench: Bench, case: Case, systems: dict[str, Any]) -> None:
    """Documents/s of analysis alone."""
    works: dict[str, Work] = {}
    if "ours" in systems:
        analyzer, column = English(), pa.array(case.texts, pa.large_string())
        parts = [column.slice(start, CHUNK) for start in range(0, len(column), CHUNK)]
        works["ours"] = lambda: analyzer.analyze(column), len(column)
        works["ours, one thread"] = lambda: [analyzer.analyze(part) for part in parts], len(column)
    if "bm25s" in systems:
        works["bm25s"] = lambda: systems["bm25s"].tokenize(case.texts), len(case.texts)
    if works:
        bench.compare(case.name, "tokens", "tokens, documents", works)


def search(bench: Bench, case: Case, systems: dict[str, Any], fewer: int) -> None:
    """Queries/s of BM25."""
    for k, threads in product((10, 1000), sorted({1, CORES})):
        asked = {name: _asked(case, name, fewer) for name in systems}
        works = {name: (system.search(k, threads, asked[name]), len(asked[name])) for name, system in systems.items()}
        if "bm25s" in systems:
            alone = systems["bm25s"].search_alone(k, threads, asked["bm25s"])
            works["bm25s without its tokenizer"] = alone, len(asked["bm25s"])
        bench.compare(case.name, "search", f"BM25, k {k}, {_threads(threads)}, queries", works)


def feedback(bench: Bench, case: Case, systems: dict[str, Any], fewer: int) -> None:
    """Queries/s of RM3 and Rocchio; bm25s has neither."""
    able = {name: system for name, system in systems.items() if hasattr(system, "feedback")}
    for model, k in product(MODELS, (10, 1000)) if able else ():
        asked = {name: _asked(case, name, fewer) for name in able}
        works = {name: (system.feedback(model, k, asked[name]), len(asked[name])) for name, system in able.items()}
        bench.compare(case.name, "feedback", f"{model}, k {k}, {_threads(CORES)}, queries", works)


def _asked(case: Case, system: str, fewer: int) -> Queries:
    """Pyserini is given fewer queries of the generated collection."""
    return _spread(case.queries, fewer if system == "pyserini" and case.name == GENERATED else QUERIES)


def _spread(queries: Queries, most: int) -> Queries:
    return queries.take(range(0, len(queries), -(-len(queries) // most)))


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def memory(case: Case, systems: dict[str, Any], options: argparse.Namespace) -> None:
    """The most resident memory of each system while it builds, files it maps included, in a process of its own."""
    if "pyserini" in systems:
        case.records()
    for name in systems:
        same = ["--folder", str(options.folder), "--documents", str(options.documents), "--peak", name, case.name]
        output = subprocess.run([sys.executable, __file__, *same], capture_output=True, text=True, check=True).stdout
        print(f"memory, building {case.name}, {name}: {float(output.splitlines()[-1]):.2f} GB", flush=True)


def peak(case: Case, system: str) -> float:
    """GB that this process, or Java below it, held at most."""
    with tempfile.TemporaryDirectory(dir=case.folder) as folder:
        MADE[system](case).build(Path(folder))
    if system == "pyserini":
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024 / 1e9


def cases(names: list[str], folder: Path, documents: int) -> dict[str, Case]:
    """Collections by name; the generated one is written where it is not there yet."""
    found = {}
    for name in names:
        place = folder / f"{name}-{documents}" if name == GENERATED else folder / name
        place.mkdir(parents=True, exist_ok=True)
        if name == GENERATED and not (place / "collection").is_dir():
            script = [sys.executable, str(Path(__file__).with_name("zipf.py"))]
            subprocess.run([*script, str(place / "collection"), str(documents)], check=True)
        collection = Collection(place / "collection", name) if name == GENERATED else Folder(name).open()
        found[name] = Case(collection, place)
    return found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collections", nargs="*", default=["limit-rebuilt", "trec-dl-pool", "nfcorpus", GENERATED])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--documents", type=int, default=1_000_000, help=f"of the generated collection, {GENERATED}")
    parser.add_argument("--fewer", type=int, default=200, help="queries of it that Pyserini is given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=cache_folder() / "bench")
    parser.add_argument("--peak", choices=SYSTEMS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main(options: argparse.Namespace) -> None:
    """All parts of all collections."""
    print(f"{datetime.date.today()}  {hardware()}\n{packages()}\nmedians of {options.rounds} rounds (lowest-highest)\n")
    bench = Bench(options.rounds)
    for case in cases(options.collections, options.folder, options.documents).values():
        systems = {name: MADE[name](case) for name in options.systems}
        steps = {"build": build, "tokens": tokens}
        for part in options.parts:
            if part in steps:
                steps[part](bench, case, systems)
            elif part != "memory":
                {"search": search, "feedback": feedback}[part](bench, case, systems, options.fewer)
        if "memory" in options.parts and case.name == GENERATED:
            memory(case, systems, options)


if __name__ == "__main__":
    chosen = arguments()
    if chosen.peak:
        (one,) = cases(chosen.collections, chosen.folder, chosen.documents).values()
        print(peak(one, chosen.peak))
    else:
        main(chosen)
