"""The bound of selective feedback: for each query the better of two lists, by its judgements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.composed import content, found, name, open_all, provenance, reads
from retrieval.corpus import Corpus
from retrieval.protocols import Retriever
from retrieval.qrels_measure import Judge
from retrieval.retrievers.selective import put
from retrieval.types import Feedback, Queries, Run

__all__ = ["SelectiveOracle"]


class SelectiveOracle:
    """An oracle: the list with feedback where it measures better than the plain one, which no predictor can beat.

    It looks at the judgements it is measured by: a bound, and no method.
    """

    def __init__(self, plain: Retriever, with_feedback: Retriever, qrels: Path, measure: str = "nDCG@10"):
        """`qrels` is a file of judgements, also below RETRIEVAL_DATA. Raises ValueError for an unknown measure."""
        self.plain, self.with_feedback, self.qrels, self.measure = plain, with_feedback, qrels, measure
        self.judge = Judge(qrels, measure)
        self.queries = self.applied = 0  # of all that were retrieved so far

    @property
    def reads(self) -> tuple[str, ...]:
        """What some part reads of a query."""
        return reads([self.plain, self.with_feedback])

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Open the retrievers."""
        self.corpus = corpus
        open_all([self.plain, self.with_feedback], corpus, folder)

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best by either; the measure looks at no more than these k. Equal measures leave the plain list.

        Raises ValueError where no query is judged.
        """
        self.judge.refuse_unjudged(queries.ids)
        plain, moved = (found(one, queries, k, self.corpus) for one in (self.plain, self.with_feedback))
        chosen = np.flatnonzero(self.judge.values(moved) > self.judge.values(plain))
        self.queries += len(queries)
        self.applied += len(chosen)
        named = replace(plain, name=name(self, plain, moved))
        return put(named, chosen, moved.rows[chosen], moved.scores[chosen])

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the plain retriever, else the texts of the corpus."""
        return content([self.plain], self.corpus, queries, run)

    def provenance(self) -> dict[str, Any]:
        """What the parts are, what they count, how many queries got feedback, and that this is an oracle."""
        about = provenance({"plain": self.plain, "with_feedback": self.with_feedback}) | self.judge.provenance()
        return about | {"queries asked": self.queries, "queries with feedback": self.applied}
