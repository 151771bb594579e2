"""Evaluation beside ir_measures, pytrec_eval and ranx: `python scripts/bench/evaluate.py [queries]`.

Each in a process of its own, on the same run of 1,000 documents a query with judgements like MS MARCO's dev set, four
measures. Input of the form each tool takes is made before the clock starts, except where a line says that it is timed.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from eval import evaluate
from retrieval.environment import hardware
from retrieval.ids import DocIds
from retrieval.types import Qrels, Run

ROUNDS, DEPTH, DOCUMENTS = 3, 1000, 8_841_823  # the passages of MS MARCO
MEASURES = ["nDCG@10", "AP@1000", "RR@10", "R@1000"]
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


def ours(run: Run, qrels: Qrels) -> dict[str, Timed]:
    """From a Run in memory, the first time with the imports."""
    work = lambda: evaluate(run, qrels, MEASURES).mean["nDCG@10"]  # noqa: E731
    return {"ours, first": work, "ours": work}


def ir_measures(run: Run, qrels: Qrels) -> dict[str, Timed]:
    """From dictionaries, and from named tuples."""
    import ir_measures

    measures = [ir_measures.parse_measure(name) for name in MEASURES]
    judged, found = qrels.to_dict(), run.to_dict()
    listed = [ir_measures.ScoredDoc(query, doc, score) for query, docs in found.items() for doc, score in docs.items()]
    return {
        "ir_measures, dictionaries": lambda: ir_measures.calc_aggregate(measures, judged, found)[measures[0]],
        "ir_measures, ScoredDocs": lambda: ir_measures.calc_aggregate(measures, judged, listed)[measures[0]],
    }


def pytrec_eval(run: Run, qrels: Qrels) -> dict[str, Timed]:
    """From dictionaries."""
    import pytrec_eval

    judged, found = qrels.to_dict(), run.to_dict()

    def work() -> float:
        names = {"ndcg_cut_10", "map_cut_1000", "recip_rank", "recall_1000"}
        values = pytrec_eval.RelevanceEvaluator(judged, names).evaluate(found)
        return sum(value["ndcg_cut_10"] for value in values.values()) / len(judged)

    return {"pytrec_eval, dictionaries": work}


def ranx(run: Run, qrels: Qrels) -> dict[str, Timed]:
    """Its own Run and Qrels from dictionaries, its compiled code the first time, and again."""
    import ranx

    judged, found = qrels.to_dict(), run.to_dict()
    made: list[Any] = []

    def build() -> float:
        made[:] = [ranx.Qrels(judged), ranx.Run(found)]
        return float("nan")

    def work() -> float:
        return ranx.evaluate(*made, ["ndcg@10", "map@1000", "mrr@10", "recall@1000"])["ndcg@10"]

    return {"ranx, building its Run": build, "ranx, first": work, "ranx": work}


SYSTEMS = {"ours": ours, "ir_measures": ir_measures, "pytrec_eval": pytrec_eval, "ranx": ranx}


def timed(system: str, queries: int) -> None:
    """One system in this process: prints seconds, nDCG@10 and peak memory of each step."""
    found = {}
    for name, work in SYSTEMS[system](*example(queries)).items():
        started = time.perf_counter()
        value = work()
        seconds = time.perf_counter() - started
        found[name] = [seconds, value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]
    print(json.dumps(found))


def compare(queries: int) -> None:
    """All systems, interleaved."""
    found: dict[str, list[list[float]]] = {}
    for _ in range(ROUNDS):
        for system in SYSTEMS:
            command = [sys.executable, __file__, "--system", system, str(queries)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            for name, step in json.loads(output.splitlines()[-1]).items():
                found.setdefault(name, []).append(step)
    packages = ("numpy", "pyarrow", "ir-measures", "pytrec-eval-terrier", "ranx", "numba")
    print(f"{datetime.date.today()}  {hardware()}")
    print({name: importlib.metadata.version(name) for name in packages})
    print(f"{queries:,} queries x {DEPTH:,} documents, {', '.join(MEASURES)}; medians of {ROUNDS} rounds")
    print(f"{'':28}{'seconds':>9}{'from - to':>16}{'x ours':>8}{'nDCG@10':>12}{'peak GiB':>10}")
    base = statistics.median(seconds for seconds, _, _ in found["ours"])
    for name, steps in found.items():
        wall, values, peak = (list(column) for column in zip(*steps, strict=True))
        middle, spread = statistics.median(wall), f"{min(wall):.2f} - {max(wall):.2f}"
        print(f"{name:28}{middle:9.3f}{spread:>16}{middle / base:8.1f}{values[0]:12.8f}{max(peak):10.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--system"]:
        timed(sys.argv[2], int(sys.argv[3]))
    else:
        compare(int(sys.argv[1]) if len(sys.argv) > 1 else 6980)
