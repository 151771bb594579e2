"""BM25 beside Lucene's, the 1000 best documents of every query: `python -m scripts.parity.search [collection ...]`.

Lucene's scores are those of its IndexSearcher, before Anserini rounds them, and equal ones stand in Anserini's order, by
id ascending. Collections below RETRIEVAL_DATA, one field and, where documents have titles, two. Run from the root of
the checkout.
"""

from __future__ import annotations

import sys
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from retrieval.analyzers.english import English
from retrieval.corpus import Corpus
from retrieval.datasets.folder import Folder
from retrieval.locate import cache_folder
from retrieval.types import Queries
from tests.parity import COLLECTIONS, SearchParity, all_queries, compare_search

K = 1000
BOTH = {"title": 1.0, "text": 1.0}
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
            notes += _notes(f"{name}, {label}", queries, found)
    print("\n".join(["", *notes]))


def _has_titles(corpus: Corpus) -> bool:
    return any(pc.any(pc.not_equal(titles, "")).as_py() for titles, _ in corpus.batches())


def _cells(found: list[SearchParity]) -> list[str]:
    counts = [sum(one.documents for one in found), sum(one.but_for_ties for one in found)]
    orders = [sum(one.order for one in found), sum(one.identical for one in found)]
    difference, steps = max(one.difference for one in found), max(one.steps for one in found)
    results = sum(one.results for one in found)
    cells = [len(found), results, *counts, f"{difference:.2g}", steps, *orders]
    return [cell if isinstance(cell, str) else f"{cell:,}" for cell in cells]


def _notes(label: str, queries: Queries, found: list[SearchParity]) -> list[str]:
    """Why documents and scores are not all the same, and a few of the lists that differ."""
    notes = []
    cut = [one for one in found if not one.documents]
    if cut:
        ties = sum(one.but_for_ties for one in cut)
        notes.append(
            f"{label}: other documents in {len(cut)} lists, in {ties} only of equal score where the list is cut"
        )
    rounded = [(text, one) for text, one in zip(queries.texts, found, strict=True) if one.steps]
    if rounded:
        lists = English().analyze(pa.array([text for text, _ in rounded], pa.large_string())).lists()
        thrice = sum(max(Counter(terms).values()) >= 3 for terms in lists)
        notes.append(
            f"{label}: other scores in {len(rounded)} lists, by up to {max(one.steps for _, one in rounded)} float32 steps; "
            f"{thrice} of these queries hold a term thrice, whose weight Lucene rounds before it is multiplied"
        )
    return notes + [
        f"{label}: query {name!r}: {one.first}"
        for name, one in zip(queries.ids, found, strict=True)
        if not one.identical
    ]


if __name__ == "__main__":
    main(sys.argv[1:] or list(COLLECTIONS))
