"""Many systems on many tasks: averages that are whole or not given, tests within each task, and a terminal table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.comparison import Difference, differences
from eval.measures import Evaluation
from eval.significance import ALPHA
from retrieval.judgements import judged_by, refuse_two_judges
from retrieval.tasks import short

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Averages", "TaskRow", "averaged", "print_suite", "task_row"]

FEW = 5  # tasks that an average lacks, in words
MARKS = ("▲", "▼")  # better and worse than the baseline

Means = Mapping[str, Mapping[str, float]]  # system -> measure -> mean
Tests = Mapping[str, Difference]  # of each system but the baseline from it


@dataclass(frozen=True, eq=False)
class TaskRow:
    """What each system scored on a task, and tests by measure."""

    task: str
    systems: Mapping[str, Evaluation]
    tests: Mapping[str, Tests]

    @property
    def measures(self) -> list[str]:
        """The task's, the main one first."""
        return list(next(iter(self.systems.values())).values)

    @property
    def judge(self) -> str | None:
        """The model that judged; None is people."""
        return next(iter(self.systems.values())).judge

    @property
    def means(self) -> Means:
        """Of every system, by measure."""
        return {name: evaluation.mean for name, evaluation in self.systems.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        systems = {
            name: {"mean": evaluation.mean, "counts": dict(evaluation.counts)}
            | {
                "paired t-test": {
                    measure: _plain(tests[name]) for measure, tests in self.tests.items() if name in tests
                }
            }
            for name, evaluation in self.systems.items()
        }
        return {"measures": self.measures, "systems": systems} | ({"judged by": self.judge} if self.judge else {})


@dataclass(frozen=True)
class Averages:
    """The averages whose tasks were all run, and for the others what they lack."""

    whole: Mapping[str, Means]
    lacking: Mapping[str, Sequence[str]]  # names of tasks


def task_row(task: str, systems: Mapping[str, Evaluation], baseline: str | None = None) -> TaskRow:
    """The systems of a task, and paired t-tests against the baseline, Holm over all its systems and measures."""
    if baseline is None:
        return TaskRow(task, systems, {})
    tests: dict[str, dict[str, Difference]] = {}
    for one in differences(systems, baseline, "holm", resamples=None):
        tests.setdefault(one.measure, {})[one.system] = one
    return TaskRow(task, systems, tests)


def averaged(averages: Mapping[str, Sequence[str]], rows: Sequence[TaskRow]) -> Averages:
    """Means of the means of tasks, by every measure that all of them have; never over fewer tasks than are named.

    A part that is an average itself counts as one task. Raises ValueError for tasks that were not judged by the same.
    """
    known: dict[str, Means] = {row.task: row.means for row in rows}
    judges: dict[str, str | None] = {row.task: row.judge for row in rows}
    whole: dict[str, Means] = {}
    lacking: dict[str, list[str]] = {}
    for name, parts in averages.items():
        absent = [task for part in parts if part not in known for task in lacking.get(part, [part])]
        if absent:
            lacking[name] = absent
        else:
            refuse_two_judges(judges[part] for part in parts)
            judges[name] = judges[parts[0]]
            known[name] = whole[name] = _mean_of([known[part] for part in parts])
    return Averages(whole, lacking)


def print_suite(
    rows: Sequence[TaskRow], averages: Averages, title: str, baseline: str | None = None, notes: Sequence[str] = ()
) -> None:
    """Print tasks and averages against systems, what is over which sets, and the notes."""
    from rich.console import Console

    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    console.print(_table(rows, averages, title))
    if any(tests for row in rows for tests in row.tests.values()):
        up, down = MARKS
        console.print(
            f"{up} {down} better, worse than {baseline}: p < {ALPHA} in a paired t-test over queries, two-sided, Holm "
            "over the systems and measures of a task",
            markup=False,
        )
    for line in [*_averages_in_words(averages), *notes]:
        console.print(line, soft_wrap=True, markup=False)


def _table(rows: Sequence[TaskRow], averages: Averages, title: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    systems = list(rows[0].systems)
    table = Table("task", "queries", "measure", title=escape(title), title_justify="left")
    for name in systems:
        table.add_column(escape(name), justify="right", overflow="fold")
    for row in rows:
        queries = len(next(iter(row.systems.values())).query_ids)
        _add(table, judged_by(row.task, row.judge), str(queries), row.means, row.tests)
    for name, means in averages.whole.items():
        _add(table, short(name), "", means, {})
    return table


def _add(table: Table, name: str, queries: str, means: Means, tests: Mapping[str, Tests]) -> None:
    """A line for each measure."""
    from rich.markup import escape

    for number, measure in enumerate(next(iter(means.values()))):
        shown = _shown({system: one[measure] for system, one in means.items()}, tests.get(measure, {}))
        table.add_row(escape(name) if number == 0 else "", queries if number == 0 else "", measure, *shown)
    table.add_section()


def _shown(means: Mapping[str, float], tests: Tests) -> list[str]:
    best = max(round(mean, 4) for mean in means.values())
    cells = []
    for name, mean in means.items():
        bold = len(means) > 1 and round(mean, 4) == best
        mark = _mark(tests[name]) if name in tests else " " * bool(tests)
        cells.append(f"[bold]{mean:.4f}[/bold]{mark}" if bold else f"{mean:.4f}{mark}")
    return cells


def _mark(one: Difference) -> str:
    return MARKS[one.test.difference < 0] if one.significant() else " "


def _averages_in_words(averages: Averages) -> list[str]:
    given = [f"mean of tasks: {name}" for name in averages.whole]
    return given + [f"no mean: {short(name)} lacks {_few(absent)}" for name, absent in averages.lacking.items()]


def _few(tasks: Sequence[str]) -> str:
    return ", ".join(tasks) if len(tasks) <= FEW else f"{', '.join(tasks[:FEW])} and {len(tasks) - FEW} more"


def _mean_of(parts: Sequence[Means]) -> Means:
    systems = list(parts[0])
    shared = [one for one in parts[0][systems[0]] if all(one in part[systems[0]] for part in parts)]
    return {
        system: {one: math.fsum(part[system][one] for part in parts) / len(parts) for one in shared}
        for system in systems
    }


def _plain(one: Difference) -> dict[str, Any]:
    return {**one.test.to_dict(), "p after Holm": one.corrected["t"]}
