"""Train an encoder or a reranker and show what it gained: `python -m retrieval.train configs/x.yaml`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from eval import evaluate
from eval.measures import Evaluation, parse
from eval.report import draw, figures, print_report
from retrieval.cli import run
from retrieval.collection import Collection
from retrieval.composed import settings
from retrieval.environment import is_first_process
from retrieval.files import digest
from retrieval.lists import Lists
from retrieval.looks import choose_on, look, told
from retrieval.protocols import Dataset, Encoder, Reformulator, Reranker, Retriever, Source, Tuning
from retrieval.remembered import counted
from retrieval.run_file import read_run, write_run
from retrieval.search import MEASURES, check, ranked, searched
from retrieval.trained import Dev, InTraining, System, dev_evaluation
from retrieval.types import Qrels, Queries, Run
from training.collections import Groups
from training.contamination import contamination
from training.mining import remine
from training.sources.feedback_texts import FeedbackTexts
from training.sources.judged import lists_of
from training.sources.mined import Mined
from training.topics import Topics
from training.tunings.full import Full

if TYPE_CHECKING:
    from training.trainer import Trainer

__all__ = ["train"]

TAKEN = ("zero-shot", "first pass", "trained")


@dataclass(frozen=True)
class Grouping:
    """The passages listed with each training query; training.collections.Groups says what each setting does."""

    size: int = 8
    positives: int = 1
    relevant: float = 1
    graded: bool = True
    negatives: Literal["judged", "random", "none"] = "judged"
    short: Literal["repeat", "drop"] = "repeat"
    levels: list[float] | None = None


def train(
    dataset: Dataset,
    trainer: Trainer,
    encoder: Encoder | None = None,
    reranker: Reranker | None = None,
    data: Source | None = None,
    groups: Grouping = Grouping(),  # noqa: B008 - frozen
    tuning: Tuning | None = None,
    topics: Topics | None = None,
    first: Retriever | None = None,
    reader: Reformulator | None = None,
    depth: int = 100,
    dev: Dev | None = Dev(),  # noqa: B008 - frozen
    split: str = "train",
    test: str = "test",
    baselines: dict[str, Retriever] | None = None,
    k: int = 1000,
    measures: list[str] = MEASURES,
    seed: int = 0,
    out: Path | None = None,
) -> dict[str, Any]:
    """Train an encoder or a reranker on `data`, choose the checkpoint on dev, measure on `test` beside the start.

    Data is by default the judgements of `split`. `tuning` says what is trained, by default all; `topics` make batches
    of like queries. A reranker orders the `depth` best documents of `first`; a `reader`, such as ance_prf, reads what
    `first` finds with the query. OUT holds model/, training.jsonl, a run file per system, and measures.png.
    """
    if out is None:
        raise ValueError("training needs a folder: give out")
    system, tuning = System(encoder, reranker, first, reader, depth), tuning or Full()
    collection = dataset.open()
    _check(collection, test, measures, k, dev, baselines or {})
    model = _prepared(system, tuning, data)
    lists, held_out = _data(collection, data, split, dev, seed)
    _note_choice(collection, dev, held_out[0], test)
    grouped = _grouping(groups, topics, lists, seed)
    listed = grouped(lists)
    refresh = _refresh(system, data, lists, grouped, out) if trainer.refresh_steps else None
    measure, metric = (None, None) if dev is None else _evaluation(collection, held_out, dev, system, seed)
    shared = contamination(lists, *_of_evaluation(collection, test))
    about = {"system": settings(system.part), "tuning": settings(tuning), "dev": _about_dev(dev, held_out[0])}
    best = trainer.train(model, listed, out, measure, metric, refresh, tuning.save, about)
    if not is_first_process():
        return {}
    trained = system.around(tuning.trained(system.part, best.model))
    runs = {name: ranked(collection, one, test, k) for name, one in {**(baselines or {}), **system.start()}.items()}
    runs["trained"] = ranked(collection, trained, test, k, folder=None if system.stays(model) else out)
    found = {"training groups": dict(listed.counts), "best step": best.best_step, "steps": best.steps,
             "dev": dict(best.metrics), "contamination": shared, **counted(trained)}  # fmt: skip
    return _report(collection, runs, test, measures, out, found, next(iter(system.start())))


def _check(
    collection: Collection,
    test: str,
    measures: list[str],
    k: int,
    dev: Dev | None,
    baselines: Mapping[str, Retriever],
) -> None:
    check(collection, test, measures, k)
    if dev is not None:
        check(collection, test, [dev.measure])
    odd = [name for name in baselines if name in TAKEN or "/" in name]
    if odd:
        raise ValueError(f"baselines: {odd[0]!r} cannot name one; {', '.join(TAKEN)} are taken, and / ends a file name")


def _note_choice(collection: Collection, dev: Dev | None, held_out: Queries, test: str) -> None:
    """Write down where the checkpoint is chosen. Raises ValueError where that would be on queries that are tested."""
    both = set(held_out.ids) & set(collection.queries(test).ids)
    if both:
        raise ValueError(
            f"{len(both)} dev queries are test queries, such as {min(both)!r}: the checkpoint would be chosen on the "
            "test set; name another dev.split"
        )
    if dev is not None and dev.split is not None:
        choose_on(collection, dev.split, "train")


def _grouping(groups: Grouping, topics: Topics | None, lists: Lists, seed: int) -> Callable[[Lists], Groups]:
    """What makes groups of lists of these queries."""
    return partial(Groups, **asdict(groups), seed=seed, topics=topics.of(lists.queries) if topics else None)


def _evaluation(
    collection: Collection, held_out: tuple[Queries, Qrels], dev: Dev, system: System, seed: int
) -> tuple[Callable[[Any], Mapping[str, float]], str]:
    """What measures a model on dev, and the measure as it names it."""
    return dev_evaluation(collection, held_out, dev, system, seed), str(parse(dev.measure))


def _prepared(system: System, tuning: Tuning, data: Source | None) -> Any:
    """The model to train. Raises ValueError for a reader that would not be trained as it is measured."""
    model = system.part.trainable()
    tuning.prepare(model)
    if system.reader is None:
        return model
    if not isinstance(data, FeedbackTexts):
        raise ValueError("a reader is trained on queries with their feedback: data has to be of type feedback_texts")
    for place, of_data, own in (
        ("reader and data.model", data.model, system.reader),
        ("first and data.retriever", data.retriever, system.first),
    ):
        if settings(of_data) != settings(own):
            raise ValueError(
                f"{place} differ, and a reader is measured with what it was trained on: give both the same"
            )
    if not system.stays(model):
        name = type(tuning).__name__
        raise ValueError(f"a reader searches an index that stays, and {name} trains documents: use query_side")
    return model


def _about_dev(dev: Dev | None, held_out: Queries) -> dict[str, Any] | None:
    return None if dev is None else asdict(dev) | {"ids": digest(list(held_out.ids))}


def _data(
    collection: Collection, data: Source | None, split: str, dev: Dev | None, seed: int
) -> tuple[Lists, tuple[Queries, Qrels]]:
    """What is trained on, and the queries and judgements held out for dev: no query is in both."""
    none = Queries([], []), Qrels.from_dict({})
    if dev is not None and dev.split is not None:
        others = collection.queries(dev.split)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(others))[: dev.queries])
        held_out = _selected(others, collection.qrels(dev.split), chosen)
    lists = data.lists() if data else lists_of(collection.corpus, collection.queries(split), collection.qrels(split))
    if dev is None:
        return lists, none
    if dev.split is None:
        return _parted(collection, lists, split, dev, seed)
    both = set(lists.queries.ids) & set(others.ids)
    if both and data is None:
        raise ValueError(f"splits {split} and {dev.split} share {len(both)} queries, such as {min(both)!r}")
    return _without(lists, held_out[0]), held_out


def _parted(
    collection: Collection, lists: Lists, split: str, dev: Dev, seed: int
) -> tuple[Lists, tuple[Queries, Qrels]]:
    """A fifth of the queries of a split held out, and the lists without them."""
    queries, qrels = collection.queries(split), collection.qrels(split)
    share = min(dev.queries, len(queries) // 5)
    if not share:
        raise ValueError(f"{len(queries)} queries in {split} are too few to hold some out: give a dev split")
    held_out = _selected(queries, qrels, np.sort(np.random.default_rng(seed).permutation(len(queries))[:share]))
    return _without(lists, held_out[0]), held_out


def _without(lists: Lists, queries: Queries) -> Lists:
    """The lists of other queries, told apart by id and by text as asked: made and misspelt queries have own ids."""
    ids, texts = set(queries.ids), set(queries.texts)
    pairs = zip(lists.queries.ids, lists.original, strict=True)
    kept = [place for place, (name, text) in enumerate(pairs) if name not in ids and text not in texts]
    if not kept:
        raise ValueError(f"all {len(lists)} training queries are held out for dev: give another dev split")
    return lists.take(np.array(kept)).counting({"queries held out for dev": len(lists) - len(kept)})


def _selected(queries: Queries, qrels: Qrels, positions: np.ndarray) -> tuple[Queries, Qrels]:
    chosen = queries.take(positions)
    judged = qrels.to_dict()
    return chosen, Qrels.from_dict({name: judged[name] for name in chosen.ids}, qrels.judge)


def _refresh(
    system: System,
    data: Source | None,
    lists: Lists,
    grouped: Callable[[Lists], Groups],
    out: Path,
) -> Callable[[Any, int], Groups]:
    """A function that mines negatives anew with a model, and keeps what it found in OUT/refreshed. ANCE (2021)."""
    if not isinstance(data, Mined):
        raise ValueError("trainer.refresh_steps mines negatives anew: data has to be of type mined")
    every, collection = data.base(), data.dataset.open()
    place = {name: position for position, name in enumerate(every.queries.ids)}
    base = every.take(np.array([place[name] for name in lists.queries.ids]))
    in_training = InTraining(system)

    def refreshed(model: Any, step: int) -> Groups:
        path = out / "refreshed" / f"{step}.parquet"
        if not path.is_file():
            retriever = in_training.opened(model, collection.corpus)
            write_run(searched(collection, retriever, base.queries, data.mining.last_rank), path)
        found = read_run(path, base.queries.ids, collection.corpus.ids)
        return grouped(remine(base, found, data.mining, data.reranker))

    return refreshed


def _of_evaluation(collection: Collection, test: str) -> tuple[Queries, list[str]]:
    """The queries of a split and the texts of the documents judged for them."""
    rows = np.unique(collection.corpus.ids.rows(collection.qrels(test).doc_ids))
    return collection.queries(test), collection.corpus.texts(rows[rows >= 0])


def _report(
    collection: Collection,
    runs: Mapping[str, Run],
    test: str,
    measures: list[str],
    out: Path,
    about: dict[str, Any],
    baseline: str,
) -> dict[str, Any]:
    qrels = collection.qrels(test)
    systems: dict[str, Evaluation] = {}
    for name, found in runs.items():
        write_run(found, out / f"{name}.parquet")
        systems[name] = evaluate(found, qrels, measures)
    seen = look(collection, test, "train", runs.values())
    title = f"{collection.name}, {test}: {len(qrels.query_ids)} queries, {len(collection.corpus)} documents"
    lines = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
    picture = draw(systems, out / "measures.png", title, lines)
    shared = {what: count for what, count in about["contamination"].items() if "trained on" in what and count}
    leaked = about["contamination"]["test queries trained on"]
    notes = [
        f"trained on: {_listed(about['training groups'])}",
        f"checkpoint: step {about['best step']} of {about['steps']}, {about['dev'] or 'the last, as there is no dev'}",
        f"shared by training and test: {_listed(shared) or 'no query and no judged document, nor nearly'}",
        *([f"WARNING: {leaked} test queries were trained on"] * (leaked > 0)),
        *(f"{what}: {about[what]}" for what in ("truncated documents", "truncated queries") if about.get(what)),
        told(seen),
        f"picture:    {picture}",
        f"model:      {out / 'model'}",
    ]
    print_report(systems, title, baseline, notes)
    return figures(systems, baseline) | about | {"looks": seen}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in counts.items() if count)


if __name__ == "__main__":
    run(train)
