"""Training data without the queries that do not fit their documents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from retrieval.corpus import Corpus
from retrieval.lists import Lists
from retrieval.protocols import Dataset, Retriever, Source
from training.contamination import unjudged
from training.filters import Keep, Sieve, found_within, long_enough, once, unlike
from training.retrieved import retrieved

__all__ = ["Filtered"]


class Filtered:
    """The lists of those queries of a source, such as synthetic ones, that pass all filters; others are counted.

    With BM25 and rank 30 it is SPTAR's filter (70 on FiQA); with a retriever trained on the same queries and rank 1 the
    round trip of Promptagator; with keep.best over a `scored` source that of InPars v2.
    """

    def __init__(
        self,
        source: Source,
        keep: Keep = Keep(),
        retriever: Retriever | None = None,
        rank: int | None = None,
        evaluation: Dataset | None = None,
    ):
        """A query is kept where `retriever` finds one of its relevant passages among the first `rank`.

        `keep.best` and the like go by the targets of a `scored` source, of the relevant passage with the highest; they
        serve the filter, and losses are given labels. Queries of any split of `evaluation` are left out, and passages
        that it judges, with the queries to which one is relevant.
        """
        if (retriever is None) != (rank is None):
            raise ValueError("retriever and rank belong together: give both, or neither")
        if rank is not None and rank < 1:
            raise ValueError(f"rank is {rank}; the first document has rank 1")
        self.source, self.keep, self.retriever, self.rank, self.evaluation = source, keep, retriever, rank, evaluation

    def lists(self) -> Lists:
        """The lists that are left, in their order. Raises ValueError where none is, with what dropped how many."""
        lists = self.source.lists()
        sieve, texts = Sieve(len(lists)), lists.queries.texts
        sieve.keep(f"shorter than {self.keep.min_words} words", long_enough(sieve.of(texts), self.keep.min_words))
        pairs = [(text, rows.tobytes()) for text, rows in zip(texts, self._rows(lists), strict=True)]
        sieve.keep("twice for the same passages", once(sieve.of(pairs)))
        free = self._apart(lists, sieve)
        if self.retriever is not None and self.rank is not None:
            ranks = _ranks(lists.take(sieve.places), self.retriever, self.rank)
            sieve.keep(f"not among the first {self.rank}", found_within(ranks, self.rank))
        if self.keep.scored:
            sieve.keep(*self.keep.by_score(_scores(lists.take(sieve.places))))
            lists = replace(lists, targets=None)
        places = sieve.finish()
        left = lists.take(places).where(free[np.isin(lists.query, places)], "passages that the evaluation judges")
        return left.counting({f"queries {what}": count for what, count in sieve.dropped.items()})

    def _apart(self, lists: Lists, sieve: Sieve) -> np.ndarray:
        """bool [listed], what the evaluation does not judge; its queries and those of a passage that it judges go."""
        if self.evaluation is None:
            return np.ones(len(lists.rows), bool)
        collection = self.evaluation.open()
        others = [text for split in collection.splits() for text in collection.queries(split).texts]
        sieve.keep(f"a query of {collection.name}", unlike(sieve.of(lists.queries.texts), others))
        free = unjudged(lists.passages, lists.rows, collection)
        lost = np.isin(sieve.places, lists.query[~free & (lists.labels > 0)])
        sieve.keep(f"with a relevant passage that {collection.name} judges", ~lost)
        return free

    def _rows(self, lists: Lists) -> list[np.ndarray]:
        return np.split(lists.rows, lists.offsets[1:-1])


def _ranks(lists: Lists, retriever: Retriever, depth: int) -> np.ndarray:
    """int64 [queries], of the first relevant passage; 0 where none is among the first `depth`."""
    corpus = lists.passages
    if not isinstance(corpus, Corpus):
        raise ValueError("a retriever searches one corpus, and these lists are over several: filter each source alone")
    if not len(lists):
        return np.zeros(0, np.int64)
    found = retrieved(retriever, corpus, lists.queries, depth).rows
    hit = np.zeros(found.shape, bool)
    for query, row in zip(lists.query[lists.labels > 0], lists.rows[lists.labels > 0], strict=True):
        hit[query] |= found[query] == row
    return np.where(hit.any(1), hit.argmax(1) + 1, 0)


def _scores(lists: Lists) -> np.ndarray:
    """float64 [queries], the highest target of a relevant passage. Raises ValueError where there are no targets."""
    if lists.targets is None:
        raise ValueError("keep goes by scores, and the source has none: put it into a source of type scored")
    scores = np.full(len(lists), -np.inf)
    np.maximum.at(scores, lists.query[lists.labels > 0], lists.targets[lists.labels > 0])
    return scores
