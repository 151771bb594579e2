"""What typos in queries cost: `RETRIEVAL_DATA=data python scripts/bench/typos.py --help`.

BM25, MiniLM (float32) and models of other folders, on the queries as they are and with a tenth of their words misspelt
(at least one), of each kind of typo and of all kinds. Paired t-tests against the same system on the clean queries,
adjusted by Holm over the lines of one system.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence

from eval import evaluate
from eval.measures import Evaluation
from eval.significance import holm, paired_t
from retrieval.collection import Collection
from retrieval.datasets.folder import Folder
from retrieval.datasets.typos import Typos
from retrieval.encoders.transformer import Transformer
from retrieval.environment import hardware
from retrieval.indexes.flat import Flat
from retrieval.locate import cache_folder
from retrieval.protocols import Retriever
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.dense import DenseRetriever
from retrieval.typos import KINDS

MEASURES = ["nDCG@10", "R@100"]


def systems(models: Sequence[str]) -> dict[str, Retriever]:
    """BM25, MiniLM, and a line a model folder."""
    encoders = {"MiniLM": Transformer(dtype="float32")} | {one: Transformer(one, dtype="float32") for one in models}
    dense = {name: DenseRetriever(encoder, Flat()) for name, encoder in encoders.items()}
    return {"BM25": BM25()} | dense


def collections(name: str, split: str, seeds: int) -> dict[str, list[Collection]]:
    """The clean queries, and those with typos, with so many seeds."""
    clean = Folder(name)
    kinds = {**{kind: [kind] for kind in KINDS}, "all kinds": None}
    return {"clean": [clean.open()]} | {
        kind: [Typos(clean, [split], kinds=of, seed=seed).open() for seed in range(seeds)] for kind, of in kinds.items()
    }


def mean(found: Sequence[Evaluation]) -> Evaluation:
    """The mean of each query over seeds."""
    values = {name: sum(one.values[name] for one in found) / len(found) for name in MEASURES}
    return Evaluation(found[0].query_ids, values, found[0].counts)


def lines(name: str, split: str, models: Sequence[str], seeds: int) -> list[str]:
    """The rows of the table."""
    made, shown = collections(name, split, seeds), []
    for system, retriever in systems(models).items():
        retriever.open(made["clean"][0].corpus, cache_folder())
        found = {
            kind: mean(
                [evaluate(retriever.retrieve(one.queries(split), 1000), one.qrels(split), MEASURES) for one in of]
            )
            for kind, of in made.items()
        }
        clean = found.pop("clean")
        shown.append(f"| {system} | none | {' | '.join(f'{clean.mean[measure]:.4f}' for measure in MEASURES)} |")
        tests = {m: {kind: paired_t(one, clean, m) for kind, one in found.items()} for m in MEASURES}
        p = {m: holm([1.0 if test.p is None else test.p for test in tests[m].values()]) for m in MEASURES}
        for place, (kind, one) in enumerate(found.items()):
            cells = [f"{one.mean[m]:.4f} ({tests[m][kind].difference:+.4f}, p = {p[m][place]:.2g})" for m in MEASURES]
            shown.append(f"| {system} | {kind} | {' | '.join(cells)} |")
    return shown


def main() -> None:
    """A Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--collection", default="scifact", help="a folder in BEIR layout below RETRIEVAL_DATA")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seeds", type=int, default=3, help="misspelt so many times; values are means over them")
    parser.add_argument("models", nargs="*", help="folders of further bi-encoders")
    chosen = parser.parse_args()
    print(f"{datetime.date.today()}  {hardware()}\n{chosen.collection} {chosen.split}, mean of {chosen.seeds} seeds\n")
    print(f"| system | typos | {' | '.join(MEASURES)} |\n|{'---|' * 4}")
    print("\n".join(lines(chosen.collection, chosen.split, chosen.models, chosen.seeds)))


if __name__ == "__main__":
    main()
