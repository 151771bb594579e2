"""What the first dimensions of vectors are worth: `python -m retrieval.truncation configs/limit/x.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval import evaluate
from eval.measures import Evaluation, parse
from eval.report import figures, print_report
from eval.truncation_report import Published, draw_truncation
from retrieval.cli import run
from retrieval.indexes.quantised import Quantised
from retrieval.limit import density, strength
from retrieval.locate import cache_folder
from retrieval.looks import look, told
from retrieval.protocols import Dataset, Encoder, Retriever
from retrieval.remembered import counted
from retrieval.retrievers.dense import DenseRetriever
from retrieval.run_file import write_run
from retrieval.search import check, ranked, searched
from retrieval.types import Qrels, Run

__all__ = ["truncation"]

NARROWEST = 32  # dimensions that are kept at least, where none are named
_System = tuple[str, int | None]  # a name, and how many dimensions of an encoder's vectors


def truncation(
    dataset: Dataset,
    encoders: dict[str, Encoder],
    retrievers: dict[str, Retriever] = {},  # noqa: B006 - read only
    dimensions: list[int] | None = None,
    split: str = "test",
    k: int = 100,
    measures: list[str] = ["R@100"],  # noqa: B006 - read only
    published: Published | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Search with the first 32, 64, 128 ... and all dimensions of each encoder's vectors; draw measures by dimensions.

    Vectors are cut, given length 1 again and searched exactly; corpus and queries are encoded once. `dimensions` names
    other cuts. `retrievers`, such as BM25 or late interaction, are levels on the same axes, and `published` adds what
    LIMIT's paper gives. Pictures are OUT/truncation.png and .svg; each run is OUT/NAME.trec and OUT/NAME.parquet.
    """
    widths = _refuse(encoders, retrievers, dimensions, k, measures)
    collection = dataset.open()
    check(collection, split, measures, k)
    qrels, counts = collection.qrels(split), collection.counts(split)
    runs: dict[_System, Run] = {}
    for name, retriever in retrievers.items():
        runs[name, None] = ranked(collection, retriever, split, k)
        counts |= {f"{name}: {what}": count for what, count in counted(retriever).items()}
    for name, encoder in encoders.items():
        asked = collection.queries(split)
        for width in widths[name]:
            cut = DenseRetriever(encoder, Quantised("float32", width, metric="cosine"))
            cut.open(collection.corpus, cache_folder())
            asked = cut.encoded(asked)  # by the first cut
            runs[name, width] = searched(collection, cut, asked, k)
        own = counted(cut) | {"truncated queries": getattr(asked.representations, "truncated", 0)}
        counts |= {f"{name}: {what}": count for what, count in own.items()}
    if out:
        _write(runs, out)
    seen, systems = look(collection, split, "truncation", runs.values()), _evaluated(runs, qrels, measures)
    pattern = _pattern(qrels)
    notes = [f"{what}: {count}" for what, count in counts.items() if count and what not in ("queries", "judgements")]
    notes += [f"{what} of the judgements: {value:.4g}" for what, value in pattern.items()]
    _show(systems, f"{collection.name}, {split}", [*notes, told(seen)], out, published)
    return _figures(systems) | {"collection": counts, "looks": seen} | pattern


def _refuse(
    encoders: Mapping[str, Encoder],
    retrievers: Mapping[str, Retriever],
    dimensions: Sequence[int] | None,
    k: int,
    measures: Sequence[str],
) -> dict[str, list[int]]:
    """The widths to cut the vectors of each encoder to. Raises ValueError, before any work, for what cannot be."""
    if not encoders:
        raise ValueError("encoders: name at least one")
    for name in [*encoders, *retrievers]:
        if "/" in name or name == "collection":
            raise ValueError(f"{name!r} cannot name a system; it is taken, or holds a / and so ends a file name")
    both = sorted({*encoders} & {*retrievers})
    if both:
        raise ValueError(f"{both[0]!r} names an encoder and a retriever: call one otherwise")
    deep = [measure for measure in measures if (parse(measure).params.get("cutoff") or 0) > k]
    if deep:
        raise ValueError(f"measures: {deep[0]} looks deeper than the k = {k} that are retrieved; set k")
    return {name: _widths(name, encoder, dimensions) for name, encoder in encoders.items()}


def _widths(name: str, encoder: Encoder, dimensions: Sequence[int] | None) -> list[int]:
    whole = encoder.contract().get("dimensions")
    if whole is None:
        raise ValueError(
            f"encoders: {name} makes no one vector of a text, whose dimensions could be cut: search with it"
        )
    if dimensions is None:
        return [*(1 << power for power in range(20) if NARROWEST <= 1 << power < whole), whole]
    if not dimensions:
        raise ValueError("dimensions is an empty list: give at least one, or leave it out")
    for width in dimensions:
        if not 1 <= width <= whole:
            raise ValueError(f"dimensions: {width} of the vectors of {name}, which have {whole}; give 1 to {whole}")
    return sorted(set(dimensions))


def _write(runs: Mapping[_System, Run], out: Path) -> None:
    for (name, width), found in runs.items():
        system = f"{name}-{width}" if width else name
        for ending in ("parquet", "trec"):
            write_run(replace(found, name=system), out / f"{system}.{ending}")


def _evaluated(runs: Mapping[_System, Run], qrels: Qrels, measures: Sequence[str]) -> dict[_System, Evaluation]:
    return {system: evaluate(found, qrels, measures) for system, found in runs.items()}


def _show(
    systems: Mapping[_System, Evaluation],
    title: str,
    notes: Sequence[str],
    out: Path | None,
    published: Published | None,
) -> None:
    shown = {f"{name}, {width}" if width else name: one for (name, width), one in systems.items()}
    print_report(shown, title, None, notes)
    if not out:
        return
    curves: dict[str, dict[int, Evaluation]] = {}
    for (name, width), one in systems.items():
        if width:
            curves.setdefault(name, {})[width] = one
    levels = {name: one for (name, width), one in systems.items() if not width}
    for path in draw_truncation(curves, levels, out, title, published):
        print(f"picture: {path}")


def _figures(systems: Mapping[_System, Evaluation]) -> dict[str, Any]:
    """By name, and below an encoder's by dimensions."""
    found: dict[str, Any] = {}
    for (name, width), one in systems.items():
        block = figures({name: one})[name]
        if width:
            found.setdefault(name, {})[str(width)] = block
        else:
            found[name] = block
    return found


def _pattern(qrels: Qrels) -> dict[str, float]:
    """How much queries share documents; nothing of a single query."""
    judged = qrels.to_dict()
    return {"density": density(judged), "strength": strength(judged)} if len(judged) > 1 else {}


if __name__ == "__main__":
    run(truncation)
