"""Reading and writing run files beside polars and ir_measures: `python scripts/bench/run_file.py [folder] [queries]`.

Each in a process of its own, medians of three interleaved rounds. 1,000 results a query; documents are drawn evenly
from 8.8 million numbers, the hard case: 7,000 queries name 4.8 million different ones.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.environment import hardware
from retrieval.ids import DocIds
from retrieval.run_file import read_run, write_run

ROUNDS, DEPTH, DOCUMENTS = 3, 1000, 8_841_823  # the passages of MS MARCO


def generate(folder: Path, queries: int) -> None:
    """run.trec, a tenth of it as part.trec, and run.parquet."""
    rng = np.random.default_rng(0)
    names = np.sort(rng.choice(1_102_400, queries, replace=False)).tolist()
    with open(folder / "run.trec", "w") as whole, open(folder / "part.trec", "w") as part:
        for number, name in enumerate(names):
            docs = rng.permutation(np.unique(rng.integers(0, DOCUMENTS, DEPTH + 50)))[:DEPTH].tolist()
            scores = np.sort((rng.gamma(3, 2, DEPTH) + 8).astype(np.float32))[::-1]
            results = enumerate(zip(docs, scores, strict=True), 1)
            text = "".join(f"{name} Q0 {doc} {rank} {score} bm25\n" for rank, (doc, score) in results)
            whole.write(text)
            part.write(text if number % 10 == 0 else "")
    write_run(read_run(folder / "run.trec"), folder / "run.parquet")


def with_collection(path: Path) -> Callable[[], Any]:
    """Reading for a corpus, whose ids are there before."""
    import pyarrow as pa

    docs = DocIds.of(pa.array(np.arange(DOCUMENTS)).cast(pa.large_string()))
    return lambda: read_run(path, docs=docs)


def writing(source: Path, target: str) -> Callable[[], Any]:
    """Writing a run that is in memory."""
    run = read_run(source)
    return lambda: write_run(run, source.with_name(target))


def polars(path: Path) -> Callable[[], Any]:
    """The columns alone: no ids made rows, nothing ordered or checked."""
    import polars

    return lambda: polars.read_csv(path, separator=" ", has_header=False, quote_char=None)


def ir_measures(path: Path) -> Callable[[], Any]:
    """A list of named tuples."""
    import ir_measures

    return lambda: list(ir_measures.read_trec_run(str(path)))


TASKS: dict[str, Callable[[Path], Callable[[], Any]]] = {
    "read_run run.trec": lambda folder: lambda: read_run(folder / "run.trec"),
    "read_run run.trec, docs=collection": lambda folder: with_collection(folder / "run.trec"),
    "read_run run.parquet": lambda folder: lambda: read_run(folder / "run.parquet"),
    "polars.read_csv run.trec": lambda folder: polars(folder / "run.trec"),
    "write_run .trec": lambda folder: writing(folder / "run.parquet", "out.trec"),
    "write_run .parquet": lambda folder: writing(folder / "run.parquet", "out.parquet"),
    "read_run part.trec": lambda folder: lambda: read_run(folder / "part.trec"),
    "polars.read_csv part.trec": lambda folder: polars(folder / "part.trec"),
    "ir_measures.read_trec_run part.trec": lambda folder: ir_measures(folder / "part.trec"),
}


def timed(name: str, folder: Path) -> None:
    """One task in this process: prints wall and processor seconds, and the peak memory of the whole process."""
    work = TASKS[name](folder)
    started, used = time.perf_counter(), time.process_time()
    kept = work()
    seconds = time.perf_counter() - started, time.process_time() - used
    del kept
    print(json.dumps([*seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))


def compare(folder: Path, queries: int) -> None:
    """All tasks, interleaved."""
    # in a process of its own too: a child's peak memory counts from its parent's
    subprocess.run([sys.executable, __file__, "--generate", str(folder), str(queries)], check=True)
    found: dict[str, list[list[float]]] = {name: [] for name in TASKS}
    for _ in range(ROUNDS):
        for name in TASKS:
            command = [sys.executable, __file__, "--task", name, str(folder)]
            found[name].append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    versions = {name: importlib.metadata.version(name) for name in ("pyarrow", "numpy", "polars", "ir-measures")}
    print(f"{datetime.date.today()}  {hardware()}\n{versions}")
    print(f"{queries * DEPTH:,} results in run.trec, a tenth in part.trec; medians of {ROUNDS} rounds, wall from - to")
    print(f"{'':38}{'wall s':>8}{'from - to':>15}{'cpu s':>8}{'peak GiB':>10}")
    for name, rounds in found.items():
        wall, cpu, peak = (list(column) for column in zip(*rounds, strict=True))
        spread = f"{min(wall):.2f} - {max(wall):.2f}"
        print(f"{name:38}{statistics.median(wall):8.2f}{spread:>15}{statistics.median(cpu):8.2f}{max(peak):10.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        timed(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1:2] == ["--generate"]:
        generate(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
            compare(Path(folder), int(sys.argv[2]) if len(sys.argv) > 2 else 7000)
