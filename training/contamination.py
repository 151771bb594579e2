"""What training data and an evaluation share: the same and nearly the same queries and documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from retrieval.collection import Collection
from retrieval.corpus import Corpus
from retrieval.lists import Joined, Lists, Passages
from retrieval.types import Queries
from training.near_duplicates import NearTexts, shingles

__all__ = ["contamination", "unjudged"]

QUERY_WORDS, DOCUMENT_WORDS = 1, 3  # of a shingle: a query is too short for its order of words to tell
CHUNK = 16384  # training passages that are in memory at a time
LOOKED_AT = 1000  # documents with a common id that tell whether two corpora number theirs alike


def contamination(
    training: Lists, queries: Queries, documents: Sequence[str], threshold: float = 0.8
) -> dict[str, int]:
    """How many test queries and judged documents stand in the training data too, and how many nearly so.

    `documents` are the texts of those judged for `queries`; they are compared with every passage that `training`
    lists. The same is said of equal words in equal order, whatever their case and punctuation; nearly the same of a
    Jaccard similarity from `threshold` on, of the words of two queries and of the runs of three words of two
    documents. What is the same is not counted as nearly so. Raises ValueError for a threshold off (0, 1].
    """
    trained = _chunks(training.passages, np.unique(training.rows))
    asked = _shared(queries.texts, [training.original], QUERY_WORDS, threshold)
    read = _shared(documents, trained, DOCUMENT_WORDS, threshold)
    return {
        "test queries": len(queries),
        "test queries trained on": asked[0],
        "test queries close to one trained on": asked[1],
        "judged documents": len(documents),
        "judged documents trained on": read[0],
        "judged documents close to one trained on": read[1],
    }


def unjudged(passages: Passages, rows: np.ndarray, collection: Collection) -> np.ndarray:
    """bool [rows], those passages that no split of a collection judges.

    A passage is a judged document where it has the same words, or the same id and the two corpora number alike: at
    least half of what has an id in both says the same.
    """
    corpus = collection.corpus
    judged = [name for split in collection.splits() for name in collection.qrels(split).doc_ids.to_pylist()]
    known = corpus.ids.rows(judged)
    words = _words(corpus.texts(np.unique(known[known >= 0])))
    same = [_words(texts) for texts in _chunks(passages, rows)]
    free = ~np.isin(np.concatenate([*same, np.zeros(0, np.uint64)]), words[words != 0])
    start = 0
    for part in passages.parts if isinstance(passages, Joined) else [passages]:
        if isinstance(part, Corpus) and _numbered_alike(part, corpus):
            there = part.ids.rows(judged)
            free &= ~np.isin(rows, start + there[there >= 0])
        start += len(part)
    return free


def _numbered_alike(one: Corpus, other: Corpus) -> bool:
    if one.fingerprint == other.fingerprint:
        return True
    there = other.ids.rows(one.ids.values)
    common = np.flatnonzero(there >= 0)[:LOOKED_AT]
    equal = _words(one.texts(common)) == _words(other.texts(there[common]))
    return len(common) > 0 and bool(equal.mean() >= 0.5)


def _words(texts: Sequence[str]) -> np.ndarray:
    """uint64 [texts], one number for the same words in the same order; 0 for none."""
    return shingles(texts, DOCUMENT_WORDS).whole


def _chunks(passages: Passages, rows: np.ndarray) -> Iterator[list[str]]:
    for start in range(0, len(rows), CHUNK):
        yield passages.texts(rows[start : start + CHUNK])


def _shared(tested: Sequence[str], trained: Iterable[Sequence[str]], words: int, threshold: float) -> tuple[int, int]:
    """How many of the first texts are the same as one of the others, and how many others of them are close to one."""
    here = shingles(tested, words)
    index = NearTexts(here, threshold)
    same, close = np.zeros(len(here), bool), np.zeros(len(here), bool)
    for texts in trained:
        there = shingles(texts, words)
        same |= np.isin(here.whole, there.whole) & (here.whole != 0)
        close[index.find(there)[1]] = True
    return int(same.sum()), int((close & ~same).sum())
