"""Vector feedback over MiniLM, depth by depth: `python scripts/bench/dense_feedback.py --help`.

The mean of query and first documents, and Rocchio with the paper's weights and Pyserini's, against MiniLM (float32)
alone: paired t-tests over queries, their p-values adjusted by Holm over the depths of one model on one measure. The
collections lie below RETRIEVAL_DATA, and are encoded once into RETRIEVAL_CACHE.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from eval import evaluate
from eval.measures import Evaluation
from eval.significance import holm, paired_t
from prf.average import Average
from prf.vector_rocchio import VectorRocchio
from retrieval.datasets.folder import Folder
from retrieval.encoders.transformer import Transformer
from retrieval.indexes.flat import Flat
from retrieval.locate import cache_folder
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever

GRADED = ["nDCG@10", "AP(rel=2)", "R(rel=2)@100"]
MEASURES = {"trec-dl-pool": GRADED, "nfcorpus": ["nDCG@10", "AP", "R@100"]}
MODELS: dict[str, Mapping[int, Any]] = {
    "average": {k: Average(k) for k in (1, 2, 3, 5, 10)},
    "Rocchio 0.4/0.6": {k: VectorRocchio(0.4, 0.6, fb_docs=k) for k in (3, 5, 10)},
    "Rocchio 0.9/0.1": {k: VectorRocchio(0.9, 0.1, 0.1, fb_docs=k) for k in (3, 5, 10)},
}
K = 1000


def measured(name: str, split: str) -> tuple[Evaluation, dict[str, dict[int, Evaluation]]]:
    """MiniLM alone, and each model at each depth."""
    collection, dense = Folder(name).open(), DenseRetriever(Transformer(dtype="float32"), Flat(device="cpu"))
    qrels, measures = collection.qrels(split), MEASURES[name]
    dense.open(collection.corpus, cache_folder())
    queries = collection.queries(split)
    alone = dense.retrieve(queries, K)
    queries, _ = dense.feedback(queries, alone)  # encoded once
    found: dict[str, dict[int, Evaluation]] = {}
    for model, depths in MODELS.items():
        for k, reformulator in depths.items():
            retriever = FeedbackRetriever(dense, reformulator, depth=k)
            retriever.open(collection.corpus, cache_folder())
            found.setdefault(model, {})[k] = evaluate(retriever.retrieve(queries, K), qrels, measures)
    return evaluate(alone, qrels, measures), found


def shown(name: str, split: str) -> None:
    """The lines of one split, and the best depth of each model by the first measure."""
    alone, found = measured(name, split)
    measures, queries = MEASURES[name], len(alone.query_ids)
    print(f"\n{name}, {split} ({queries} queries)\n")
    print("| model | depth | " + " | ".join(measures) + " |\n|---|---|" + "---|" * len(measures))
    print("| MiniLM alone | 0 | " + " | ".join(f"{alone.mean[measure]:.4f}" for measure in measures) + " |")
    for model, depths in found.items():
        cells = {k: [f"{evaluation.mean[measure]:.4f}" for measure in measures] for k, evaluation in depths.items()}
        for place, measure in enumerate(measures):
            tests = {k: paired_t(evaluation, alone, measure) for k, evaluation in depths.items()}
            adjusted = holm([1.0 if test.p is None else test.p for test in tests.values()])
            for (k, test), p in zip(tests.items(), adjusted, strict=True):
                cells[k][place] += f" ({test.difference:+.4f}, p = {p:.2g})"
        for k, line in cells.items():
            print(f"| {model} | {k} | {' | '.join(line)} |")
    print()
    for measure in measures:
        best = {}
        for model, depths in found.items():
            best[model] = max((evaluation.mean[measure], -k) for k, evaluation in depths.items())
        print(
            f"best depth by {measure}: " + ", ".join(f"{model} {-k} ({mean:.4f})" for model, (mean, k) in best.items())
        )


def main() -> None:
    """Read the command line, show a table per split."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("splits", nargs="*", default=["nfcorpus:test", "trec-dl-pool:dl19", "trec-dl-pool:dl20"])
    for one in parser.parse_args().splits:
        shown(*one.split(":"))


if __name__ == "__main__":
    main()
