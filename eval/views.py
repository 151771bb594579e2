"""What the page and the pictures for papers both show, computed once: who stands where, recall by rank, by length."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.cells import Cell, Curve, Texts
from eval.measures import evaluate

__all__ = ["PALETTE", "Bin", "by_task", "cost_names", "depths", "length_bins", "recall_by_rank", "training_curves"]

# Okabe and Ito (2008), told apart with any colour vision; without their yellow, too pale for a line
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
RANKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)
BINS = 5
POINTS = 400  # of a line of training losses


@dataclass(frozen=True, eq=False)
class Bin:
    """Queries of a like number of words."""

    label: str
    places: np.ndarray  # int [queries in it], ascending


def by_task(cells: Sequence[Cell], baseline: str | None = None) -> dict[str, list[Cell]]:
    """The cells of each task, in the order given.

    Raises ValueError for no cells, a system that is there twice, a baseline that is not there, and for cells of a task
    that were evaluated on other queries or by other measures than its first.
    """
    if not cells:
        raise ValueError("there is nothing to report: give at least one run")
    systems = list(dict.fromkeys(cell.system for cell in cells))
    if baseline is not None and baseline not in systems:
        raise ValueError(f"baseline {baseline!r} is none of the systems: {', '.join(systems)}")
    tasks: dict[str, list[Cell]] = {}
    for cell in cells:
        _refuse(cell, tasks.setdefault(cell.task, []))
        tasks[cell.task].append(cell)
    return tasks


def _refuse(cell: Cell, before: Sequence[Cell]) -> None:
    """Raises ValueError where a cell does not go with those of its task."""
    if cell.system in [other.system for other in before]:
        raise ValueError(f"system {cell.system!r} is given twice on {cell.task}: name each run once")
    for first in before[:1]:
        here, there = list(cell.evaluation.query_ids), list(first.evaluation.query_ids)
        if here != there:
            raise ValueError(
                f"{cell.task}: {cell.system} was judged on {len(here)} queries, {first.system} on {len(there)}, "
                f"{len({*here} & {*there})} in both; evaluate both with the same qrels"
            )
        if list(cell.evaluation.values) != list(first.evaluation.values):
            raise ValueError(
                f"{cell.task}: {cell.system} has {', '.join(cell.evaluation.values)}, {first.system} has "
                f"{', '.join(first.evaluation.values)}; evaluate both with the same measures"
            )


def cost_names(cells: Sequence[Cell]) -> list[str]:
    """The kinds of cost that any of these systems has."""
    every = dict.fromkeys(name for cell in cells for name in cell.cost)
    return [name for name in every if any(cell.cost.get(name) for cell in cells)]


def depths(cells: Sequence[Cell]) -> dict[str, int]:
    """How many documents each system returns for the query that it returns most for."""
    return {cell.system: int((cell.run.rows >= 0).sum(axis=1).max(initial=0)) for cell in cells}


def recall_by_rank(cells: Sequence[Cell]) -> tuple[str, dict[str, list[tuple[float, float]]]]:
    """The measure's name without its cutoff, and for each system its mean at some ranks, down to the run's depth.

    A document is relevant from the grade on that the task's own measures ask for most strictly, as AP(rel=2) does.
    """
    names = [name for cell in cells for name in cell.evaluation.values]
    level = max((int(grade) for name in names for grade in re.findall(r"\brel=(\d+)", name)), default=1)
    measure = "R" if level == 1 else f"R(rel={level})"
    found = {}
    for cell, depth in zip(cells, depths(cells).values(), strict=True):
        ranks = sorted({*[rank for rank in RANKS if rank < depth], max(depth, 1)})
        mean = evaluate(cell.run, cell.qrels, [f"{measure}@{rank}" for rank in ranks]).mean
        found[cell.system] = [(float(rank), value) for rank, value in zip(ranks, mean.values(), strict=True)]
    return measure, found


def length_bins(query_ids: Sequence[str], texts: Texts) -> list[Bin]:
    """The queries in up to five groups of about the same size by number of words; those without text are the last."""
    lengths = np.array([len(texts.queries[query].split()) if query in texts.queries else 0 for query in query_ids])
    known = lengths[lengths > 0]
    levels = np.linspace(0, 1, BINS + 1)[1:]
    edges = np.unique(np.quantile(known, levels, method="higher")).tolist() if len(known) else []
    bins, low = [], 0
    for edge in edges:
        places = np.flatnonzero((lengths > low) & (lengths <= edge))
        least = int(lengths[places].min())
        bins.append(Bin(f"{least}" if least == edge else f"{least}–{edge}", places))
        low = edge
    without = np.flatnonzero(lengths == 0)
    return [*bins, *([Bin("no text", without)] if len(without) else [])]


def bin_means(values: np.ndarray, bins: Sequence[Bin]) -> list[float]:
    """The mean of per-query values in each group."""
    return [math.fsum(values[one.places]) / len(one.places) for one in bins]


def training_curves(training: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Curve]:
    """Losses, and each measure on dev, by step: a chart of each with a line per model. Lines are of training.jsonl."""
    losses = {name: _thinned(_points(lines, lambda line: line.get("loss"))) for name, lines in training.items()}
    every = [line for lines in training.values() for line in lines]
    measures = dict.fromkeys(measure for line in every for measure in line.get("evaluation") or {})
    charts = {"training loss": losses}
    for measure in measures:
        charts[f"dev {measure}"] = {
            name: _points(lines, lambda line, measure=measure: (line.get("evaluation") or {}).get(measure))
            for name, lines in training.items()
        }
    kept = {name: {model: points for model, points in lines.items() if points} for name, lines in charts.items()}
    return [Curve(name, "step", name, lines) for name, lines in kept.items() if lines]


def _points(lines: Sequence[Mapping[str, Any]], value: Any) -> list[tuple[float, float]]:
    found = [(line["step"], value(line)) for line in lines]
    return [(float(step), float(one)) for step, one in found if one is not None]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most POINTS points, each the mean of those it stands for; short lines stay as they are."""
    if len(points) <= POINTS:
        return points
    parts = np.array_split(np.array(points), POINTS)
    return [(float(part[-1, 0]), float(part[:, 1].mean())) for part in parts]
