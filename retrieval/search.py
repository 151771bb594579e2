"""Retrieve for every query of a split and evaluate: `python -m retrieval.search configs/x.yaml`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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
from retrieval.looks import look, told
from retrieval.protocols import OF_THE_CORPUS, Dataset, Retriever
from retrieval.remembered import counted, measured
from retrieval.run_file import write_run
from retrieval.types import Queries, Run

__all__ = ["MEASURES", "check", "costed", "ranked", "search", "searched"]

MEASURES = ["nDCG@10", "R@100"]
COSTS = (  # what a retriever counts of a language model's work
    "generations",
    "failed generations",
    "cut generations",
    "model calls",
    "cache hits",
    "tokens in",
    "tokens out",
    "generation seconds",
)
KEPT = ("cached tokens in", "cached tokens out", "cached seconds")  # of answers that were there before


def search(
    dataset: Dataset,
    retriever: Retriever,
    split: str = "test",
    k: int = 1000,
    measures: list[str] = MEASURES,  # noqa: B006 - read only
    baseline: Retriever | None = None,
    explain: str | list[str | int] | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Write the k best documents for each query of a split to OUT/run.trec and OUT/run.parquet, and print measures.

    A `baseline` is searched too (OUT/baseline.trec, .parquet), and each measure tested against it query by query. What
    retrieving cost is shown beside it, and wherever a language model was asked.
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
    retrievers = {"run": retriever} if baseline is None else {"run": retriever, "baseline": baseline}
    found = {file: costed(collection, one, collection.queries(split), k) for file, one in retrievers.items()}
    seconds = time.perf_counter() - started
    if out:
        for file, (one, _, _) in found.items():
            write_run(one, out / f"{file}.parquet")
            write_run(one, out / f"{file}.trec")
    counts = collection.counts(split)
    for file, (_, _, own) in found.items():
        counts |= {what if file == "run" else f"{file}: {what}": count for what, count in own.items()}
    return _reported(collection, split, measures, [one[:2] for one in found.values()], counts) | {
        "collection": counts,
        "seconds": round(seconds, 2),
    }


def _reported(
    collection: Collection,
    split: str,
    measures: list[str],
    found: list[tuple[Run, dict[str, float]]],
    counts: Mapping[str, int],
) -> dict[str, Any]:
    """Print the figures of the run, below those of the baseline where there is one; the same as plain values."""
    (first, _), *others = found
    names = [first.name, *("baseline" if one.name == first.name else one.name for one, _ in others)]
    qrels = collection.qrels(split)
    systems = {name: evaluate(one, qrels, measures) for name, (one, _) in zip(names, found, strict=True)}
    costs = dict(zip(names, (cost for _, cost in found), strict=True))
    seen = look(collection, split, "search", [one for one, _ in found])
    against = names[1] if others else None
    notes = [f"{what}: {count}" for what, count in counts.items() if count and what not in ("queries", "judgements")]
    notes.append(told(seen))
    shown = costs if others or "generations" in costs[first.name] else {}
    print_report(
        {name: systems[name] for name in reversed(names)}, f"{collection.name}, {split}", against, notes, shown
    )
    results = figures(systems, against)
    return {name: results[name] | {"cost": costs[name]} for name in names} | {"looks": seen}


def check(collection: Collection, split: str, measures: Sequence[str], k: int = 1) -> None:
    """Raises ValueError, before any work, for a split, a measure or a depth that cannot be."""
    collection.queries(split)
    for measure in measures:
        parse(measure)
    if not measures or k < 1:
        raise ValueError("measures: name at least one" if not measures else f"k is {k}; it must be at least 1")


def costed(
    collection: Collection, retriever: Retriever, queries: Queries, k: int
) -> tuple[Run, dict[str, float], dict[str, int]]:
    """The run of a retriever for these queries, what retrieving cost once it was open, and what else it counted.

    Answers that were kept count with the tokens and seconds that they took when they were asked for: cost is that of
    the method, whatever was asked before.
    """
    retriever.open(collection.corpus, cache_folder())
    found, work = measured(retriever, queries, k + collection.excludes_self)
    if collection.excludes_self:
        found = found.without_self_hits().top(k)
    after = {what: of if what in OF_THE_CORPUS else work.counts.get(what, 0) for what, of in counted(retriever).items()}
    made = {what: after.pop(what, 0) for what in COSTS + KEPT}
    kept = dict(zip(("tokens in", "tokens out", "generation seconds"), (made.pop(what) for what in KEPT), strict=True))
    cost = {what: round(count + kept.get(what, 0), 3) for what, count in made.items()} if made["generations"] else {}
    seconds = (work.seconds + kept["generation seconds"]) / max(len(queries), 1)
    return found, {"seconds per query": seconds} | cost, after


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
