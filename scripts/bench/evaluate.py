"""Evaluation beside ir_measures, pytrec_eval and ranx: `python scripts/bench/evaluate.py [queries] [rounds]`.

Each in a process of its own, on the same run of 1,000 documents a query with judgements like MS MARCO's dev set, four
measures. Lines that name a file read run and judgements from files; for the others input of the form each tool takes is
made before the clock starts, except where a line says that it is timed. Needs the extra `bench`.
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
import pyarrow as pa

from eval import evaluate
from retrieval.environment import hardware
from retrieval.ids import DocIds
from retrieval.qrels_file import read_qrels, write_qrels
from retrieval.run_file import read_run, write_run
from retrieval.types import Qrels, Run

ROUNDS, DEPTH, DOCUMENTS = 3, 1000, 8_841_823  # the passages of MS MARCO
MEASURES = ["nDCG@10", "AP@1000", "RR@10", "R@1000"]
PARQUET, TREC, WARM = "ours, run.parquet", "ours, run.trec", "ours, a Run"
Timed = Callable[[], float]  # does the work and returns nDCG@10


def example(queries: int) -> tuple[Run, Qrels]:
    """A run over 8.8 million documents; one judged document a query, for some two, mostly retrieved."""
    rng = np.random.default_rng(0)
    docs = DocIds.of(pa.array(np.arange(DOCUMENTS)).cast(pa.large_string()))
    names = [str(name) for name in np.sort(rng.choice(1_102_400, queries, replace=False))]
    rows = np.stack([rng.permutation(np.unique(rng.integers(0, DOCUMENTS, DEPTH + 50)))[:DEPTH] for _ in names])
    scores = (rng.gamma(3, 2, rows.shape) + 8).astype(np.float32)
    run = Run.ordered(names, docs, rows.astype(np.int32), scores)
    judged = {}
    for name, ranked in zip(names, run.rows, strict=True):
        ranks = np.minimum(rng.geometric(0.02, 1 + (rng.random() < 0.07)), DEPTH + 200)
        judged[name] = {str(ranked[rank - 1] if rank <= DEPTH else -rank): 1 for rank in ranks}
    return run, Qrels.from_dict(judged)


def generate(folder: Path, queries: int) -> None:
    """The example as files."""
    run, qrels = example(queries)
    write_run(run, folder / "run.trec")
    write_run(run, folder / "run.parquet")
    write_qrels(qrels, folder / "qrels")


def ours_from(name: str) -> Callable[[Path, int], dict[str, Timed]]:
    """Reading a file and evaluating it; with the imports."""

    def made(folder: Path, queries: int) -> dict[str, Timed]:
        work = lambda: evaluate(read_run(folder / name), read_qrels(folder / "qrels"), MEASURES).mean["nDCG@10"]  # noqa: E731
        return {f"ours, {name}": work}

    return made


def ir_measures_from(folder: Path, queries: int) -> dict[str, Timed]:
    """Reading a file and evaluating it, as its documentation does."""

    def work() -> float:
        import ir_measures

        measures = [ir_measures.parse_measure(name) for name in MEASURES]
        judged = ir_measures.read_trec_qrels(str(folder / "qrels"))
        return ir_measures.calc_aggregate(measures, judged, ir_measures.read_trec_run(str(folder / "run.trec")))[
            measures[0]
        ]

    return {"ir_measures, run.trec": work}


def ours(folder: Path, queries: int) -> dict[str, Timed]:
    """From a Run in memory, the first time with the imports."""
    run, qrels = example(queries)
    work = lambda: evaluate(run, qrels, MEASURES).mean["nDCG@10"]  # noqa: E731
    return {"ours, a Run, first": work, WARM: work}


def ir_measures(folder: Path, queries: int) -> dict[str, Timed]:
    """From dictionaries, and from named tuples."""
    import ir_measures

    run, qrels = example(queries)
    measures = [ir_measures.parse_measure(name) for name in MEASURES]
    judged, found = qrels.to_dict(), run.to_dict()
    listed = [ir_measures.ScoredDoc(query, doc, score) for query, docs in found.items() for doc, score in docs.items()]
    return {
        "ir_measures, dictionaries": lambda: ir_measures.calc_aggregate(measures, judged, found)[measures[0]],
        "ir_measures, ScoredDocs": lambda: ir_measures.calc_aggregate(measures, judged, listed)[measures[0]],
    }


def pytrec_eval(folder: Path, queries: int) -> dict[str, Timed]:
    """From dictionaries."""
    import pytrec_eval

    run, qrels = example(queries)
    judged, found = qrels.to_dict(), run.to_dict()

    def work() -> float:
        names = {"ndcg_cut_10", "map_cut_1000", "recip_rank", "recall_1000"}
        values = pytrec_eval.RelevanceEvaluator(judged, names).evaluate(found)
        return sum(value["ndcg_cut_10"] for value in values.values()) / len(judged)

    return {"pytrec_eval, dictionaries": work}


def ranx(folder: Path, queries: int) -> dict[str, Timed]:
    """Its own Run and Qrels from dictionaries, its compiled code the first time, and again."""
    import ranx

    run, qrels = example(queries)
    judged, found = qrels.to_dict(), run.to_dict()
    made: list[Any] = []

    def build() -> float:
        made[:] = [ranx.Qrels(judged), ranx.Run(found)]
        return float("nan")

    def work() -> float:
        return ranx.evaluate(*made, ["ndcg@10", "map@1000", "mrr@10", "recall@1000"])["ndcg@10"]

    return {"ranx, building its Run": build, "ranx, first": work, "ranx, warm": work}


SYSTEMS: dict[str, Callable[[Path, int], dict[str, Timed]]] = {
    "parquet": ours_from("run.parquet"),
    "trec": ours_from("run.trec"),
    "ir_measures_from": ir_measures_from,
    "ours": ours,
    "ir_measures": ir_measures,
    "pytrec_eval": pytrec_eval,
    "ranx": ranx,
}


def timed(system: str, folder: Path, queries: int) -> None:
    """One system in this process: prints wall and processor seconds, nDCG@10 and peak memory of each step."""
    found = {}
    for name, work in SYSTEMS[system](folder, queries).items():
        started, used = time.perf_counter(), time.process_time()
        value = work()
        seconds = time.perf_counter() - started, time.process_time() - used
        found[name] = [*seconds, value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]
    print(json.dumps(found))


def measured(folder: Path, queries: int, rounds: int) -> dict[str, list[list[float]]]:
    """Wall seconds, processor seconds, nDCG@10 and peak GiB of every step, round by round; systems take turns."""
    # in a process of its own: a child's peak memory counts from its parent's
    subprocess.run([sys.executable, __file__, "--generate", str(folder), str(queries)], check=True)
    found: dict[str, list[list[float]]] = {}
    for _ in range(rounds):
        for system in SYSTEMS:
            command = [sys.executable, __file__, "--system", system, str(folder), str(queries)]
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            for name, step in json.loads(output.splitlines()[-1]).items():
                found.setdefault(name, []).append(step)
    return found


def show(found: dict[str, list[list[float]]], queries: int, rounds: int) -> None:
    """The table, and the bars."""
    packages = ("numpy", "pyarrow", "ir-measures", "pytrec-eval-terrier", "ranx", "numba")
    print(f"{datetime.date.today()}  {hardware()}")
    print({name: importlib.metadata.version(name) for name in packages})
    print(f"{queries:,} queries x {DEPTH:,} documents, {', '.join(MEASURES)}; medians of {rounds} rounds")
    print(f"{'':28}{'seconds':>9}{'from - to':>16}{'cpu':>9}{'nDCG@10':>12}{'peak GiB':>10}")
    for name, steps in found.items():
        wall, cpu, values, peak = (list(column) for column in zip(*steps, strict=True))
        middle, spread = statistics.median(wall), f"{min(wall):.2f} - {max(wall):.2f}"
        print(f"{name:28}{middle:9.3f}{spread:>16}{statistics.median(cpu):9.3f}{values[0]:12.8f}{max(peak):10.2f}")
    print(f"\n{'bar':58}{'wall':>9}{'cpu':>9}")
    bars = {  # what must be: one step, over another where it is a ratio
        "run.parquet read and evaluated, seconds: below 1.5": (PARQUET, None),
        "run.trec read and evaluated, seconds: below 4": (TREC, None),
        "ir_measures from run.trec / ours from run.parquet: 10": ("ir_measures, run.trec", PARQUET),
        "ir_measures from run.trec / ours from run.trec": ("ir_measures, run.trec", TREC),
        "ranx, warm / ours, both in memory: 3": ("ranx, warm", WARM),
    }
    for bar, (name, base) in bars.items():
        wall, cpu = (
            [statistics.median(step[column] for step in found[one]) if one else 1.0 for one in (name, base)]
            for column in (0, 1)
        )
        print(f"{bar:58}{wall[0] / wall[1]:9.2f}{cpu[0] / cpu[1]:9.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--system"]:
        timed(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1:2] == ["--generate"]:
        generate(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        queries, rounds = [int(text) for text in sys.argv[1:3]] + [6980, ROUNDS][len(sys.argv[1:3]) :]
        with tempfile.TemporaryDirectory() as folder:
            show(measured(Path(folder), queries, rounds), queries, rounds)
