"""Runs of several systems over the same judgements, compared query by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.cautions import cautions
from eval.cells import Cell
from eval.measures import Evaluation
from eval.resampling import RESAMPLES, bootstrap, randomisation
from eval.significance import ALPHA, PairedTest, corrected, gaps, paired_t
from eval.significance import correction as correction_of
from eval.views import by_task, depths
from retrieval.registry import guess
from retrieval.types import Qrels

__all__ = ["TESTS", "Comparison", "Difference", "compare", "differences", "family"]

TESTS = {"t": "paired t", "randomisation": "randomisation", "bootstrap": "bootstrap"}


@dataclass(frozen=True)
class Difference:
    """One system against another on one measure; p and interval are missing where `test` says that it is untested."""

    system: str
    against: str
    measure: str
    test: PairedTest
    p: Mapping[str, float | None]  # by test, as it is
    corrected: Mapping[str, float | None]  # by test, for all that was looked at
    resampled: tuple[float, float] | None  # 95% interval of the bootstrap's percentiles

    def significant(self, test: str = "t") -> bool:
        """Whether the corrected p of a test is below 0.05."""
        p = self.corrected[test]
        return p is not None and p < ALPHA


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two or more systems on one task, all of their differences tested as one family."""

    cells: Sequence[Cell]
    baseline: str | None  # what each is compared with; None where each is compared with all
    correction: str
    resamples: int
    seed: int
    differences: Sequence[Difference]  # by measure, then by pair
    cautions: Sequence[str]  # what a reader must know before believing them

    @property
    def task(self) -> str:
        """What all were judged on."""
        return self.cells[0].task

    @property
    def systems(self) -> dict[str, Evaluation]:
        """What each scored."""
        return {cell.system: cell.evaluation for cell in self.cells}

    @property
    def family(self) -> str:
        """The tests that are corrected together."""
        return family(self.differences, self.correction)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without those of each query."""
        deep = depths(self.cells)
        return {
            "task": self.task,
            "systems": {
                name: {"mean": one.mean, "counts": dict(one.counts), "depth": deep[name]}
                for name, one in self.systems.items()
            },
            "baseline": self.baseline,
            "family": self.family,
            "correction": self.correction,
            "resamples": self.resamples,
            "seed": self.seed,
            "differences": [asdict(one) for one in self.differences],
            "cautions": list(self.cautions),
        }


def compare(
    cells: Sequence[Cell],
    baseline: str | None = None,
    correction: str = "holm",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare each system with the baseline, or each with all before it.

    Raises ValueError for fewer than two systems, two of one name, an unknown baseline or correction, and for cells of
    other tasks, queries, judgements or measures than the first.
    """
    _refuse(cells, baseline)
    found = differences({cell.system: cell.evaluation for cell in cells}, baseline, correction, resamples, seed)
    return Comparison(tuple(cells), baseline, correction, resamples, seed, found, cautions(cells))


def differences(
    systems: Mapping[str, Evaluation],
    baseline: str | None = None,
    correction: str = "holm",
    resamples: int | None = RESAMPLES,
    seed: int = 0,
) -> list[Difference]:
    """Every measure of each system against the baseline, or against all systems before it, tested as one family.

    Without `resamples` by the t-test alone. Raises ValueError as `paired_t` does, and for an unknown correction.
    """
    correction_of(correction)
    asked = [(*pair, measure) for measure in next(iter(systems.values())).mean for pair in _pairs(systems, baseline)]
    tests = [paired_t(systems[a], systems[b], measure) for a, b, measure in asked]
    p: dict[str, list[float | None]] = {"t": [test.p for test in tests]}
    intervals: list[tuple[float, float] | None] = [None] * len(tests)
    if resamples is not None and tests:
        between = np.stack([gaps(systems[a], systems[b], measure) for a, b, measure in asked], axis=1)
        again = bootstrap(between, resamples, seed)
        p["randomisation"] = _where(tests, randomisation(between, resamples, seed).tolist())
        p["bootstrap"] = _where(tests, again.p.tolist())
        intervals = _where(tests, [(low, high) for low, high in again.intervals.tolist()])
    right = {name: corrected(values, correction) for name, values in p.items()}
    return [
        Difference(
            *asked[n],
            test,
            {name: values[n] for name, values in p.items()},
            {name: values[n] for name, values in right.items()},
            intervals[n],
        )
        for n, test in enumerate(tests)
    ]


def family(found: Sequence[Difference], correction: str) -> str:
    """The tests that were corrected together, in words."""
    if len(found) == 1:
        return "not corrected, for it is the only test"
    measures = len({one.measure for one in found})
    pairs = len(found) // max(measures, 1)
    of = f"{pairs} pair{'s' * (pairs > 1)} of systems on {measures} measure{'s' * (measures > 1)}"
    return f"corrected by {correction.title()} over {len(found)} tests ({of})"


def _pairs(systems: Mapping[str, Evaluation], baseline: str | None) -> list[tuple[str, str]]:
    names = list(systems)
    if baseline is not None:
        return [(name, baseline) for name in names if name != baseline]
    return [(name, before) for number, before in enumerate(names) for name in names[number + 1 :]]


def _where(tests: Sequence[PairedTest], values: Sequence[Any]) -> list[Any]:
    """Values of those that can be tested."""
    return [None if test.untested else value for test, value in zip(tests, values, strict=True)]


def _refuse(cells: Sequence[Cell], baseline: str | None) -> None:
    names = [cell.system for cell in cells]
    if len(cells) < 2:
        there = f"only {names[0]}" if names else "none"
        raise ValueError(f"nothing to compare: two runs at least are needed, and there is {there}")
    if baseline is not None and baseline not in names:
        raise ValueError(f"baseline {baseline!r} is none of the runs: {', '.join(names)}.{guess(baseline, names)}")
    tasks = by_task(cells, baseline)
    if len(tasks) > 1:
        raise ValueError(f"the runs are of {len(tasks)} tasks, {', '.join(tasks)}: compare those of one at a time")
    for cell in cells[1:]:
        if not _same(cell.qrels, cells[0].qrels):
            raise ValueError(
                f"{cell.system} was judged by {len(cell.qrels)} judgements, {cells[0].system} by "
                f"{len(cells[0].qrels)}, and they differ; evaluate both with the same qrels"
            )


def _same(one: Qrels, other: Qrels) -> bool:
    return one is other or (
        list(one.query_ids) == list(other.query_ids)
        and np.array_equal(one.query, other.query)
        and np.array_equal(one.grades, other.grades)
        and one.doc_ids.equals(other.doc_ids)
    )
