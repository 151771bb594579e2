"""Leaderboard files of BEIR, TREC Deep Learning, LIMIT and MTEB, made of results that lie on disk."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from eval.board_tables import ABSENT, Table, latex, markdown
from eval.limit_published import FULL, SMALL
from eval.measures import Evaluation
from eval.results import Result, read_results, text_size
from retrieval.datasets.beir import SELF_HITS
from retrieval.files import whole_file
from retrieval.protocols import Task
from retrieval.run_file import write_run
from retrieval.suites.beir import BeirSuite
from retrieval.suites.trec_dl import TrecDl
from retrieval.tasks import short

__all__ = ["Board", "beir", "command", "limit", "trec_dl", "write_board"]

Means = Mapping[tuple[str, str], Mapping[str, float]]  # (system, task) -> measure -> mean

# The text of the released collections, of which MTEB's descriptive statistics have the counts: documents, characters.
RELEASED = {"limit": (50_000, 29_916_423), "limit-small": (46, 27_130)}
LIMIT_NAMES = {"limit": "LIMIT", "limit-small": "LIMIT-small", "limit-rebuilt": "LIMIT-rebuilt"}
PAPER, READERS = (
    "Weller et al. 2025",
    "MTEB 2.15.1",
)  # the second are runs by readers, in the issues of the paper's code
SMALL_MODELS = {  # on LIMIT, percent at 2, 10 and 100
    "bm25s": (85.7, 90.3, 93.5),
    "ColBERTv2": (25.7, 37.6, 52.3),
    "Qwen3-Embedding-0.6B": (1.1, 1.9, 3.9),
    "bge-base-en-v1.5": (0.7, 1.5, 4.5),
    "e5-base-v2": (0.4, 1.1, 3.8),
    "all-MiniLM-L6-v2": (0.1, 0.6, 2.9),
    "all-mpnet-base-v2": (0.0, 0.1, 0.8),
}
CUTOFFS = {"LIMIT-small": (2, 10, 20, 100)}  # the paper's and 100; the others, as in the paper, at 2, 10 and 100


@dataclass(frozen=True, eq=False)
class Board:
    """Tables, and the evaluation of each result that they are made of."""

    name: str
    tables: Sequence[Table]
    evaluations: Sequence[Evaluation]


def beir(results: Sequence[Result], measures: Sequence[str] = ("nDCG@10", "R@100")) -> Board:
    """A table a measure as Thakur et al. (2021) have it: a set a row, a system a column, then the averages there are.

    An average is only shown where all systems have all of its sets. Raises ValueError for a set that BEIR has not, for
    other queries than its own, and where queries are answers to themselves that BEIR's are not.
    """
    suite = BeirSuite()
    order = {task.name: task.split for task in suite.tasks()}
    _refuse_unknown(results, list(order), "BEIR")
    for one in results:
        name, split = one.task.name, one.task.split
        if split != order[name] and not name.endswith(split):  # ir_datasets may have only the set's name
            raise ValueError(f"{one.folder} is of {name} {split}, and BEIR's figures are of its {order[name]} queries")
        if name in SELF_HITS and not one.collection.excludes_self:
            raise ValueError(
                f"{one.folder}: queries of {name} are documents of it, which BEIR takes for no answers to themselves: "
                f"search it as dataset: {{type: beir, name: {name}}}, or with excludes_self"
            )
    found = [one.evaluate(measures) for one in results]
    means = _means(results, found)
    return Board("beir", [_beir_table(means, measure, list(order), suite.averages()) for measure in measures], found)


def trec_dl(results: Sequence[Result]) -> Board:
    """A table a year, its measures those of the suite `trec_dl`. Raises ValueError for what is no year of the track."""
    suites = (TrecDl(), TrecDl(years=(2019, 2020), pool="a pool"))
    tasks = {task.name: task for suite in suites for task in suite.tasks()}
    _refuse_unknown(results, list(tasks), "TREC DL")
    found = [one.evaluate(tasks[one.task.name].measures) for one in results]
    means, held = _means(results, found), {one.task.name: one.collection.name for one in results}
    return Board(
        "trec_dl", [_year_table(means, task, held[name]) for name, task in tasks.items() if name in held], found
    )


def limit(results: Sequence[Result], published: bool = False) -> Board:
    """Recall in percent as Weller et al. (2025) print it, over LIMIT and what is like it, and over LIMIT-small.

    Each row names its collection. LIMIT is only what has the released documents: those that were made again are
    LIMIT-rebuilt, whatever their folder is called. `published` puts the rows of the paper below.
    """
    names = {one.task.name: _limit_name(one) for one in results}
    found = [one.evaluate([f"R@{cutoff}" for cutoff in _cutoffs(names[one.task.name])]) for one in results]
    groups = [[task for task, name in names.items() if (name == "LIMIT-small") is small] for small in (False, True)]
    means = _means(results, found)
    return Board("limit", [_limit_table(means, group, names, published) for group in groups if group], found)


def write_board(board: Board, results: Sequence[Result], out: Path) -> list[Path]:
    """The tables as OUT/NAME.md, .tex and .json, and a TREC file of each run: OUT/runs/SYSTEM/TASK.trec."""
    texts = {
        f"{board.name}.md": markdown(board.tables),
        f"{board.name}.tex": latex(board.tables),
        f"{board.name}.json": _json(results, board.evaluations),
    }
    for file, text in texts.items():
        with whole_file(out / file) as part:
            part.write_text(text, encoding="utf-8")
    runs = {out / "runs" / quote(one.system, " ") / f"{quote(one.task.name, ' ')}.trec": one.run for one in results}
    for path, run in runs.items():
        write_run(run, path)
    return [*(out / file for file in texts), *runs]


def command(board: str, about: str | None, search: Callable[[list[str]], Any]) -> None:
    """Run a leaderboard script: read its command line, search what is a recipe, write the files and show them.

    `search` runs retrieval.search with arguments of a command line. Exits with 1 where something can be mended.
    """
    asked = _parser(board, about).parse_args()
    try:
        results = [one for source in asked.sources for one in _read(source, asked.out, search)]
        _refuse_twice(results)
        shown, paths = _files(board, results, asked)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    sys.stdout.write(f"{shown}\n" + "".join(f"{path}\n" for path in paths))


def _parser(board: str, about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="[NAME=]SOURCE", help="folder of results, or recipe of a search")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    if board == "limit":
        parser.add_argument("--published", action="store_true", help="the rows of the paper too")
    if board == "mteb":
        parser.add_argument("--model", help="ORGANISATION/MODEL, where the results do not say it")
        parser.add_argument("--revision", help="of the model, where the results do not say it")
        parser.add_argument("--task", help="of MTEB, or module:Class, where the collection's name does not say it")
    return parser


def _read(source: str, out: Path, search: Callable[[list[str]], Any]) -> list[Result]:
    name, equals, place = source.partition("=") if not Path(source).exists() else ("", "", source)
    path = Path(place if equals else source)
    if path.suffix in (".yaml", ".yml"):
        searched = out / "searched" / path.resolve().parent.name / path.stem
        search([str(path), f"out={searched}"])
        path = searched
    return read_results(path, name or None)


def _refuse_twice(results: Sequence[Result]) -> None:
    seen: dict[tuple[str, str], Path] = {}
    for one in results:
        first = seen.setdefault((one.system, one.task.name), one.folder)
        if first is not one.folder:
            raise ValueError(
                f"{first} and {one.folder} are both of {one.system} on {one.task.name}: "
                "name each system with NAME=SOURCE"
            )


def _files(board: str, results: Sequence[Result], asked: argparse.Namespace) -> tuple[str, list[Path]]:
    """What is shown, and the files written."""
    if board == "mteb":
        from eval.mteb_results import write_mteb

        return write_mteb(results, asked.out, asked.model, asked.revision, asked.task)
    made = limit(results, asked.published) if board == "limit" else {"beir": beir, "trec_dl": trec_dl}[board](results)
    return markdown(made.tables), write_board(made, results, asked.out)


def _refuse_unknown(results: Sequence[Result], tasks: Sequence[str], board: str) -> None:
    for one in results:
        if one.task.name not in tasks:
            near = difflib.get_close_matches(one.task.name, tasks, n=3, cutoff=0.4) or tasks
            raise ValueError(
                f"{one.folder}: {one.task.name!r} is no task of {board}; the nearest are {', '.join(near)}"
            )


def _means(results: Sequence[Result], found: Sequence[Evaluation]) -> Means:
    """Raises ValueError where those of a task are not over the same documents and judgements."""
    first: dict[str, Result] = {}
    for one in results:
        other = first.setdefault(one.task.name, one)
        if (len(one.collection.corpus), one.qrels.to_dict()) != (len(other.collection.corpus), other.qrels.to_dict()):
            raise ValueError(
                f"{one.folder} and {other.folder} are both of {one.task.name}, and not over the same documents and "
                f"judgements ({_data(one)}; {_data(other)}): make a board of each"
            )
    return {(one.system, one.task.name): its.mean for one, its in zip(results, found, strict=True)}


def _data(one: Result) -> str:
    return f"{one.collection.name}: {len(one.collection.corpus):,} and {len(one.qrels):,}"


def _systems(means: Means) -> list[str]:
    return list(dict.fromkeys(system for system, _ in means))


def _beir_table(means: Means, measure: str, order: Sequence[str], averages: Mapping[str, Sequence[str]]) -> Table:
    systems = _systems(means)
    by_set = {name: _of_set(means, measure, name, averages) for name in [*order, *averages]}
    whole = {short(name): values for name, values in by_set.items() if values and len(values) == len(systems)}
    rows = [[name, *_figures(values, systems)] for name, values in by_set.items() if name in order and values]
    rows += [[name, *_figures(values, systems)] for name, values in whole.items() if name not in order]
    notes = [f"{name}." for name in averages if short(name) in whole]
    missing = [short(name) for name in averages if short(name) not in whole]
    notes += [f"Not all sets were run that these are the mean of: {'; '.join(missing)}."] if missing else []
    return Table(f"BEIR, {measure}", ["set", *systems], rows, notes=notes)


def _of_set(means: Means, measure: str, name: str, averages: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Of each system that has them all, the mean over a set, or over the sets of an average."""
    if name not in averages:
        return {system: mean[measure] for (system, task), mean in means.items() if task == name}
    parts = [_of_set(means, measure, part, averages) for part in averages[name]]
    complete = [system for system in _systems(means) if all(system in part for part in parts)]
    return {system: sum(part[system] for part in parts) / len(parts) for system in complete}


def _figures(values: Mapping[str, float], systems: Sequence[str]) -> list[str]:
    return [f"{values[system]:.3f}" if system in values else ABSENT for system in systems]


def _year_table(means: Means, task: Task, collection: str) -> Table:
    rows = [
        [system, *(f"{mean[measure]:.4f}" for measure in task.measures)]
        for (system, name), mean in means.items()
        if name == task.name
    ]
    pool = [f"The collection is {collection}, not that of the track: not comparable with its figures."]
    year = f"TREC Deep Learning 20{task.name[2:4]}, passages"
    notes = pool if task.name.endswith("-pool") else []
    return Table(f"{year}{f' of {collection}' if notes else ''}", ["system", *task.measures], rows, notes=notes)


def _limit_name(result: Result) -> str:
    """What a collection may be called: by its documents where it says that it is a released one."""
    name = result.task.name
    if name in RELEASED and text_size(result.collection.corpus) != RELEASED[name]:
        return f"{LIMIT_NAMES[name]}-rebuilt"
    return LIMIT_NAMES.get(name, name)


def _cutoffs(name: str) -> Sequence[int]:
    return CUTOFFS.get(name, (2, 10, 100))


def _limit_table(means: Means, group: Sequence[str], names: Mapping[str, str], published: bool) -> Table:
    small = names[group[0]] == "LIMIT-small"
    cutoffs = _cutoffs(names[group[0]])
    rows = [
        [system, names[task], "ours", *(_percent(mean[f"R@{cutoff}"]) for cutoff in cutoffs)]
        for (system, task), mean in means.items()
        if task in group
    ]
    rows += _published(small, cutoffs) if published else []
    shown = list(dict.fromkeys(names[task] for _, task in means if task in group))
    again = "the queries of LIMIT over documents that were made again; its figures are none of LIMIT"
    notes = [f"{name}: {again}." for name in shown if name.endswith("-rebuilt")]
    heads = ["system", "collection", "source", *(f"R@{cutoff}" for cutoff in cutoffs)]
    return Table(f"{' and '.join(shown)}, recall in percent", heads, rows, words=3, notes=notes)


def _published(small: bool, cutoffs: Sequence[int]) -> list[list[str]]:
    """Rows of the paper, the best first, and of its readers."""
    name, papers = ("LIMIT-small", SMALL) if small else ("LIMIT", FULL)
    ranked = sorted(papers.items(), key=lambda row: -row[1].recall["R@2"])
    found = [(system, PAPER, one.recall) for system, one in ranked]
    if not small:
        heads = ("R@2", "R@10", "R@100")
        readers = {system: dict(zip(heads, row, strict=True)) for system, row in SMALL_MODELS.items()}
        found += [(system, READERS, {head: v / 100 for head, v in row.items()}) for system, row in readers.items()]
    return [
        [system, name, source, *(_percent(recall.get(f"R@{cutoff}")) for cutoff in cutoffs)]
        for system, source, recall in found
    ]


def _percent(value: float | None) -> str:
    """With one digit; a half goes up, as 93.55 does, which a float is a little below of."""
    return ABSENT if value is None else str(Decimal(f"{100 * value:.6f}").quantize(Decimal("0.1"), ROUND_HALF_UP))


def _json(results: Sequence[Result], found: Sequence[Evaluation]) -> str:
    """What the tables are made of, with every digit."""
    rows = [
        {
            "system": one.system,
            "task": one.task.name,
            "collection": one.collection.name,
            "documents": one.collection.corpus.fingerprint,
            "split": one.task.split,
            "folder": str(one.folder),
            "counts": dict(its.counts),
            "mean": its.mean,
        }
        for one, its in zip(results, found, strict=True)
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
