"""RM3 and Rocchio beside Pyserini's, nDCG@10 of every query: `python -m scripts.parity.feedback [collection ...]`.

FeedbackRetriever over BM25 against Pyserini's LuceneSearcher with set_rm3 and set_rocchio, both with Pyserini's
defaults, on the split "test" of collections below RETRIEVAL_DATA. Run from the root of the checkout.
"""

from __future__ import annotations

import sys
from collections import Counter

from retrieval.datasets.folder import Folder
from retrieval.locate import cache_folder
from tests.parity import EQUAL, MODELS, FeedbackParity, compare_feedback

COLLECTIONS = ["trec-dl-pool", "nfcorpus"]  # trec-dl-pool's test is dl19 and dl20


def main(names: list[str]) -> None:
    """Print the table, and below it each query that differs and why."""
    print("| collection | model | queries | nDCG@10 Pyserini | ours, ties: lucene | equal to 1e-4 "
          "| ours, house order | equal to 1e-4 |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    notes = []
    for name in names:
        collection = Folder(name).open()
        for model in MODELS:
            found = compare_feedback(collection, "test", model, cache_folder())
            print(f"| {name} | {model} | {len(found)} | {' | '.join(_cells(found))} |", flush=True)
            notes += _notes(f"{name}, {model}", found)
    print("\n".join(["", *notes]) if notes else "\nEvery query has Pyserini's nDCG@10.")


def _cells(found: list[FeedbackParity]) -> list[str]:
    theirs, tied, house = ([getattr(one, name) for one in found] for name in ("pyserini", "lucene_ties", "house"))
    cells = [f"{sum(theirs) / len(found):.4f}"]
    for values in (tied, house):
        equal = sum(abs(value - other) <= EQUAL for value, other in zip(values, theirs, strict=True))
        cells += [f"{sum(values) / len(found):.4f}", f"{equal} ({equal / len(found):.1%})"]
    return cells


def _notes(label: str, found: list[FeedbackParity]) -> list[str]:
    causes = Counter(one.cause for one in found if one.cause)
    listed = [
        f"  {one.query}: Pyserini {one.pyserini:.4f}, ties: lucene {one.lucene_ties:.4f}, house {one.house:.4f}: "
        f"{one.cause}"
        for one in found
        if one.cause
    ]
    return [f"{label}: {cause}: {count} queries" for cause, count in causes.items()] + listed


if __name__ == "__main__":
    main(sys.argv[1:] or COLLECTIONS)
