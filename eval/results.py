"""Results on disk: what retrieval.search and retrieval.suite wrote, with the judgements that they are measured by."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.measures import Evaluation, evaluate, parse
from retrieval.collection import Collection
from retrieval.corpus import Corpus
from retrieval.finished import recipe_of
from retrieval.protocols import Dataset, Suite, Task
from retrieval.run_file import read_run
from retrieval.types import Qrels, Run

__all__ = ["Result", "read_results", "text_size"]

RUN = "run.parquet"
VERBS = ("search", "suite cell")  # whose folders hold a run


@dataclass(frozen=True, eq=False)
class Result:
    """What one system retrieved for one task, as a folder of results has it."""

    system: str
    task: Task
    collection: Collection
    run: Run
    qrels: Qrels
    folder: Path
    manifest: Mapping[str, Any]

    def evaluate(self, measures: Sequence[str], run: Run | None = None) -> Evaluation:
        """What it scores, or a `run` made of its own does. Raises ValueError for more results than were searched."""
        for measure in measures:
            cutoff = parse(measure).params.get("cutoff", 0)
            if self.task.k < min(cutoff, len(self.collection.corpus)):
                raise ValueError(
                    f"{self.folder} was searched with k={self.task.k}, and {measure} needs {cutoff}: "
                    f"search again with k={cutoff}"
                )
        return evaluate(run or self.run, self.qrels, measures)


def read_results(source: str | Path, system: str | None = None) -> list[Result]:
    """All results in a folder of retrieval.search or retrieval.suite, or in a part of one, in the order of their names.

    `system` renames the one system there is. Raises FileNotFoundError for a folder without a run, ValueError for one
    that is not finished, for a run of other queries than those of its task, and for several systems to rename.
    """
    folder = Path(source)
    runs = sorted(folder.rglob(RUN))
    if not runs:
        what = "has no" if folder.is_dir() else "is not there, so it has no"
        raise FileNotFoundError(
            f"{folder} {what} {RUN}: a source is a recipe, or a folder of results that retrieval.search or "
            "retrieval.suite has finished"
        )
    found = [_result(path.parent) for path in runs]
    systems = sorted({one.system for one in found})
    if system is not None and len(systems) > 1:
        raise ValueError(f"{system}={folder} names {len(systems)} systems ({', '.join(systems)}): name a folder of one")
    return [one if system is None else _renamed(one, system) for one in found]


def text_size(corpus: Corpus) -> tuple[int, int]:
    """Documents, and characters of title and text, as MTEB's descriptive statistics count them."""
    batches = ((title.to_pylist(), text.to_pylist()) for title, text in corpus.batches())
    lengths = (len(f"{a} {b}".strip()) for titles, texts in batches for a, b in zip(titles, texts, strict=True))
    return len(corpus), sum(lengths)


def _renamed(one: Result, system: str) -> Result:
    return replace(one, system=system, run=replace(one.run, name=system))


def _result(folder: Path) -> Result:
    manifest = _manifest(folder, VERBS)
    cell = manifest["verb"] != "search"
    system, task = (folder.parent.name, _of_suite(folder)) if cell else (None, _searched(manifest["recipe"]))
    collection = task.dataset.open().by_people()  # a table of systems names no judge
    data = manifest["recipe"].get("data") if cell else (manifest.get("made_of") or {}).get("dataset")
    then, now = (data or {}).get("corpus"), collection.corpus.fingerprint
    if then not in (None, now):
        raise ValueError(f"{folder} is of the documents {then}, and {collection.name} holds {now} now: run it again")
    qrels = collection.qrels(task.split)
    run = read_run(folder / RUN, query_ids=qrels.query_ids, name=system)
    name = task.name or _plain_name(collection.name, task.split)
    return Result(run.name, replace(task, name=name), collection, run, qrels, folder, manifest)


def _manifest(folder: Path, verbs: Sequence[str]) -> dict[str, Any]:
    """Raises FileNotFoundError where there is none, ValueError where it is damaged, of another verb or not finished."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no manifest.json, which says what was searched: run it again")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): run it again") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("recipe"), dict):
        raise ValueError(f"{path} holds no recipe, as one of an older version may: run it again")
    verb, status = manifest.get("verb"), manifest.get("status")
    if verb not in verbs:
        raise ValueError(f"{path} is of the verb {verb!r}, and what is read here is of {' or '.join(verbs)}")
    if verb in VERBS and status != "finished":
        raise ValueError(f"{folder} is not finished ({status}): the same command as before goes on with it")
    return manifest


def _searched(recipe: Mapping[str, Any]) -> Task:
    def one(dataset: Dataset, split: str, k: int) -> Task:
        return Task("", dataset, split, k=k)

    return recipe_of(one, {key: recipe[key] for key in ("dataset", "split", "k") if key in recipe})()


def _of_suite(folder: Path) -> Task:
    """The task of a cell, OUT/SYSTEM/TASK; OUT says which suite it is of."""

    def tasks(suite: Suite) -> Sequence[Task]:
        return suite.tasks()

    recipe = _manifest(folder.parents[1], ("suite",))["recipe"]
    known = {task.name: task for task in recipe_of(tasks, {"suite": recipe["suite"]})()}
    if folder.name not in known:
        raise ValueError(f"{folder} is of no task of its suite, which has {', '.join(known)}")
    return known[folder.name]


def _plain_name(collection: str, split: str) -> str:
    """What suites call a collection of BEIR or a year of TREC DL, also where it is ir_datasets' or another's split."""
    year = re.search(r"msmarco-passage(?:-v2)?-trec-dl-20(\d\d)", collection)  # the track ranked whole pages too
    if year:
        return f"dl{year[1]}"
    if re.fullmatch(r"dl\d\d", split):
        return f"{split}-pool"
    known = re.fullmatch(r"(?:beir-(.+?)(?:-test|-dev)?|(nano)-beir-(.+))", collection.replace("/", "-"))
    return "-".join(part for part in known.groups() if part) if known else collection.replace("/", "-")
