"""What smaller vectors cost: `python -m retrieval.curve configs/curve/x.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval import evaluate
from eval.curve_report import Point, draw_curve, print_curve, share
from eval.measures import parse
from eval.report import figures
from retrieval.cli import run
from retrieval.encoding import dense
from retrieval.locate import cache_folder
from retrieval.looks import look, told
from retrieval.protocols import Dataset, Encoder, Index
from retrieval.remembered import counted
from retrieval.retrievers.dense import DenseRetriever
from retrieval.run_file import write_run
from retrieval.search import MEASURES, check, searched

__all__ = ["curve"]

SIZE, RESCORED = "bytes per vector", "bytes per vector rescored"  # of an index's provenance


def curve(
    dataset: Dataset,
    encoder: Encoder,
    indexes: dict[str, Index],
    split: str = "test",
    k: int = 100,
    measures: list[str] = MEASURES,  # noqa: B006 - read only
    baseline: str | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Search the same vectors with each index; print and draw measures against bytes per vector, to OUT/curve.png.

    Corpus and queries are encoded once. Each run is written as OUT/NAME.trec and OUT/NAME.parquet. An index must say
    its `bytes per vector` in `provenance()`. The first measure is drawn, and compared with that of `baseline`.
    """
    _refuse(indexes, baseline, k, measures)
    collection = dataset.open()
    check(collection, split, measures, k)
    queries = collection.queries(split)
    asked = replace(queries, representations=dense(encoder.encode_queries(queries.texts)))
    counts = collection.counts(split)
    points, made, runs = [], {}, []
    for name, index in indexes.items():
        retriever = DenseRetriever(encoder, index)
        retriever.open(collection.corpus, cache_folder())
        made[name] = _made(name, retriever.index)
        found = replace(searched(collection, retriever, asked, k), name=name)
        if out:
            write_run(found, out / f"{name}.parquet")
            write_run(found, out / f"{name}.trec")
        evaluation = evaluate(found, collection.qrels(split), measures)
        runs.append(found)
        points.append(Point(name, made[name][SIZE], made[name].get(RESCORED), evaluation))
        counts |= counted(retriever) | {"truncated queries": getattr(asked.representations, "truncated", 0)}
    seen = look(collection, split, "curve", runs)
    _show(points, f"{collection.name}, {split}", baseline, counts, told(seen), out)
    return _figures(points, made, baseline) | {"collection": counts, "looks": seen}


def _refuse(indexes: Mapping[str, Index], baseline: str | None, k: int, measures: Sequence[str]) -> None:
    """Raises ValueError, before any work, for names and depths that cannot be."""
    if not indexes:
        raise ValueError("indexes: name at least one")
    if baseline is not None and baseline not in indexes:
        raise ValueError(f"baseline {baseline!r} is none of the indexes: {', '.join(indexes)}")
    for name, index in indexes.items():
        if "/" in name or name in ("collection", "looks"):
            raise ValueError(f"indexes: {name!r} cannot name one; it is taken, or holds a / and so ends a file name")
        if not hasattr(index, "provenance"):
            raise ValueError(f"indexes: {name} is a {type(index).__name__}, which does not say its bytes per vector")
    deep = [measure for measure in measures if (parse(measure).params.get("cutoff") or 0) > k]
    if deep:
        raise ValueError(f"measures: {deep[0]} looks deeper than the k = {k} that are retrieved; set k")


def _made(name: str, index: Any) -> dict[str, Any]:
    about = dict(index.provenance())
    if SIZE not in about:
        raise ValueError(f"indexes: {name} does not say its {SIZE}, only {', '.join(about) or 'nothing'}")
    return about


def _show(
    points: list[Point], title: str, baseline: str | None, counts: dict[str, int], seen: str, out: Path | None
) -> None:
    first = next((point for point in points if point.name == baseline), None)
    notes = [f"{what}: {count}" for what, count in counts.items() if count and what not in ("queries", "judgements")]
    print_curve(points, title, first, [*notes, seen])
    if out:
        print(f"picture: {draw_curve(points, out / 'curve.png', title, first)}")


def _figures(points: list[Point], made: dict[str, dict[str, Any]], baseline: str | None) -> dict[str, Any]:
    found = figures({point.name: point.evaluation for point in points}, baseline)
    for point in points:
        found[point.name]["index"] = made[point.name]
        for first in [one for one in points if one.name == baseline]:
            found[point.name]["share of baseline"] = share(point, first)
    return found


if __name__ == "__main__":
    run(curve)
