"""Real LLM texts replayed: QueryGym's runs, re-scored and put to other feedback models. `python scripts/bench/replay.py`.

Part `published`: the new queries of every run as they are, through BM25 on SciFact and on the pool of TREC DL; on SciFact
beside the nDCG@10 that the run reported. Part `grid`: the texts of the runs of one model through feedback models, on BM25,
sparse vectors and MiniLM. The sparse vectors are SPLADE's in form only, since no checkpoint is at hand: log(1 + count) times
idf over MiniLM's WordPiece vocabulary, with no expansion, searched as impacts.

Texts, collections and models: RETRIEVAL_DATA; vectors are kept in RETRIEVAL_CACHE.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from querygym import asked, expanded, texts
from scipy.sparse import csr_array

from eval import evaluate
from eval.measures import Evaluation
from eval.significance import holm, paired_t
from prf.append import Append
from prf.average import Average
from prf.average_terms import AverageTerms
from prf.rm3 import RM3
from prf.rocchio import Rocchio
from prf.vector_rocchio import VectorRocchio
from retrieval.collection import Collection
from retrieval.corpus import Corpus
from retrieval.datasets.folder import Folder
from retrieval.encoders.transformer import Transformer
from retrieval.environment import hardware, packages
from retrieval.indexes.flat import Flat
from retrieval.indexes.inverted import Inverted
from retrieval.locate import cache_folder, data_folder
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.rewrite import Rewrite
from retrieval.retrievers.sparse import SparseRetriever
from retrieval.types import Queries, Sparse

PLACES = {
    ("scifact", "test"): "beir-v1.0.0-scifact",
    ("trec-dl-pool", "dl19"): "msmarco-v1-passage.trecdl2019",
    ("trec-dl-pool", "dl20"): "msmarco-v1-passage.trecdl2020",
}
NDCG = "nDCG@10"


class Impacts:
    """log(1 + count) idf of WordPieces for documents, log(1 + count) for queries: SPLADE's saturation, no expansion."""

    def __init__(self, corpus: Corpus):
        self.tokenizer = Transformer(dtype="float32").bi_encoder.tokenizer
        self.size = len(self.tokenizer)
        counts, every = self._counts(corpus.texts(np.arange(len(corpus)))), len(corpus)
        df = np.bincount(counts.indices, minlength=self.size)
        self.idf = np.log1p((every - df + 0.5) / (df + 0.5)).astype(np.float32)

    def encode_docs(self, given: list[str]) -> Sparse:
        """float32 [texts, vocabulary]."""
        counts = self._counts(given)
        counts.data = np.log1p(counts.data) * self.idf[counts.indices]
        return Sparse(counts)

    def encode_queries(self, given: list[str]) -> Sparse:
        """float32 [texts, vocabulary]."""
        counts = self._counts(given)
        counts.data = np.log1p(counts.data)
        return Sparse(counts)

    def vocabulary(self) -> list[str]:
        """The WordPiece of each column."""
        return self.tokenizer.convert_ids_to_tokens(range(self.size))

    def contract(self) -> dict[str, Any]:
        """The idf stands for the corpus."""
        return {"encoder": "log(1 + count) idf", "idf": float(self.idf.sum()), "vocabulary": self.size}

    def _counts(self, given: list[str]) -> csr_array:
        bags = [Counter(one) for one in self.tokenizer(list(given), add_special_tokens=False)["input_ids"]]
        ends = np.cumsum([0, *map(len, bags)])
        ids = np.array([i for bag in bags for i in sorted(bag)], np.int32)
        often = np.array([bag[i] for bag in bags for i in sorted(bag)], np.float32)
        return csr_array((often, ids, ends), shape=(len(bags), self.size))


class Written:
    """The texts of a QueryGym run, as a writer."""

    needs = ()

    def __init__(self, found: dict[str, list[str]]):
        self.found = found

    def write(self, queries: Queries, feedback: Any) -> list[list[str]]:
        """The texts of each query."""
        return [self.found.get(query, []) for query in queries.ids]


def runs(dataset: str) -> Iterator[tuple[str, str, str, Path]]:
    """Method, model, hash and file of each run."""
    for path in sorted((data_folder() / "querygym-expansions" / dataset).glob("*.queries.tsv")):
        method, model, name = path.name.removesuffix(".queries.tsv").split("__")
        yield method, model.split("_", 1)[1], name, path


def reported(dataset: str) -> dict[tuple[str, str, str], float]:
    """nDCG@10 of each BM25 run, by method, model and hash."""
    with open(data_folder() / "querygym-expansions" / "results.csv", newline="") as file:
        return {
            (row["method_id"], row["model"].split("/", 1)[1], row["params_hash"]): float(row["value"])
            for row in csv.DictReader(file)
            if row["retriever_id"] == "bm25" and row["metric"] == "ndcg_cut_10" and row["dataset_id"] == dataset
        }


def mode(path: Path) -> str:
    """How the method was set, as far as the run tells."""
    about = json.loads(path.with_name(path.name.replace(".queries.tsv", ".json")).read_text())
    return str(about["config"]["method_params"].get("mode", ""))


def published(name: str, split: str, dataset: str) -> None:
    """The new queries of every run through BM25."""
    collection, bm25 = Folder(name).open(), BM25()
    bm25.open(collection.corpus, cache_folder())
    queries, qrels, known = (
        collection.queries(split),
        collection.qrels(split),
        asked(collection.folder / "queries.jsonl"),
    )
    base = evaluate(bm25.retrieve(queries, 1000), qrels, [NDCG])
    rm3 = FeedbackRetriever(bm25, RM3())
    rm3.open(collection.corpus, cache_folder())
    found: dict[tuple[str, str, str, str], Evaluation] = {}
    for method, model, key, path in runs(dataset):
        new = expanded(path, known)
        run = bm25.retrieve(Queries(queries.ids, [new.get(query, known[query]) for query in queries.ids]), 1000)
        found[method, model, key, mode(path)] = evaluate(run, qrels, [NDCG])
    gains = {what: paired_t(one, base, NDCG) for what, one in found.items()}
    adjusted = dict(zip(gains, holm([1.0 if one.p is None else one.p for one in gains.values()]), strict=True))
    theirs = reported(dataset)
    print(
        f"\n### {collection.name}, {split}: BM25 {base.mean[NDCG]:.4f}, RM3 {evaluate(rm3.retrieve(queries, 1000), qrels, [NDCG]).mean[NDCG]:.4f}\n"
    )
    print(
        "| method | model | run | nDCG@10 | over BM25 | p (Holm) | reported | off by |\n|---|---|---|---|---|---|---|---|"
    )
    for what in sorted(found, key=lambda one: -found[one].mean[NDCG]):
        method, model, key, kind = what
        said = theirs.get((method, model, key))
        value = found[what].mean[NDCG]
        off = f"{said:.4f} | {value - said:+.4f}" if said is not None else "- | -"
        print(
            f"| {method} {kind} | {model} | {key} | {value:.4f} | {gains[what].difference:+.4f} | {adjusted[what]:.2g} | {off} |"
        )
    if name == "scifact":
        near = sum(abs(found[what].mean[NDCG] - theirs[what[:3]]) <= 0.005 for what in found if what[:3] in theirs)
        print(f"\n{near} of {len(found)} runs within 0.005 of what they reported")


def grid(name: str, split: str, dataset: str, model: str) -> None:
    """Feedback models over the texts of one model's runs, on three retrievers."""
    collection = Folder(name).open()
    known, queries, qrels = (
        asked(collection.folder / "queries.jsonl"),
        collection.queries(split),
        collection.qrels(split),
    )
    written = {
        f"{method} {mode(path)}".strip(): {
            query: texts(known[query], new) for query, new in expanded(path, known).items()
        }
        for method, one, _, path in runs(dataset)
        if one == model
    }
    for title, retriever, joins in systems(collection):
        retriever.open(collection.corpus, cache_folder())
        base = evaluate(retriever.retrieve(queries, 1000), qrels, [NDCG])
        print(f"\n### {collection.name}, {split}, texts of {model}: {title} alone {base.mean[NDCG]:.4f}\n")
        print(f"| texts | {' | '.join(joins)} |\n|{'---|' * (len(joins) + 1)}")
        for method, found in written.items():
            cells = []
            for make, weight_by in joins.values():
                system = Rewrite(Written(found), retriever, make(), weight_by=weight_by)
                system.open(collection.corpus, cache_folder())
                test = paired_t(evaluate(system.retrieve(queries, 1000), qrels, [NDCG]), base, NDCG)
                star = "*" if test.p is not None and test.p < 0.05 else ""
                cells.append(f"{base.mean[NDCG] + test.difference:.4f} ({test.difference:+.4f}{star})")
            print(f"| {method} | {' | '.join(cells)} |", flush=True)


def systems(collection: Collection) -> Iterator[tuple[str, Any, dict[str, tuple[Callable[[], Any], str]]]]:
    """Each retriever, with the feedback models that it reads."""
    terms: dict[str, tuple[Callable[[], Any], str]] = {
        "query x 5, texts": (lambda: Append(repeat=5), "one"),
        "RM3": (lambda: RM3(fb_terms=128), "bm25"),
        "Rocchio": (lambda: Rocchio(fb_terms=128, fb_docs=8), "one"),
        "average": (lambda: AverageTerms(), "one"),
    }
    yield "BM25", BM25(), terms
    sparse = {name: (make, "one") for name, (make, _) in terms.items()}
    yield "sparse vectors", SparseRetriever(Impacts(collection.corpus), Inverted()), sparse
    dense: dict[str, tuple[Callable[[], Any], str]] = {
        "query, texts": (Append, "one"),
        "average": (lambda: Average(fb_docs=8), "one"),
        "Rocchio .4/.6": (lambda: VectorRocchio(fb_docs=8), "one"),
    }
    yield "MiniLM", DenseRetriever(Transformer(dtype="float32"), Flat(device="cpu")), dense


def main() -> None:
    """The parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["published", "grid"])
    parser.add_argument("--model", default="gpt-4.1", help="whose texts go through the grid")
    parser.add_argument("--grid-on", nargs="*", default=["dl19", "dl20", "test"], help="splits of the grid")
    options = parser.parse_args()
    print(f"{datetime.date.today()}  {hardware()}\n{packages()}")
    for (name, split), dataset in PLACES.items():
        if "published" in options.parts:
            published(name, split, dataset)
    for (name, split), dataset in PLACES.items():
        if "grid" in options.parts and split in options.grid_on:
            grid(name, split, dataset, options.model)


if __name__ == "__main__":
    main()
