"""MiniLM trained on graded judgements by five losses, same steps: `python scripts/bench/graded.py WHICH [seeds]`.

dl: train on DL20's judgements, test on DL19, and the reverse (trec-dl-pool). cranfield: five folds of its queries.
scifact: train on DL20's judgements, test on SciFact, which is out of domain.
Tested by reranking the 50 best of zero-shot MiniLM per query, which are all that a trained model has to encode; means
and ranges over seeds, paired t over queries (each query's mean over seeds) against zero-shot; all in bfloat16.
Finished runs are in runs/bench/graded.jsonl and are not run again: the same command goes on where it stopped. What
training and test share is counted above each table; the folds of Cranfield share their judged documents.
"""

from __future__ import annotations

import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from eval import evaluate
from eval.measures import Evaluation
from eval.significance import paired_t
from retrieval.collection import Collection
from retrieval.datasets.folder import Folder
from retrieval.encoders.transformer import Transformer
from retrieval.indexes.flat import Flat
from retrieval.locate import cache_folder
from retrieval.retrievers.dense import DenseRetriever
from retrieval.types import Qrels, Queries, Run
from scripts.bench.kept import Kept
from training.collections import Groups
from training.contamination import contamination
from training.losses.infonce import InfoNCE
from training.losses.kl import KL
from training.losses.lambdaloss import LambdaLoss
from training.losses.wasserstein import Wasserstein
from training.records import plain
from training.sources.judged import lists_of
from training.trainer import Trainer

TRAINED = {"dl": "trec-dl-pool", "scifact": "trec-dl-pool", "cranfield": "cranfield"}
TESTED = {"dl": "trec-dl-pool", "scifact": "scifact", "cranfield": "cranfield"}
DTYPE = "bfloat16"  # of encoding, and of what training computes in
DEPTH, STEPS, BATCH, SIZE, RATE = 50, 12, 8, 4, 2e-5
GRADED = {"positives": 2, "relevant": 1}
BINARY = {"positives": 1, "relevant": 2, "graded": False}
LOSSES: dict[str, tuple[Any, dict]] = {
    "infonce": (InfoNCE(0.05), BINARY),
    "kl": (KL(0.05), GRADED),
    "lambdaloss": (LambdaLoss("ndcg2pp", sigma=20), GRADED),
    "wasserstein": (Wasserstein(0.05), GRADED),
    "wasserstein + infonce": (Wasserstein(0.05, infonce_weight=0.1, infonce_temperature=0.05), GRADED),
}
KEPT = Kept(
    Path("runs/bench/graded.jsonl"),
    {"dtype": DTYPE, "depth": DEPTH, "steps": STEPS, "batch": BATCH, "size": SIZE, "rate": RATE}
    | {"losses": {name: [plain(loss), grouping] for name, (loss, grouping) in LOSSES.items()}},
)


@cache
def collection(name: str) -> Collection:
    """A real collection."""
    return Folder(name).open()


def split(name: str, part: str) -> tuple[Queries, Qrels]:
    """Queries and judgements of a split."""
    return collection(name).queries(part), collection(name).qrels(part)


def some(queries: Queries, qrels: Qrels, names: set[str]) -> tuple[Queries, Qrels]:
    """These queries with their judgements."""
    judged = qrels.to_dict()
    places = [place for place, name in enumerate(queries.ids) if name in names]
    return queries.take(places), Qrels.from_dict({queries.ids[place]: judged[queries.ids[place]] for place in places})


@cache
def parts(which: str) -> list[tuple[str, tuple[Queries, Qrels], tuple[Queries, Qrels]]]:
    """Name, what is trained on and what is tested on."""
    dl19, dl20 = split("trec-dl-pool", "dl19"), split("trec-dl-pool", "dl20")
    if which == "dl":
        return [("DL20 -> DL19", dl20, dl19), ("DL19 -> DL20", dl19, dl20)]
    if which == "scifact":
        return [("DL20 -> SciFact", dl20, split("scifact", "test"))]
    queries, qrels = split("cranfield", "test")
    order = np.random.default_rng(0).permutation(len(queries))
    folds = [{queries.ids[i] for i in order[fold::5]} for fold in range(5)]
    every = set(queries.ids)
    return [
        (f"Cranfield {n}", some(queries, qrels, every - fold), some(queries, qrels, fold))
        for n, fold in enumerate(folds)
    ]


@cache
def zero_shot(which: str, part: str) -> Run:
    """The best of MiniLM as it comes."""
    retriever = DenseRetriever(Transformer(dtype=DTYPE), Flat())
    retriever.open(collection(TESTED[which]).corpus, cache_folder())
    tested = next(test for name, _, test in parts(which) if name == part)
    return retriever.retrieve(tested[0], DEPTH)


def reranked(encoder: Transformer, which: str, part: str) -> Run:
    """The zero-shot documents in the order of another encoder."""
    first, queries = zero_shot(which, part), next(test[0] for name, _, test in parts(which) if name == part)
    corpus = collection(TESTED[which]).corpus
    rows = np.unique(first.rows[first.rows >= 0])
    docs = encoder.encode_docs(corpus.texts(rows)).vectors
    place = {int(row): i for i, row in enumerate(rows)}
    asked = encoder.encode_queries(queries.texts).vectors
    chosen = np.vectorize(lambda row: place[row])(first.rows)
    scores = np.einsum("qd,qkd->qk", asked, docs[chosen]).astype(np.float32)
    return Run.ordered(queries.ids, first.docs, first.rows, scores)


def trained(which: str, part: str, loss: str, seed: int) -> dict[str, float]:
    """nDCG@10 by query of a model trained with one loss and one seed."""
    (queries, qrels), (_, judged) = next((train, test) for name, train, test in parts(which) if name == part)
    corpus = collection(TRAINED[which]).corpus
    made, grouping = LOSSES[loss]
    groups = Groups(lists_of(corpus, queries, qrels), SIZE, seed=seed, **grouping)
    encoder = Transformer(dtype=DTYPE)
    trainer = Trainer(
        made, steps=STEPS, batch_size=BATCH, learning_rate=RATE, eval_steps=STEPS, precision=DTYPE, seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        model = encoder.trainable()
        trainer.train(model, groups, Path(folder), save=lambda model, place: place.mkdir())
    return by_query(reranked(encoder.around(model), which, part), judged)


def by_query(run: Run, qrels: Qrels) -> dict[str, float]:
    """nDCG@10 of each query."""
    found = evaluate(run, qrels, ["nDCG@10"])
    return dict(zip(found.query_ids, map(float, found.values["nDCG@10"]), strict=True))


def main(which: str, seeds: int) -> None:
    """Run what is missing, seed by seed, and print the table."""
    for seed in range(seeds):
        for part, _, _ in parts(which):
            for loss in LOSSES:
                if not KEPT.has(part=part, loss=loss, seed=seed):
                    KEPT.add(part=part, loss=loss, seed=seed, ndcg=trained(which, part, loss, seed))
    table(which)


def table(which: str) -> None:
    """Print means, ranges and tests, the folds of Cranfield as one set."""
    names = [part for part, _, _ in parts(which)]
    for title, inside in (
        [(name, [name]) for name in names] if which != "cranfield" else [("Cranfield, 5 folds", names)]
    ):
        start: dict[str, float] = {}
        for name in inside:
            start |= by_query(zero_shot(which, name), next(test[1] for part, _, test in parts(which) if part == name))
        print(f"{title}: {'; '.join(map(shared, [which] * len(inside), inside))}")
        print(f"  {'zero-shot':22} {np.mean([*start.values()]):.4f}")
        for loss in LOSSES:
            runs = whole(loss, inside, set(start))
            if runs:
                means = [np.mean([*run.values()]) for run in runs]
                mean = evaluation({query: np.mean([run[query] for run in runs]) for query in start})
                p = paired_t(mean, evaluation(start), "nDCG@10").p
                span = f"{min(means):.4f}-{max(means):.4f}, {len(runs)} seeds"
                print(f"  {loss:22} {np.mean(means):.4f} ({span})  p = {p:.3g}")


def shared(which: str, part: str) -> str:
    """What is trained on and tested with, in words."""
    (queries, qrels), (tested, judged) = next((train, test) for name, train, test in parts(which) if name == part)
    corpus = collection(TESTED[which]).corpus
    rows = np.unique(corpus.ids.rows(judged.doc_ids))
    counts = contamination(
        lists_of(collection(TRAINED[which]).corpus, queries, qrels), tested, corpus.texts(rows[rows >= 0])
    )
    return ", ".join(f"{what} {count}" for what, count in counts.items() if count)


def whole(loss: str, names: list[str], queries: set[str]) -> list[dict[str, float]]:
    """nDCG@10 by query of each seed for which all of these parts are done."""
    seeds: dict[int, dict[str, float]] = {}
    for one in KEPT:
        if one["loss"] == loss and one["part"] in names:
            seeds.setdefault(one["seed"], {}).update(one["ndcg"])
    return [found for _, found in sorted(seeds.items()) if set(found) == queries]


def evaluation(values: dict[str, float]) -> Evaluation:
    """Figures by query as an evaluation."""
    return Evaluation(list(values), {"nDCG@10": np.array([*values.values()], float)}, {})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "dl", int(sys.argv[2]) if len(sys.argv) > 2 else 3)
