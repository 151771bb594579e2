"""Many systems on many collections: `python -m retrieval.suite configs/suite/x.yaml`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from eval.cells import Cell
from eval.suite_table import Averages, TaskRow, averaged, print_suite, task_row
from retrieval.cell_folder import CellFolder, Scored
from retrieval.cli import run
from retrieval.composed import encoders, other_models, settings
from retrieval.files import whole_file
from retrieval.looks import look
from retrieval.manifest import NAME, one_line
from retrieval.open_task import OpenTask
from retrieval.protocols import Retriever, Suite, Task
from retrieval.registry import guess
from retrieval.remembered import remembering
from retrieval.types import Run

__all__ = ["suite"]

FILES = (NAME, "results.json", "report.html")  # beside the folders of systems
SHOWN = 6  # cells of a count that are listed


def suite(
    suite: Suite,
    retrievers: dict[str, Retriever],
    only: list[str] | None = None,
    baseline: str | None = None,
    measures: list[str] | None = None,
    missing: Literal["refuse", "skip"] = "refuse",
    out: Path | None = None,
) -> dict[str, Any]:
    """Run every retriever over every task of a suite, or `only` those named; print, test and average what they score.

    A cell is OUT/<system>/<task>. One that is finished is neither searched nor evaluated again, so that systems, tasks
    and measures (None: those of each task) may be added to a folder later; one of another retriever, or of other data,
    is refused. Each system is tested against `baseline` within a task. A task whose data is not there stops all before
    anything runs, or with `missing: skip` is listed as not run; no average is made over fewer tasks than it names.
    Writes OUT/results.json and OUT/report.html, which opens offline.
    """
    tasks = _chosen(suite.tasks(), only)
    _refuse_names(retrievers, tasks, baseline)
    opened, absent = _opened(tasks, measures, missing)
    folders = _folders(opened, retrievers, out)
    done = sum(
        folder.finished() for folder in folders.values() if folder
    )  # refuses what is not theirs, before any work
    print(f"{len(opened)} tasks, {len(retrievers)} systems, {done} cells of which are finished already")
    found: dict[str, dict[str, Scored]] = {}
    for one in opened:
        with remembering(one.queries, one.plain):
            found[one.task.name] = {
                name: _cell(one, name, retriever, folders[name, one.task.name])
                for name, retriever in retrievers.items()
            }
    rows = [
        task_row(task, {name: one.evaluation for name, one in row.items()}, baseline) for task, row in found.items()
    ]
    averages = averaged(suite.averages(), rows)
    results = _results(rows, found, averages, absent)
    _show(rows, averages, found, absent, baseline)
    if out:
        with whole_file(out / "results.json") as part:
            part.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        shown = {name: parts for name, parts in suite.averages().items() if name in averages.whole}
        print(f"page: {_page(out, opened, found, folders, shown, baseline)}")
    return results


def _chosen(tasks: Sequence[Task], only: Sequence[str] | None) -> list[Task]:
    """The tasks that are run, in the order of the suite."""
    names = [task.name for task in tasks]
    if not tasks:
        raise ValueError("suite: it has no tasks")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"suite: two of its tasks are named {twice[0]!r}: leave one out, or name its folder otherwise")
    for name in only or []:
        if name not in names:
            raise ValueError(f"only: no task {name!r} in this suite; it has {', '.join(names)}.{guess(name, names)}")
    if only == []:
        raise ValueError(f"only: name at least one of {', '.join(names)}, or leave it out")
    return [task for task in tasks if only is None or task.name in only]


def _refuse_names(retrievers: Mapping[str, Retriever], tasks: Sequence[Task], baseline: str | None) -> None:
    """Raises ValueError for names that cannot be those of folders, and for a baseline that is none of the systems."""
    if not retrievers:
        raise ValueError("retrievers: name at least one")
    for what, name in [("retrievers", name) for name in retrievers] + [("suite", task.name) for task in tasks]:
        if not name or "/" in name or name in (".", "..", *FILES):
            raise ValueError(f"{what}: {name!r} cannot name a folder of results; name it without a slash, and not so")
    if baseline is not None and baseline not in retrievers:
        raise ValueError(f"baseline {baseline!r} is none of the retrievers: {', '.join(retrievers)}")


def _opened(
    tasks: Sequence[Task], measures: Sequence[str] | None, missing: str
) -> tuple[list[OpenTask], dict[str, str]]:
    """The tasks whose data is there, and why that of the others is not."""
    opened, absent = [], {}
    for task in tasks:
        try:
            opened.append(OpenTask.of(task, measures))
        except FileNotFoundError as error:
            absent[task.name] = one_line(error)
        except ValueError as error:
            raise ValueError(f"{task.name}: {error}") from error
    if absent and (missing == "refuse" or not opened):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
        fix = " (missing: skip runs the others, and lists these)" if opened else ""
        raise FileNotFoundError(f"the data of {len(absent)} of {len(tasks)} tasks is not there{fix}: {reasons}")
    return opened, absent


def _folders(
    opened: Sequence[OpenTask], retrievers: Mapping[str, Retriever], out: Path | None
) -> dict[tuple[str, str], CellFolder | None]:
    """The folder of each cell, by system and task; None without OUT."""
    if out is None:
        return {(name, one.task.name): None for name in retrievers for one in opened}
    manifest = json.loads((out / NAME).read_text(encoding="utf-8")) if (out / NAME).is_file() else {}
    under_way = manifest.get("status") == "running"  # else it is of another call, with retrievers of its own
    blocks = manifest["recipe"].get("retrievers", {}) if under_way else {}
    folders: dict[tuple[str, str], CellFolder | None] = {}
    for name, retriever in retrievers.items():
        made = {
            "retriever": blocks[name] if name in blocks else settings(retriever),
            "encoders": [dict(encoder.contract()) for encoder in encoders(retriever)],
        }
        if others := other_models(retriever):
            made["other models"] = [dict(one.contract()) for one in others]
        for one in opened:
            of = json.loads(json.dumps({**made, **one.made_of()}, default=str))
            folders[name, one.task.name] = CellFolder(out / name / one.task.name, of)
    return folders


def _cell(one: OpenTask, name: str, retriever: Retriever, folder: CellFolder | None) -> Scored:
    """What a system scores on a task, now or before."""
    if folder is None:
        return _searched(one, name, retriever)[1]
    if folder.finished():
        return _completed(one, folder)
    with folder.attempt() as manifest:
        run, scored = _searched(one, name, retriever)
        folder.write_run(run)
        folder.write(scored)
        made_of = retriever.provenance() if hasattr(retriever, "provenance") else {}
        figures = {"mean": scored.evaluation.mean, "counts": dict(scored.evaluation.counts), "cost": dict(scored.cost)}
        results = {name: figures, "looks": dict(scored.looks)}  # as retrieval.search has them
        manifest.finish(results, {"retriever": made_of})
    first, mean = next(iter(scored.evaluation.mean.items()))
    print(f"{name} on {one.task.name}: {first} {mean:.4f} ({manifest.facts['wall_seconds']:.1f} s)", flush=True)
    return scored


def _searched(one: OpenTask, name: str, retriever: Retriever) -> tuple[Run, Scored]:
    found, cost, counts = one.retrieved(retriever)
    run, evaluation = replace(found, name=name), one.measured(found, one.measures)
    return run, Scored(evaluation, cost, counts, look(one.collection, one.task.split, "suite", [run]))


def _completed(one: OpenTask, folder: CellFolder) -> Scored:
    """A finished cell, with the measures that it was not evaluated by yet."""
    scored = folder.read()
    values, looks = dict(scored.evaluation.values), scored.looks
    lacking = [measure for measure in one.measures if measure not in values]
    if lacking:
        run = folder.run(one.queries.ids)
        values |= one.measured(run, lacking).values
        looks = look(one.collection, one.task.split, "suite", [run])
        folder.write(replace(scored, evaluation=replace(scored.evaluation, values=values), looks=looks))
    asked = {measure: values[measure] for measure in one.measures}
    return replace(scored, evaluation=replace(scored.evaluation, values=asked), looks=looks)


def _results(
    rows: Sequence[TaskRow], found: Mapping[str, Mapping[str, Scored]], averages: Averages, absent: Mapping[str, str]
) -> dict[str, Any]:
    tasks = {row.task: row.to_dict() for row in rows}
    for task, about in tasks.items():
        for name, one in about["systems"].items():
            scored = found[task][name]
            one["counts"] |= scored.counts
            one |= {"cost": dict(scored.cost), "looks": dict(scored.looks)}
    return {
        "tasks": tasks,
        "averages": averages.whole,
        "no average, for lack of tasks": averages.lacking,
        "not run": dict(absent),
    }


def _show(
    rows: Sequence[TaskRow],
    averages: Averages,
    found: Mapping[str, Mapping[str, Scored]],
    absent: Mapping[str, str],
    baseline: str | None,
) -> None:
    every: dict[str, dict[str, float]] = {}
    for task, row in found.items():
        for name, one in row.items():
            for what, count in {**one.evaluation.counts, **one.counts}.items():
                if count and what != "judged queries":
                    every.setdefault(what, {})[f"{name} on {task}"] = count
    notes = [f"{what}: {_counts(where)}" for what, where in every.items()]
    looks = {task: max(one.looks["looks"] for one in row.values()) for task, row in found.items()}
    notes.append(f"looks at these test sets: {', '.join(f'{task} {count}' for task, count in looks.items())}")
    if absent:
        first, reason = next(iter(absent.items()))
        notes.append(f"not run, as their data is not there: {', '.join(absent)} ({first}: {reason})")
    print_suite(rows, averages, "means over queries", baseline, notes)


def _counts(where: Mapping[str, float]) -> str:
    """The first few cells and their counts; of shares the lowest and the highest."""
    if any(isinstance(count, float) for count in where.values()):
        return f"{min(where.values()):.1%} to {max(where.values()):.1%} of the results of {len(where)} cells"
    shown = ", ".join(f"{cell} {count}" for cell, count in list(where.items())[:SHOWN])
    return shown + f" and {len(where) - SHOWN} more cells, in results.json" * (len(where) > SHOWN)


def _page(
    out: Path,
    opened: Sequence[OpenTask],
    found: Mapping[str, Mapping[str, Scored]],
    folders: Mapping[tuple[str, str], CellFolder | None],
    averages: Mapping[str, Sequence[str]],
    baseline: str | None,
) -> Path:
    """The report of all cells, whose runs are read again one task after another."""
    from eval.page import write_page

    cells, texts = [], {}
    for one in opened:
        task, runs = one.task.name, []
        for name, scored in found[task].items():
            folder = folders[name, task]
            if folder:
                runs.append(folder.run(one.queries.ids))
                cells.append(Cell(name, task, scored.evaluation, runs[-1], one.qrels, scored.cost))
        texts[task] = one.texts(runs)
    return write_page(out / "report.html", cells, out.name, baseline, texts, averages=averages)


if __name__ == "__main__":
    run(suite, grows=True)
