"""PromptPRF without a language model on NFCorpus and SciFact test: `python scripts/bench/promptprf.py`.

Each extractor at depths 1, 3 and 5, with rank labels and without, behind MiniLM in float32, beside MiniLM alone: means,
the difference by query with a paired t-test (two-sided, not corrected for several tests), and features dropped so that
a query fits the encoder.
"""

from __future__ import annotations

import datetime
import sys
import time

from eval import evaluate
from eval.significance import paired_t
from prf.extractors.keywords import Keywords
from prf.extractors.lead import Lead
from prf.extractors.textrank import TextRank
from prf.promptprf import PromptPRF
from retrieval.datasets.beir import Beir
from retrieval.encoders.transformer import Transformer
from retrieval.environment import hardware
from retrieval.indexes.flat import Flat
from retrieval.locate import cache_folder
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever

MEASURES = ["nDCG@10", "R@100"]
DEPTHS = (1, 3, 5)


def table(name: str) -> None:
    """Print the table of one collection."""
    dataset, encoder = Beir(name), Transformer(dtype="float32")
    collection = dataset.open()
    queries, qrels = collection.queries("test"), collection.qrels("test")
    dense = DenseRetriever(encoder, Flat())
    dense.open(collection.corpus, cache_folder())

    def measured(retriever):
        started = time.perf_counter()
        run = retriever.retrieve(queries, 100)
        return evaluate(run, qrels, MEASURES), 1000 * (time.perf_counter() - started) / len(queries)

    alone, milliseconds = measured(dense)
    print(f"\n{name} test, {len(queries)} queries: MiniLM alone ", end="")
    print(", ".join(f"{m} {alone.mean[m]:.4f}" for m in MEASURES), f"({milliseconds:.1f} ms a query)")
    print(f"{'extractor':10}{'depth':>6}{'labels':>8}", end="")
    print("".join(f"{m:>10}{'diff':>9}{'p':>10}" for m in MEASURES), f"{'dropped':>8}{'ms/query':>9}")
    for extractor in (Keywords(dataset), TextRank(), Lead()):
        for depth in DEPTHS:
            for labels in (True, False):
                model = PromptPRF(extractor, encoder=encoder, depth=depth, rank_labels=labels)
                found, milliseconds = measured(_opened(FeedbackRetriever(dense, model, depth=depth), collection.corpus))
                tests = {m: paired_t(found, alone, m) for m in MEASURES}
                cells = [f"{found.mean[m]:10.4f}{t.difference:+9.4f}{t.p or 1:10.2g}" for m, t in tests.items()]
                label = "yes" if labels else "no"
                print(
                    f"{type(extractor).__name__:10}{depth:6}{label:>8}{''.join(cells)} {model.dropped:8}{milliseconds:9.1f}",
                    flush=True,
                )


def _opened(retriever: FeedbackRetriever, corpus) -> FeedbackRetriever:
    retriever.corpus = corpus  # its source is open already
    return retriever


if __name__ == "__main__":
    print(f"{datetime.date.today()}  {hardware()}")
    for one in sys.argv[1:] or ("nfcorpus", "scifact"):
        table(one)
