"""Evaluate run files against a split: `python -m retrieval.evaluate configs/x.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval import evaluate as measure
from eval.report import draw, figures, print_report
from retrieval.cli import run
from retrieval.looks import look, told
from retrieval.protocols import Dataset
from retrieval.run_file import find_run, read_run
from retrieval.search import MEASURES, check

__all__ = ["evaluate"]


def evaluate(
    dataset: Dataset,
    runs: dict[str, Path],
    split: str = "test",
    measures: list[str] = MEASURES,  # noqa: B006 - read only
    baseline: str | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Measure run files (TREC or Parquet), each under a name, and test each against `baseline` query by query.

    Paths may be below RETRIEVAL_DATA, and of a folder of results. retrieval.compare says all that can be said of two.
    """
    if baseline is not None and baseline not in runs:
        raise ValueError(f"baseline {baseline!r} is none of the runs: {', '.join(runs)}")
    if not runs or "looks" in runs:
        raise ValueError("runs: name another so, looks is taken" if runs else "runs: name at least one run file")
    collection = dataset.open()
    check(collection, split, measures)
    qrels = collection.qrels(split)
    found = {name: read_run(find_run(path)) for name, path in runs.items()}
    systems = {name: measure(one, qrels, measures) for name, one in found.items()}
    title, seen = f"{collection.name}, {split}", look(collection, split, "evaluate", found.values())
    print_report(systems, title, baseline, [told(seen)])
    if out:
        print(f"picture: {draw(systems, out / 'measures.png', title)}")
    return figures(systems, baseline) | {"looks": seen}


if __name__ == "__main__":
    run(evaluate)
