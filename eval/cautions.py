"""What a reader must know before believing a difference: missing judgements, other depths, missing queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.cells import Cell
from eval.measures import evaluate, parse
from eval.views import depths
from retrieval.order import PAD
from retrieval.types import Qrels, Run

__all__ = ["HIGH", "cautions", "condensed", "unjudged"]

HIGH, APART = 0.2, 0.05  # the share of unjudged results from which on it is said, and the difference of two shares


def cautions(cells: Sequence[Cell]) -> list[str]:
    """In a line each; empty where judgements, depths and queries are alike for all."""
    return [*_missing(cells), *_depths(cells), *_unjudged(cells)]


def unjudged(cell: Cell) -> float:
    """The share of a system's top results that nobody judged."""
    return next(share for what, share in cell.evaluation.counts.items() if what.startswith("unjudged"))


def condensed(run: Run, qrels: Qrels) -> Run:
    """The run without documents that are not judged for their query. Sakai (2007)."""
    place = {query: number for number, query in enumerate(qrels.query_ids)}
    places = np.array([place.get(query, -1) for query in run.query_ids], np.int64)
    rows = run.docs.rows(qrels.doc_ids)
    judged = (qrels.query.astype(np.int64) << 32 | rows)[rows >= 0]
    own = np.where(places[:, None] >= 0, places[:, None] << 32 | run.rows, -1)  # -1 for PAD, too
    kept = np.isin(own, judged)
    return Run.ordered(run.query_ids, run.docs, np.where(kept, run.rows, PAD), run.scores, run.name)


def _missing(cells: Sequence[Cell]) -> list[str]:
    found = []
    for cell in cells:
        counts = cell.evaluation.counts
        lacking = int(counts["missing from the run"] + counts["without results"])
        if lacking:
            found.append(
                f"{cell.system} has no results for {lacking} of the {counts['judged queries']} judged queries: "
                "they score 0"
            )
    return found


def _depths(cells: Sequence[Cell]) -> list[str]:
    deep = depths(cells)
    least = min(deep.values())
    measures = list(cells[0].evaluation.values)
    cutoffs = {measure: parse(measure).params.get("cutoff") for measure in measures}
    if len(set(deep.values())) == 1:
        beyond = [measure for measure, cutoff in cutoffs.items() if cutoff and cutoff > least]
        return [f"{', '.join(beyond)}: the runs hold only {least} results for a query"] * bool(beyond)
    beyond = [measure for measure, cutoff in cutoffs.items() if cutoff is None or cutoff > least]
    favours = f"; {', '.join(beyond)} favour the deeper" if beyond else "; no measure looks deeper than the shortest"
    listed = ", ".join(f"{name} {depth:,}" for name, depth in deep.items())
    return [f"the runs are not equally deep, in results for a query: {listed}{favours}"]


def _unjudged(cells: Sequence[Cell]) -> list[str]:
    """Where much is unjudged, or more of one system than of another, what the figures are without it."""
    shares = {cell.system: unjudged(cell) for cell in cells}
    if max(shares.values()) <= HIGH and max(shares.values()) - min(shares.values()) <= APART:
        return []
    measure = next(iter(cells[0].evaluation.mean))
    listed = ", ".join(f"{share:.1%} of {name}" for name, share in shares.items())
    left = ", ".join(f"{cell.system} {_without(cell, measure):.4f}" for cell in cells)
    return [
        f"unjudged in the top 10, which counts as not relevant: {listed}; "
        f"{measure} with unjudged results left out: {left}"
    ]


def _without(cell: Cell, measure: str) -> float:
    return evaluate(condensed(cell.run, cell.qrels), cell.qrels, [measure]).mean[measure]
