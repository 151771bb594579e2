"""Retrieve for every query of a split and evaluate: `python -m retrieval.search configs/x.yaml`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval import evaluate
from eval.explanation_report import print_answer
from eval.measures import parse
from eval.report import figures, print_report
from retrieval.cli import run
from retrieval.collection import Collection
from retrieval.explain import answered
from retrieval.locate import cache_folder
from retrieval.protocols import COUNTED, Dataset, Retriever
from retrieval.run_file import write_run
from retrieval.types import Queries, Run

__all__ = ["MEASURES", "check", "ranked", "search", "searched", "truncated"]

MEASURES = ["nDCG@10", "R@100"]


def search(
    dataset: Dataset,
    retriever: Retriever,
    split: str = "test",
    k: int = 1000,
    measures: list[str] = MEASURES,  # noqa: B006 - read only
    explain: str | list[str | int] | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Write the k best documents for each query of a split to OUT/run.trec and OUT/run.parquet, and print measures.

    `explain=QUERY,DOCUMENT` instead prints what made the score of one document for one query, term by term, and why
    others rank above it, and writes nothing; ids with a comma may be written as a list, explain='["q,1", "d 2"]'.
    """
    collection = dataset.open()
    check(collection, split, measures, k)
    if explain is not None:
        answer = answered(collection, retriever, split, k, explain)
        print_answer(answer)
        return answer.to_dict()
    started = time.perf_counter()
    found = ranked(collection, retriever, split, k)
    seconds = time.perf_counter() - started
    if out:
        write_run(found, out / "run.parquet")
        write_run(found, out / "run.trec")
    evaluation = evaluate(found, collection.qrels(split), measures)
    counts = collection.counts(split) | truncated(retriever)
    notes = [f"{what}: {count}" for what, count in counts.items() if count and what not in ("queries", "judgements")]
    print_report({found.name: evaluation}, f"{collection.name}, {split}", notes=notes)
    return figures({found.name: evaluation}) | {"collection": counts, "seconds": round(seconds, 2)}


def check(collection: Collection, split: str, measures: Sequence[str], k: int = 1) -> None:
    """Raises ValueError, before any work, for a split, a measure or a depth that cannot be."""
    collection.queries(split)
    for measure in measures:
        parse(measure)
    if not measures or k < 1:
        raise ValueError("measures: name at least one" if not measures else f"k is {k}; it must be at least 1")


def truncated(retriever: Retriever) -> dict[str, int]:
    """How many documents and queries were longer than its encoder takes, and what else it counts."""
    about = retriever.provenance() if hasattr(retriever, "provenance") else {}
    return {what: count for what, count in about.items() if what.startswith(COUNTED)}


def ranked(collection: Collection, retriever: Retriever, split: str, k: int, folder: Path | None = None) -> Run:
    """The run of a retriever over a split, without documents of the query's own id where the collection says so."""
    retriever.open(collection.corpus, folder or cache_folder())
    return searched(collection, retriever, collection.queries(split), k)


def searched(collection: Collection, retriever: Retriever, queries: Queries, k: int) -> Run:
    """The same of an opened retriever, for these queries."""
    if not collection.excludes_self:
        return retriever.retrieve(queries, k)
    return retriever.retrieve(queries, k + 1).without_self_hits().top(k)


if __name__ == "__main__":
    run(search)
