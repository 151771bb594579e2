"""BM25 beside Lucene's, the 1000 best documents of every query: `python -m scripts.parity.search [collection ...]`.

Lucene's scores are those of its IndexSearcher, before Anserini rounds them, and equal ones stand in Anserini's order, by
id ascending. Collections below RETRIEVAL_DATA, one field and, where documents have titles, two. Run from the root of
the checkout.
"""

from __future__ import annotations

import sys

import pyarrow.compute as pc

from retrieval.corpus import Corpus
from retrieval.datasets.folder import Folder
from retrieval.locate import cache_folder
from tests.parity import COLLECTIONS, SearchParity, all_queries, compare_search

K = 1000
BOTH = {"title": 1.0, "text": 1.0}
SHOWN = 5  # queries of each line whose lists differ
COLUMNS = (
    "queries",
    "results",
    "same documents",
    "but for ties at the cut",
    "largest difference",
    "in float32 steps",
    "same order but for ties",
    "identical with ties: lucene",
)


def main(names: list[str]) -> None:
    """Print the table, and below it why lists differ."""
    print(f"| collection | fields | {' | '.join(COLUMNS)} |\n|{'---|' * (2 + len(COLUMNS))}")
    notes = []
    for name in names:
        collection = Folder(name).open()
        queries = all_queries(collection)
        for fields in (None, BOTH) if _has_titles(collection.corpus) else (None,):
            found = compare_search(collection.corpus, queries, cache_folder(), K, fields)
            label = "title, text" if fields else "one"
            print(f"| {name} | {label} | {' | '.join(_cells(found))} |", flush=True)
            notes += _notes(f"{name}, {label}", queries.ids, found)
    print("\n".join(["", *notes]) if notes else "\nEvery list is Lucene's.")


def _has_titles(corpus: Corpus) -> bool:
    return any(pc.any(pc.not_equal(titles, "")).as_py() for titles, _ in corpus.batches())


def _cells(found: list[SearchParity]) -> list[str]:
    counts = [sum(one.documents for one in found), sum(one.but_for_ties for one in found)]
    orders = [sum(one.order for one in found), sum(one.identical for one in found)]
    difference, steps = max(one.difference for one in found), max(one.steps for one in found)
    results = sum(one.results for one in found)
    cells = [len(found), results, *counts, f"{difference:.2g}", steps, *orders]
    return [cell if isinstance(cell, str) else f"{cell:,}" for cell in cells]


def _notes(label: str, ids: list[str], found: list[SearchParity]) -> list[str]:
    """Each kind of difference with its count, and a few of the lists."""
    other = [(name, one) for name, one in zip(ids, found, strict=True) if not one.identical]
    if not other:
        return []
    near = sum(one.steps <= 2 for _, one in other)
    kinds = [f"{label}: {len(other)} lists differ, {near} of them with scores within 2 float32 steps of Lucene's"]
    return kinds + [f"  query {name!r}: {one.first}" for name, one in other[:SHOWN]]


if __name__ == "__main__":
    main(sys.argv[1:] or list(COLLECTIONS))
