"""An oracle: the documents that were judged relevant, as a source of feedback."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.composed import content, provenance, reads
from retrieval.corpus import Corpus
from retrieval.locate import on_disk
from retrieval.order import PAD
from retrieval.protocols import Retriever
from retrieval.qrels_file import read_qrels
from retrieval.types import Feedback, Queries, Run

__all__ = ["Oracle"]

log = logging.getLogger(__name__)


class Oracle:
    """An oracle, which reads the judgements: an upper bound for feedback, never a result.

    The relevant documents of a query by falling grade, which is the score; its run's name says oracle.
    """

    def __init__(self, qrels: Path, retriever: Retriever, least: int = 1):
        """`qrels` is a file of judgements, below RETRIEVAL_DATA or at that path; `least` the lowest relevant grade.

        `retriever` shows the content of the documents.
        """
        self.qrels, self.retriever, self.least = Path(qrels), retriever, least
        self.missing = self.without = 0

    @property
    def reads(self) -> tuple[str, ...]:
        """What the retriever reads of a query."""
        return reads([self.retriever])

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Read the judgements; open the retriever. Raises FileNotFoundError that says where they were looked for."""
        self.corpus = corpus
        self.retriever.open(corpus, folder)
        place = on_disk(self.qrels.parent, self.qrels.name)
        if place is None:
            raise FileNotFoundError(
                f"no judgements: {self.qrels.absolute()} is no file, nor is it below RETRIEVAL_DATA"
            )
        self.path = place / self.qrels.name
        self.judged = read_qrels(self.path).to_dict()

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k highest judged documents of each query; one without any is warned of and finds nothing."""
        found = [self._relevant(query) for query in queries.ids]
        without = sum(not len(rows) for rows, _ in found)
        self.without += without
        if without:
            log.warning("%d of %d queries have no relevant document in %s", without, len(queries), self.path)
        rows = np.full((len(queries), max((len(rows) for rows, _ in found), default=0)), PAD, np.int32)
        scores = np.full(rows.shape, -np.inf, np.float32)
        for place, (mine, grades) in enumerate(found):
            rows[place, : len(mine)], scores[place, : len(mine)] = mine, grades
        return Run.ordered(queries.ids, self.corpus.ids, rows, scores, "oracle").top(k)

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """That of the retriever, else the texts of the corpus."""
        return content([self.retriever], self.corpus, queries, run)

    def provenance(self) -> dict[str, Any]:
        """That it is an oracle, of which judgements, and what of them is missing."""
        about = {"path": str(self.qrels)}  # where it was never opened, nobody looked for the file
        if hasattr(self, "path"):
            about = {"path": str(self.path), "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest()}
        counts = {
            "judged documents not in the corpus": self.missing,
            "queries without relevant documents": self.without,
        }
        return {"oracle": about, "least": self.least} | provenance({"retriever": self.retriever}) | counts

    def _relevant(self, query: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows int32 and grades float32 of a query's relevant documents that the corpus has."""
        grades = {doc: grade for doc, grade in self.judged.get(query, {}).items() if grade >= self.least}
        rows = self.corpus.ids.rows(list(grades))
        self.missing += int((rows < 0).sum())
        return rows[rows >= 0], np.array(list(grades.values()), np.float32)[rows >= 0]
