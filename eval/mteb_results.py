"""MTEB's result files from runs of ours: OUT/results/ORGANISATION__MODEL/REVISION/TASK.json and model_meta.json."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from eval.board_tables import Table, markdown
from eval.mteb_model import model_meta
from eval.results import Result, text_size
from retrieval.mteb_package import find_task, mteb_package

__all__ = ["TASKS", "task_result", "write_mteb"]

SETS = {
    "trec-covid": "TRECCOVID",
    "nfcorpus": "NFCorpus",
    "nq": "NQ",
    "hotpotqa": "HotpotQA",
    "fiqa": "FiQA2018",
    "arguana": "ArguAna",
    "webis-touche2020": "Touche2020",
    "quora": "QuoraRetrieval",
    "dbpedia-entity": "DBPedia",
    "scidocs": "SCIDOCS",
    "fever": "FEVER",
    "climate-fever": "ClimateFEVER",
    "scifact": "SciFact",
    "msmarco": "MSMARCO",
}
NANO = ("ArguAna ClimateFever DBPedia FEVER FiQA2018 HotpotQA MSMARCO NFCorpus NQ Quora SCIDOCS SciFact "
        "Touche2020").split()  # fmt: skip
PARTS = "Android English Gaming Gis Mathematica Physics Programmers Stats Tex Unix Webmasters Wordpress".split()

# What suites and collections are called here -> the task of MTEB
TASKS = {
    **SETS,
    "limit": "LIMITRetrieval",
    "limit-small": "LIMITSmallRetrieval",
    "dl19": "TRECDL2019",
    "dl20": "TRECDL2020",
    **{f"cqadupstack-{part.lower()}": f"CQADupstack{part}Retrieval" for part in PARTS},
    **{
        f"nano-{name}": f"Nano{part}Retrieval"
        for part in NANO
        for name, known in SETS.items()
        if known.removesuffix("Retrieval").casefold() == part.casefold()
    },
}
# MTEB's name of a measure -> ours
MEASURES = {
    "ndcg": "nDCG@{}",
    "map": "AP@{}",
    "recall": "R@{}",
    "precision": "P@{}",
    "mrr": "RR@{}",
    "hit_rate": "Success@{}",
}


def write_mteb(
    results: Sequence[Result], out: Path, model: str | None = None, revision: str | None = None, task: str | None = None
) -> tuple[str, list[Path]]:
    """Write a file a result, as MTEB's ResultCache lays them out, and what it knows of the model; a table, the paths.

    Raises ValueError for results of several systems, a model whose name or revision is not known, and as `task_result`.
    """
    systems = sorted({one.system for one in results})
    if len(systems) > 1:
        raise ValueError(f"these are results of {', '.join(systems)}, and a command is of one model: name them apart")
    if task is not None and len(results) > 1:
        raise ValueError(f"--task {task} is of one result, and there are {len(results)}")
    name, of = _model(results[0], model, revision)
    meta, cache = model_meta(name, of), mteb_package().ResultCache(out)
    tasks = [find_task(task or _task_name(one)) for one in results]
    found = [task_result(one, its) for one, its in zip(results, tasks, strict=True)]
    for one in found:
        cache.save_to_cache(one, meta)
    paths = [cache.get_task_result_path(one.task_name, meta) for one in found]
    return _shown(found, tasks, name, of), [*paths, paths[0].parent / "model_meta.json"]


def task_result(result: Result, task: Any) -> Any:
    """MTEB's TaskResult of a result, its figures those that MTEB computes from the same run, without its nAUC.

    A document with the query's own id is left out where the task says so, as MTEB leaves it out, after the search.
    Raises ValueError for another collection than that of the task: MTEB's descriptive statistics say how many
    documents, characters and queries that has.
    """
    split = _split(result, task)
    run = result.run.without_self_hits() if task.ignore_identical_ids else result.run
    names = {f"{name}_at_{k}": measure.format(k) for name, measure in MEASURES.items() for k in task.k_values}
    means = result.evaluate(list(names.values()), run).mean
    scores = {name: round(means[measure], 6 if name.startswith("mrr") else 5) for name, measure in names.items()}
    scores |= {"accuracy": scores["recall_at_1"]}
    if task.metadata.main_score not in scores:
        raise ValueError(f"{task.metadata.name} is ranked by {task.metadata.main_score}, which no run gives")
    whole = scores | {"main_score": scores[task.metadata.main_score]}
    seconds, ended = result.manifest["wall_seconds"], datetime.fromisoformat(result.manifest["ended"])
    return importlib.import_module("mteb").TaskResult.from_task_results(
        task, {split: {"default": whole}}, seconds, date=ended
    )


def _task_name(result: Result) -> str:
    """The task that the collection's name means; that name itself where it means none, for the nearest ones."""
    return TASKS.get(result.task.name, result.task.name)


def _split(result: Result, task: Any) -> str:
    """The split of the task that has the counts of the result's collection and queries."""
    splits = task.metadata.eval_splits
    if list(task.hf_subsets) != ["default"]:
        raise ValueError(f"{task.metadata.name} has {len(task.hf_subsets)} subsets: only tasks without any are written")
    known = task.metadata.descriptive_stats
    if known is None:
        if result.task.split in splits:
            return result.task.split
        raise ValueError(f"{task.metadata.name} is evaluated on {', '.join(splits)}, not on {result.task.split}")
    here = (*text_size(result.collection.corpus), len(result.qrels.query_ids))
    there = {split: _counts(known[split]) for split in splits if split in known}
    for split, counts in there.items():
        if all(own == its for own, its in zip(here, counts, strict=True) if its is not None):
            return split
    theirs = "; ".join(f"{split}: {_told(counts)}" for split, counts in there.items())
    raise ValueError(
        f"{result.collection.name} {result.task.split} is not the data of {task.metadata.name}: it has {_told(here)}, "
        f"the task {theirs}. --task names another"
    )


def _counts(about: Mapping[str, Any]) -> tuple[int | None, int | None, int | None]:
    text = about.get("documents_text_statistics") or {}
    return about.get("num_documents"), text.get("total_text_length"), about.get("num_queries")


def _told(counts: Sequence[int | None]) -> str:
    what = ("documents", "characters", "queries")
    return ", ".join(f"{count:,} {name}" for count, name in zip(counts, what, strict=True) if count is not None)


def _model(result: Result, model: str | None, revision: str | None) -> tuple[str, str]:
    """Name and revision: those given, else those of the encoder that was searched with, where that is all there was."""
    known = _encoder(result)
    name, of = model or known.get("model"), revision or (known.get("revision") if model is None else None)
    if not name or name.count("/") != 1 or Path(name).exists():
        told = f"says that the model is {name!r}" if name else "does not say of which model the vectors are"
        raise ValueError(f"{result.folder} {told}: give --model ORGANISATION/MODEL")
    if not of:
        raise ValueError(f"{result.folder} does not say which revision of {name} was used: give --revision")
    return name, of


def _encoder(result: Result) -> Mapping[str, Any]:
    """What the manifest says of the encoder, where the retriever is no more than one and its index.

    What feedback, fusion or reranking made of a model's vectors is no result of the model.
    """
    if result.manifest["verb"] == "search":
        return (result.manifest.get("made_of") or {}).get("retriever.encoder") or {}
    recipe = result.manifest["recipe"]
    return recipe["encoders"][0] if "encoder" in recipe["retriever"] else {}


def _shown(found: Sequence[Any], tasks: Sequence[Any], model: str, revision: str) -> str:
    rows = [
        [one.task_name, split, task.metadata.main_score.replace("_", " "), f"{scores[0]['main_score']:.5f}"]
        for one, task in zip(found, tasks, strict=True)
        for split, scores in one.scores.items()
    ]
    unchecked = [task.metadata.name for task in tasks if task.metadata.descriptive_stats is None]
    notes = [f"{name}: MTEB has no counts of its data to compare with." for name in unchecked]
    heads, title = ["task", "split", "main score", "value"], f"{model} at {revision}"
    return markdown([Table(title, heads, rows, words=3, notes=notes)])
