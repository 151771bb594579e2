"""Hard negatives mined by MiniLM against random ones, NFCorpus: `python scripts/bench/hard_negatives.py [steps] [seeds]`.

MiniLM in bfloat16, InfoNCE over a positive and three negatives of each
query and all passages of the other queries, the same queries in the same order. Whole corpus searched, test queries.
Finished runs are in runs/bench/hard_negatives.jsonl.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from eval import evaluate
from eval.significance import paired_t
from retrieval.encoders.transformer import Transformer
from retrieval.indexes.flat import Flat
from retrieval.locate import cache_folder
from retrieval.protocols import Source
from retrieval.retrievers.dense import DenseRetriever
from scripts.bench.graded import collection, evaluation
from scripts.bench.kept import Kept
from training.collections import Groups
from training.losses.infonce import InfoNCE
from training.mining import Mining
from training.records import plain
from training.sources.judged import Judged
from training.sources.mined import Mined
from training.trainer import Trainer

BATCH, SIZE, DTYPE = 16, 4, "bfloat16"
LOSS, RATE = InfoNCE(0.05), 2e-5
MINING = Mining(k=8, choice="random", last_rank=100, share=0.95)


def sources() -> dict[str, tuple[Source, str]]:
    """Training data and where a group's negatives come from, by name."""
    from retrieval.datasets.beir import Beir

    judged = Judged(Beir("nfcorpus"), "train")
    mined = Mined(judged, Beir("nfcorpus"), DenseRetriever(Transformer(dtype=DTYPE), Flat()), mining=MINING)
    return {"random": (judged, "random"), "mined": (mined, "judged")}


def measured(encoder: Transformer, folder: Path) -> dict[str, float]:
    """nDCG@10 of each test query over the whole corpus."""
    held = collection("nfcorpus")
    retriever = DenseRetriever(encoder, Flat())
    retriever.open(held.corpus, folder)
    found = evaluate(retriever.retrieve(held.queries("test"), 100), held.qrels("test"), ["nDCG@10"])
    return dict(zip(found.query_ids, map(float, found.values["nDCG@10"]), strict=True))


def trained(source: Source, negatives: str, steps: int, seed: int) -> dict[str, float]:
    """The same of a model trained on a source."""
    groups = Groups(source.lists(), SIZE, negatives=negatives, graded=False, seed=seed)
    encoder = Transformer(dtype=DTYPE)
    trainer = Trainer(
        LOSS,
        steps=steps,
        batch_size=BATCH,
        learning_rate=RATE,
        eval_steps=steps,
        precision=DTYPE,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        model = encoder.trainable()
        trainer.train(model, groups, Path(folder), save=lambda model, place: place.mkdir())
        return measured(encoder.around(model), Path(folder))


def main(steps: int, seeds: int) -> None:
    """Run what is missing, and print means and paired tests."""
    settings = {"steps": steps, "batch": BATCH, "size": SIZE, "dtype": DTYPE, "mining": asdict(MINING)}
    settings |= {"loss": plain(LOSS), "rate": RATE}
    kept = Kept(Path("runs/bench/hard_negatives.jsonl"), settings)
    for seed in range(seeds):
        for name, (source, negatives) in sources().items():
            if not kept.has(negatives=name, seed=seed):
                kept.add(negatives=name, seed=seed, ndcg=trained(source, negatives, steps, seed))
    start = evaluation(measured(Transformer(dtype=DTYPE), cache_folder()))
    print(f"zero-shot {start.mean['nDCG@10']:.4f}")
    found = {}
    for name in ("random", "mined"):
        runs = [one["ndcg"] for one in kept if one["negatives"] == name]
        found[name] = evaluation({query: float(np.mean([run[query] for run in runs])) for query in start.query_ids})
        means = ", ".join(f"{np.mean([*run.values()]):.4f}" for run in runs)
        print(f"{name}: {means}; against zero-shot {paired_t(found[name], start, 'nDCG@10')}")
    print(f"mined against random: {paired_t(found['mined'], found['random'], 'nDCG@10')}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
