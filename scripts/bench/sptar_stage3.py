"""SPTAR's third stage: MiniLM trained on weak queries by LLaMA-7B: `python -m scripts.bench.sptar_stage3 [seeds]`.

No augmentation (49 gold pairs of MS MARCO), the gold pairs and 911 weak queries of the soft prompt tuned on 500 pairs,
drawn by the seed, and the same but for those whose passage BM25 does not find among 30 of the 7,249 here, in whose place
the next drawn stand: same steps, one epoch of weak queries. Tested on DL19 and DL20 of trec-dl-pool as
scripts/bench/graded.py does, by reranking the 50 best of zero-shot MiniLM. Weak queries of hard prompts are not in the
data. Finished runs are in runs/bench/sptar.jsonl.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np

from eval.significance import paired_t
from retrieval.datasets.folder import Folder
from retrieval.datasets.with_queries import WithQueries
from retrieval.encoders.transformer import Transformer
from retrieval.protocols import Source
from retrieval.retrievers.bm25 import BM25
from scripts.bench.graded import DEPTH, DTYPE, by_query, evaluation, parts, reranked, zero_shot
from scripts.bench.kept import Kept
from training.collections import Groups
from training.losses.infonce import InfoNCE
from training.records import plain
from training.sources.filtered import Filtered
from training.sources.judged import Judged
from training.sources.selected import Selected
from training.sources.union import Union
from training.trainer import Trainer

STEPS, BATCH = 60, 16
NAMES = ("none", "soft", "soft, filtered")
LOSS, RATE, RANK, WEAK = InfoNCE(0.05), 2e-5, 30, ("weak/queries_500.jsonl", "weak/qrels_500.tsv")
KEPT = Kept(
    Path("runs/bench/sptar.jsonl"),
    {"dtype": DTYPE, "depth": DEPTH, "steps": STEPS, "batch": BATCH, "loss": plain(LOSS), "rate": RATE, "rank": RANK}
    | {"weak": WEAK},
)


def sources(seed: int) -> dict[str, Source]:
    """Training data by name."""
    folder, tested = Folder("sptar-msmarco"), Folder("trec-dl-pool")
    gold = Judged(folder, "train50")
    weak = Judged(WithQueries(folder, *WEAK), "weak")
    every, kept = Filtered(weak, evaluation=tested), Filtered(weak, retriever=BM25(), rank=RANK, evaluation=tested)
    drawn = np.random.default_rng(seed).permutation(every.lists().queries.ids).tolist()
    found, some = {*kept.lists().queries.ids}, STEPS * BATCH - len(gold.lists())
    passed = [name for name in drawn if name in found]
    return {
        "none": gold,
        "soft": Union([gold, Selected(every, queries=drawn[:some])]),
        "soft, filtered": Union([gold, Selected(kept, queries=passed[:some])]),
    }


def trained(source: Source, seed: int) -> dict[str, dict[str, float]]:
    """nDCG@10 by query on each test set."""
    groups = Groups(source.lists(), 1, negatives="none", graded=False, seed=seed)
    encoder = Transformer(dtype=DTYPE)
    trainer = Trainer(
        LOSS, steps=STEPS, batch_size=BATCH, learning_rate=RATE, eval_steps=STEPS, precision=DTYPE, seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        model = encoder.trainable()
        trainer.train(model, groups, Path(folder), save=lambda model, place: place.mkdir())
    around = encoder.around(model)
    return {part: by_query(reranked(around, "dl", part), test[1]) for part, _, test in parts("dl")}


def main(seeds: int) -> None:
    """Run what is missing, and print means and paired tests."""
    for seed in range(seeds):
        for name, source in sources(seed).items():
            if not KEPT.has(source=name, seed=seed):
                KEPT.add(source=name, seed=seed, ndcg=trained(source, seed))
    for part, _, test in parts("dl"):
        systems = {"zero-shot": by_query(zero_shot("dl", part), test[1])}
        for name in NAMES:
            runs = [one["ndcg"][part] for one in KEPT if one["source"] == name]
            systems[name] = {query: float(np.mean([run[query] for run in runs])) for query in runs[0]}
            print(name, *(f"{np.mean([*run.values()]):.4f}" for run in runs))
        table(part.partition(" -> ")[2], systems)


def table(title: str, systems: dict[str, dict[str, float]]) -> None:
    """Print the means, and each pair of systems tested."""
    print(f"{title}: " + ", ".join(f"{name} {np.mean([*values.values()]):.4f}" for name, values in systems.items()))
    for one, other in combinations(systems, 2):
        found = paired_t(evaluation(systems[other]), evaluation(systems[one]), "nDCG@10")
        print(f"  {other} - {one}: {found.difference:+.4f}, p = {found.p:.3g}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
