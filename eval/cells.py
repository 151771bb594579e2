"""What comparisons, tables and pages are made of: one system on one task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from eval.measures import Evaluation
from retrieval.types import Qrels, Run

__all__ = ["Cell", "Curve", "Texts"]


@dataclass(frozen=True, eq=False)
class Cell:
    """What one system scored on one task, and what it retrieved."""

    system: str
    task: str
    evaluation: Evaluation
    run: Run
    qrels: Qrels
    cost: Mapping[str, float] = field(default_factory=dict)  # as retrieval.search counts: "seconds per query", ...


@dataclass(frozen=True, eq=False)
class Texts:
    """The texts of a task: queries by id, and a document's title and text by its id."""

    queries: Mapping[str, str]
    document: Callable[[str], str]


@dataclass(frozen=True, eq=False)
class Curve:
    """A chart of lines, such as recall by dimension: points (x, y) by the name of their line, x ascending."""

    name: str
    x: str  # what the axes show
    y: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    log: bool = False  # whether x is logarithmic
