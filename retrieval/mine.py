"""Mine hard negatives for training data: `python -m retrieval.mine configs/x.yaml`. Killed, it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval.cli import run as run_recipe
from retrieval.locate import cache_folder
from retrieval.protocols import Dataset, Reranker, Retriever, Source
from training.mining import Mining, shares
from training.mining import mine as mined
from training.negatives_file import write_negatives
from training.sources.mined import Mined

__all__ = ["mine"]


def mine(
    source: Source,
    dataset: Dataset,
    mining: Mining = Mining(),
    retriever: Retriever | None = None,
    run: Path | None = None,
    reranker: Reranker | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Write the negatives of each query to OUT/negatives.jsonl, for `{type: mined, negatives: OUT/negatives.jsonl}`.

    They come from what a retriever finds in the dataset for the queries of the source, or from a run file. What is
    found is kept in the cache, and so is what a reranker's reading leaves, 1,024 queries at a time. A line is
    {"qid": ..., "docid": [...], "score": [...]}, scores being similarities. What was dropped and why is printed.
    """
    path = (out or cache_folder()) / "negatives.jsonl"
    data = Mined(source, dataset, retriever, run, None, mining, reranker)
    lists = data.base()
    found = data.found(lists.queries)
    negatives = mined(lists, found, mining, reranker)
    write_negatives(path, found, negatives)
    results = {"queries": len(lists), **lists.counts, **negatives.counts, **shares(negatives.counts)}
    print(f"{path}:")
    for what, figure in results.items():
        print(f"{what}: {figure:.4f}" if isinstance(figure, float) else f"{what}: {figure}")
    return results


if __name__ == "__main__":
    run_recipe(mine)
