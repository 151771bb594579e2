"""Generated texts as feedback documents: what a language model wrote for a query instead of what a first pass found."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from retrieval.columns import lines
from retrieval.corpus import Corpus
from retrieval.ids import DocIds
from retrieval.order import PAD
from retrieval.protocols import Retriever
from retrieval.types import Feedback, Queries, Run

__all__ = ["Generated"]

log = logging.getLogger(__name__)


class Generated:
    """A feedback source over generated texts, as GRF (Mackie et al. 2023) and Jedidi and Lin (2025) use them.

    Its documents are a table of their own, `<query>#<number>`. They are analysed as those of `retriever`, whose
    collection gives the statistics, and which must be bm25 or have its analyzer, statistics and mean_length.
    """

    def __init__(
        self,
        path: Path,
        retriever: Retriever,
        weight_by: Literal["bm25", "one"] = "bm25",
        k1: float = 0.9,
        b: float = 0.4,
    ):
        """`path` is a JSONL file of {"_id": query id, "texts": [...]}.

        A text scores 1 by "one", and by "bm25" what it would score for the query, each of whose terms counts once.
        Raises ValueError for a retriever without an analyzer.
        """
        if not hasattr(retriever, "analyzer"):
            raise ValueError(f"{type(retriever).__name__} has no analyzer to read generated texts with; use bm25")
        if weight_by not in ("bm25", "one"):
            raise ValueError(f'weight_by is "bm25" or "one", not {weight_by!r}')
        self.path, self.weight_by, self.k1, self.b = Path(path), weight_by, k1, b
        self.retriever: Any = retriever
        self.empty_texts = self.queries_without_texts = 0  # the latter of all that were retrieved so far

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Read and analyse the texts; open the retriever. Raises ValueError with the line that is wrong."""
        self.retriever.open(corpus, folder)
        written = dict(read_texts(self.path))
        kept = [(query, text) for query, texts in written.items() for text in texts if text.strip()]
        self.empty_texts = sum(map(len, written.values())) - len(kept)
        self.texts = [text for _, text in kept]
        self.rows: dict[str, list[int]] = {query: [] for query in written}
        for row, (query, _) in enumerate(kept):
            self.rows[query].append(row)
        numbers = (number for rows in self.rows.values() for number in range(len(rows)))
        self.docs = DocIds.of(f"{query}#{number}" for (query, _), number in zip(kept, numbers, strict=True))
        self.analysed = self.retriever.analyzer.analyze(pa.array(self.texts, pa.large_string()))
        self.words = self.analysed.terms.to_pylist()

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best texts of each query; a query without texts is warned of and finds nothing."""
        found = [self.rows.get(query, []) for query in queries.ids]
        without = sum(not rows for rows in found)
        self.queries_without_texts += without
        if without:
            log.warning("%d of %d queries have no text in %s and stay as they are", without, len(queries), self.path)
        rows = np.full((len(queries), max(map(len, found), default=0)), PAD, np.int32)
        scores = np.full(rows.shape, -np.inf, np.float32)
        for place, (mine, weights) in enumerate(zip(found, self._weights(queries, found), strict=True)):
            rows[place, : len(mine)], scores[place, : len(mine)] = mine, weights
        return Run.ordered(queries.ids, self.docs, rows, scores, "generated").top(k)

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """The queries with their terms, and texts and terms of the run's documents; statistics are the collection's."""
        statistics = self.retriever.statistics
        return self._with_terms(queries), Feedback(run, self._texts, self._terms, statistics=statistics)

    def provenance(self) -> dict[str, Any]:
        """What the texts are, for the manifest."""
        own = {
            "generated texts": {"path": str(self.path), "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest()},
            "empty texts": self.empty_texts,
            "queries without texts": self.queries_without_texts,
        }
        return own | (self.retriever.provenance() if hasattr(self.retriever, "provenance") else {})

    def _with_terms(self, queries: Queries) -> Queries:
        if queries.terms is not None:
            return queries
        words = self.retriever.analyzer.analyze(pa.array(list(queries.texts), pa.large_string())).lists()
        return replace(queries, terms=[Counter(one) for one in words])

    def _weights(self, queries: Queries, found: Sequence[Sequence[int]]) -> Iterator[Sequence[float]]:
        """The score of each text of each query."""
        if self.weight_by == "one":
            yield from ([1.0] * len(rows) for rows in found)
            return
        terms = self._with_terms(queries).terms or []
        idf = self._idf(list(dict.fromkeys(term for one in terms for term in one)))
        for query, rows in zip(terms, found, strict=True):
            yield [self._bm25(query, counts, idf) for counts in self._terms(np.array(rows, np.int32))]

    def _idf(self, terms: Sequence[str]) -> dict[str, float]:
        df, n = self.retriever.statistics.frequencies(terms), self.retriever.statistics.documents
        return dict(zip(terms, np.log1p((n - df + 0.5) / (df + 0.5)).tolist(), strict=True))

    def _bm25(self, query: Mapping[str, float], counts: Mapping[str, float], idf: Mapping[str, float]) -> float:
        length = sum(counts.values()) / self.retriever.mean_length
        norm = self.k1 * (1 - self.b + self.b * length)
        return math.fsum(idf[term] * counts[term] / (counts[term] + norm) for term in query if term in counts)

    def _texts(self, rows: np.ndarray) -> list[str]:
        return [self.texts[row] for row in rows]

    def _terms(self, rows: np.ndarray) -> list[Mapping[str, float]]:
        offsets, ids = self.analysed.offsets, self.analysed.ids
        return [Counter(self.words[i] for i in ids[offsets[row] : offsets[row + 1]].tolist()) for row in rows]


def read_texts(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Query id and texts of each line. Raises ValueError with file and line."""
    seen = set()
    for number, line in lines(path):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: not JSON ({error})") from None
        query, texts = (record.get("_id"), record.get("texts")) if isinstance(record, dict) else (None, None)
        if not isinstance(query, str) or not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise ValueError(
                f'{path}:{number}: each line is {{"_id": query id, "texts": [text, ...]}}, all of them texts'
            )
        if query in seen:
            raise ValueError(f"{path}:{number}: query {query!r} is given twice; put all its texts in one line")
        seen.add(query)
        yield query, texts
