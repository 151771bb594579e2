"""Train an encoder and show what it gained: `python -m retrieval.train configs/x.yaml`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from eval import evaluate
from eval.measures import Evaluation, parse
from eval.report import draw, figures, print_report
from retrieval.cli import run
from retrieval.collection import Collection
from retrieval.encoders.transformer import Transformer
from retrieval.environment import is_first_process
from retrieval.ids import DocIds
from retrieval.indexes.flat import Flat
from retrieval.protocols import Dataset, Encoder, Retriever
from retrieval.retrievers.dense import DenseRetriever
from retrieval.run_file import write_run
from retrieval.search import MEASURES, check, ranked, truncated
from retrieval.types import Qrels, Queries, Run
from training.collections import Groups

if TYPE_CHECKING:
    from retrieval.bi_encoder import BiEncoder
    from training.trainer import Trainer

__all__ = ["train"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grouping:
    """The passages listed with each training query; training.collections.Groups says what each setting does."""

    size: int = 8
    positives: int = 1
    relevant: int = 1
    negatives: Literal["judged", "random", "none"] = "judged"
    graded: bool = True


@dataclass(frozen=True)
class Dev:
    """What the checkpoint is chosen on: at most `queries` queries over `documents` documents.

    Without a split a fifth of the training queries is held out. The documents are those judged for its queries, then
    random ones.
    """

    split: str | None = None
    queries: int = 100
    documents: int = 2000
    measure: str = "nDCG@10"


def train(
    dataset: Dataset,
    encoder: Encoder,
    trainer: Trainer,
    groups: Grouping = Grouping(),  # noqa: B008 - frozen
    dev: Dev = Dev(),  # noqa: B008 - frozen
    split: str = "train",
    test: str = "test",
    baselines: dict[str, Retriever] | None = None,
    k: int = 1000,
    measures: list[str] = MEASURES,
    seed: int = 0,
    out: Path | None = None,
) -> dict[str, Any]:
    """Train on the judgements of `split`, choose the checkpoint on dev, measure on `test` beside start and baselines.

    OUT holds model/ (a sentence-transformers folder), training.jsonl, a run file per system, and measures.png.
    """
    if out is None:
        raise ValueError("training needs a folder: give out")
    if not hasattr(encoder, "trainable"):
        raise ValueError(f"{type(encoder).__name__} cannot be trained: it has no trainable()")
    odd = [name for name in baselines or {} if name in ("zero-shot", "trained") or "/" in name]
    if odd:
        raise ValueError(
            f"baselines: {odd[0]!r} cannot name one; zero-shot and trained are taken, and / ends a file name"
        )
    collection = dataset.open()
    check(collection, test, measures, k)
    check(collection, test, [dev.measure])
    training, held_out = _split(collection, split, dev, seed)
    listed = Groups(collection.corpus, *training, **asdict(groups), seed=seed)
    measure = dev_evaluation(collection, held_out, dev, encoder, seed)
    best = trainer.train(encoder.trainable(), listed, out, measure, str(parse(dev.measure)))
    if not is_first_process():
        return {}

    systems = dict(baselines or {}) | {"zero-shot": DenseRetriever(encoder, Flat())}
    runs = {name: ranked(collection, system, test, k) for name, system in systems.items()}
    trained = DenseRetriever(encoder.trained(best.model), Flat())  # type: ignore[attr-defined]
    runs["trained"] = ranked(collection, trained, test, k, folder=out)
    seen = len(set(training[0].ids) & set(collection.queries(test).ids))
    about = {
        "training groups": dict(listed.counts),
        "test queries trained on": seen,
        "best step": best.best_step,
        "dev": dict(best.metrics),
        **truncated(trained),
    }
    return _report(collection, runs, test, measures, out, about)


def dev_evaluation(
    collection: Collection, held_out: tuple[Queries, Qrels], dev: Dev, encoder: Any, seed: int
) -> Callable[[BiEncoder], dict[str, float]]:
    """A function that measures a model on these queries over a sample of the corpus, the same sample each time."""
    queries, qrels = held_out
    rng = np.random.default_rng(seed)
    judged = np.unique(collection.corpus.ids.rows(qrels.doc_ids))
    others = rng.permutation(np.setdiff1d(np.arange(len(collection.corpus)), judged))
    rows = np.concatenate([rng.permutation(judged[judged >= 0]), others])[: dev.documents]
    if len(judged[judged >= 0]) > dev.documents:
        log.warning("dev judges %d documents and searches %d of them", len(judged), dev.documents)
    ids, texts = DocIds.of(collection.corpus.ids.take(rows)), collection.corpus.texts(rows)

    def measured(model: BiEncoder) -> dict[str, float]:
        now, index = Transformer.of(model, encoder), Flat()
        index.build(now.encode_docs(texts).vectors, ids.rank)
        found = Run(queries.ids, ids, *index.search(now.encode_queries(queries.texts), 1000))
        return evaluate(found, qrels, [dev.measure]).mean

    return measured


def _split(
    collection: Collection, split: str, dev: Dev, seed: int
) -> tuple[tuple[Queries, Qrels], tuple[Queries, Qrels]]:
    """Queries and judgements to train on, and those held out for dev: no query is in both."""
    queries, qrels = collection.queries(split), collection.qrels(split)
    rng = np.random.default_rng(seed)
    if dev.split is not None:
        others = collection.queries(dev.split)
        both = set(queries.ids) & set(others.ids)
        if both:
            raise ValueError(f"splits {split} and {dev.split} share {len(both)} queries, such as {min(both)!r}")
        chosen = np.sort(rng.permutation(len(others))[: dev.queries])
        return (queries, qrels), _selected(others, collection.qrels(dev.split), chosen)
    order = rng.permutation(len(queries))
    share = min(dev.queries, len(queries) // 5)
    if not share:
        raise ValueError(f"{len(queries)} queries in {split} are too few to hold some out: give a dev split")
    held_out, kept = np.sort(order[:share]), np.sort(order[share:])
    return _selected(queries, qrels, kept), _selected(queries, qrels, held_out)


def _selected(queries: Queries, qrels: Qrels, positions: np.ndarray) -> tuple[Queries, Qrels]:
    chosen = queries.take(positions)
    judged = qrels.to_dict()
    return chosen, Qrels.from_dict({name: judged[name] for name in chosen.ids})


def _report(
    collection: Collection, runs: Mapping[str, Run], test: str, measures: list[str], out: Path, about: dict[str, Any]
) -> dict[str, Any]:
    qrels = collection.qrels(test)
    systems: dict[str, Evaluation] = {}
    for name, found in runs.items():
        write_run(found, out / f"{name}.parquet")
        systems[name] = evaluate(found, qrels, measures)
    title = f"{collection.name}, {test}: {len(qrels.query_ids)} queries, {len(collection.corpus)} documents"
    lines = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
    picture = draw(systems, out / "measures.png", title, lines)
    listed = ", ".join(f"{what} {count}" for what, count in about["training groups"].items() if count)
    notes = [
        f"trained on: {listed}",
        f"checkpoint: best of dev at step {about['best step']}, {about['dev']}",
        *(
            [f"WARNING: {about['test queries trained on']} test queries were trained on"]
            * (about["test queries trained on"] > 0)
        ),
        *(f"{what}: {about[what]}" for what in ("truncated documents", "truncated queries") if about[what]),
        f"picture:    {picture}",
        f"model:      {out / 'model'}",
    ]
    print_report(systems, title, "zero-shot", notes)
    return figures(systems, "zero-shot") | about


if __name__ == "__main__":
    run(train)
