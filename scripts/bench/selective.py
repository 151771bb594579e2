"""Selective feedback, one line a predictor: `RETRIEVAL_DATA=data python scripts/bench/selective.py`.

BM25 with and without RM3 on each collection and split. Feedback goes to the half of the queries on the one side of the
median prediction: above, to those whose first pass is expected to be good, or below. The oracle chooses by the
judgements. Vectors for dense_coherence are MiniLM's. tau is Kendall's between prediction and nDCG@10 of the first
pass; "gain tau" that between prediction and what RM3 gains.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence

import numpy as np
from scipy.stats import kendalltau

from eval import evaluate
from prf.predictors.clarity import Clarity
from prf.predictors.dense_coherence import DenseCoherence
from prf.predictors.nqc import NQC
from prf.predictors.score import Score
from prf.predictors.wig import WIG
from prf.rm3 import RM3
from retrieval.collection import Collection
from retrieval.datasets.folder import Folder
from retrieval.encoders.transformer import Transformer
from retrieval.environment import hardware
from retrieval.indexes.flat import Flat
from retrieval.locate import cache_folder
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.selective import Selective
from retrieval.retrievers.selective_oracle import SelectiveOracle
from retrieval.types import Run

MEASURE = "nDCG@10"
K = 1000
SPLITS = ("trec-dl-pool:dl19", "trec-dl-pool:dl20", "nfcorpus:test")


def predictors() -> dict[str, object]:
    """All there are, with their defaults and, for score, the gap too."""
    return {
        "clarity": Clarity(),
        "nqc": NQC(),
        "wig": WIG(),
        "score": Score(),
        "score, gap to 10": Score(gap_to=10),
        "dense_coherence": DenseCoherence(),
    }


def values(collection: Collection, split: str, run: Run) -> np.ndarray:
    """nDCG@10 of each query of the run, in its order."""
    found = evaluate(run, collection.qrels(split), [MEASURE])
    by_query = dict(zip(found.query_ids, found.values[MEASURE], strict=True))
    return np.array([by_query[query] for query in run.query_ids])


def lines(collection: Collection, split: str) -> Sequence[str]:
    """The rows of the table for one split."""
    queries, bm25 = collection.queries(split), BM25()
    rm3 = FeedbackRetriever(bm25, RM3())
    dense = DenseRetriever(Transformer(dtype="float32"), Flat())
    oracle = SelectiveOracle(bm25, rm3, collection.qrels_folder / f"{split}.tsv", MEASURE)
    oracle.open(collection.corpus, cache_folder())
    plain, always, bound = (values(collection, split, one.retrieve(queries, K)) for one in (bm25, rm3, oracle))
    base = [f"{plain.mean():.4f}", f"{always.mean():.4f}"]
    found = []
    for name, predictor in predictors().items():
        cells = []
        for when in ("above", "below"):
            chooser = Selective(bm25, rm3, predictor, share=0.5, when=when, source=dense if "dense" in name else None)
            chooser.open(collection.corpus, cache_folder())
            cells.append(f"{values(collection, split, chooser.retrieve(queries, K)).mean():.4f}")
        predicted = chooser.predictions(queries, bm25.retrieve(queries, K))
        taus = [f"{kendalltau(predicted, of).statistic:.3f}" for of in (plain, always - plain)]
        where = f"{collection.name} {split}"
        found.append("| " + " | ".join([where, name, *base, *cells, f"{bound.mean():.4f}", *taus]) + " |")
    return found


def main(splits: Sequence[str]) -> None:
    """A Markdown table."""
    print(f"{datetime.date.today()}  {hardware()}\n")
    print(f"| {MEASURE} | predictor | plain | always | above | below | oracle | tau | gain tau |\n|{'---|' * 9}")
    for one in splits:
        name, split = one.split(":")
        print("\n".join(lines(Folder(name).open(), split)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("splits", nargs="*", default=SPLITS, help="collection:split")
    main(parser.parse_args().splits)
