"""BM25 without a JVM, with Lucene's own results."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval.analyzers.english import English
from retrieval.array_files import ArrayFiles, writing
from retrieval.composed import picking
from retrieval.corpus import Corpus
from retrieval.explanation import Explanation, FieldLengths, QueryTerm, picked, postings
from retrieval.indexes.inverted import Inverted
from retrieval.protocols import Analyzer
from retrieval.similarity import BM25Weights, Variant, byte_length, length_byte
from retrieval.sparse_search import Impacts, WeightedTerms
from retrieval.text_index import WHOLE, TextIndex, count_terms
from retrieval.types import Feedback, Queries, Run, TermStatistics

__all__ = ["BM25"]

VERSION = 2  # of what is kept beside an index


class BM25:
    """BM25 (Robertson and Zaragoza 2009) over title and text as one field, or over several with weights."""

    reads = ("terms", "texts")
    nested = True

    def __init__(
        self,
        k1: float = 0.9,
        b: float = 0.4,
        variant: Variant = "lucene",
        delta: float | None = None,
        fields: dict[str, float] | None = None,
        analyzer: Analyzer | None = None,
        index: Inverted | None = None,
    ):
        """The defaults are Anserini's. `fields` weighs title and text apart, {title: 1, text: 1} is its multifield."""
        self.weights = BM25Weights(k1, b, variant, delta)
        odd = [name for name, weight in (fields or {}).items() if name not in ("title", "text") or not weight > 0]
        if odd or fields == {}:
            raise ValueError(f"fields are title and text with weights above 0, not {fields}")
        self.fields, self.analyzer, self.index = fields, analyzer or English(), index or Inverted()

    def open(self, corpus: Corpus, folder: Path) -> None:
        """Index the corpus, or open the index made before."""
        self.corpus = corpus
        self.terms = TextIndex.make(corpus, self.analyzer, folder / "terms", tuple(self.fields or (WHOLE,)))
        made_with = json.dumps([VERSION, asdict(self.weights), self.fields])
        weighed = self.terms.folder / f"impacts-{hashlib.sha256(made_with.encode()).hexdigest()[:16]}"
        if not weighed.is_dir():
            self._weigh(weighed)
        files = ArrayFiles(weighed)
        self.index = copy.copy(self.index)  # a recipe may share one between retrievers
        self.index.open(
            Impacts(
                self.terms.offsets,
                self.terms.docs,
                files["impacts"],
                files["highest"].reshape(-1, len(self.terms.offsets) - 1),
            ),
            corpus.ids.rank,
        )

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best documents that share a term with the query."""
        rows, scores = self.index.find(self._asked(queries), k)
        return Run(queries.ids, self.corpus.ids, rows, scores, "bm25")

    def feedback(self, queries: Queries, run: Run) -> tuple[Queries, Feedback]:
        """The queries as counts of terms, and a handle on texts and terms of what was found."""
        found = Feedback(run, self.corpus.texts, self.terms.document_terms, statistics=self.statistics)
        return replace(queries, terms=self._counted(queries)), found

    def read(self, queries: Queries, run: Run, texts: Sequence[str]) -> tuple[Queries, Feedback]:
        """The queries as counts of terms, and these texts and their terms as the documents of a run of their own."""
        analysed = self.analyzer.analyze(pa.array(texts, pa.large_string()))
        found = Feedback(run, picking(texts), analysed.counts, statistics=self.statistics)
        return replace(queries, terms=self._counted(queries)), found

    def explain(self, queries: Queries, rows: np.ndarray) -> Explanation:
        """What each term of the one query gives to these documents, once per field; the impacts are the index's."""
        (asked,) = self._counted(queries)
        words, terms, found = pa.array(list(asked), pa.large_string()), [], []
        for field, name in enumerate(self.terms.fields):
            numbers = self.terms.numbers(words, field)
            df = np.where(numbers < 0, 0, self.terms.document_frequencies[numbers])
            idf = self.weights.idf(df, self.terms.holding(field))
            for (term, weight), often, rare in zip(asked.items(), df.tolist(), idf.tolist(), strict=True):
                terms.append(QueryTerm(term, weight, often, rare if often else None, name if self.fields else None))
            found.append(numbers)
        places = postings(self.terms.offsets, self.terms.docs, np.concatenate(found), rows)
        counts, impacts = picked(self.terms.frequencies, places), picked(self.index.impacts.impacts, places)
        return Explanation(terms, counts, impacts, self._lengths(rows), ties=self.index.ties)

    @property
    def statistics(self) -> TermStatistics:
        """Of the terms of the collection. Raises ValueError where there are fields, which have each its own."""
        self._refuse_fields()

        def frequencies(terms: Sequence[str]) -> np.ndarray:
            numbers = self.terms.numbers(pa.array(terms, pa.large_string()))
            return np.where(numbers < 0, 0, self.terms.document_frequencies[numbers])

        def shares(terms: Sequence[str]) -> np.ndarray:
            numbers = self.terms.numbers(pa.array(terms, pa.large_string()))
            return self.terms.occurrences(numbers) / max(1, self.terms.lengths.sum(dtype=np.int64))

        documents = self.terms.holding()
        return TermStatistics(
            documents, frequencies, lambda terms: self.weights.idf(frequencies(terms), documents), shares
        )

    @property
    def mean_length(self) -> float:
        """Terms per document that has any. Raises ValueError where there are fields."""
        self._refuse_fields()
        return self.terms.mean_length()

    def contract(self) -> dict[str, Any]:
        """All that determines its results, as plain values."""
        made_with = {**asdict(self.weights), "fields": self.fields, "analyzer": dict(self.analyzer.contract())}
        return {"retriever": "bm25", **made_with, "ties": self.index.ties}

    def provenance(self) -> dict[str, Any]:
        """What the index is, for the manifest; of one that was never opened, what it would be made with."""
        made_with = {**asdict(self.weights), "fields": self.fields, **self.analyzer.contract()}
        return {"index": str(self.terms.folder), **made_with} if hasattr(self, "terms") else made_with

    def _refuse_fields(self) -> None:
        if self.fields:
            raise ValueError(
                "terms for feedback come from one field: leave out `fields` of the retriever they come from"
            )

    def _asked(self, queries: Queries) -> WeightedTerms:
        """The queries as numbers of terms in every field, their own terms where they carry some."""
        if queries.terms is not None:
            return self._weighted(queries)
        asked = self.analyzer.analyze(pa.array(queries.texts, pa.large_string()))
        counts, terms, often = count_terms(asked.ids, asked.offsets, len(asked.terms))
        numbers = np.stack([self.terms.numbers(asked.terms, field)[terms] for field in range(len(self.terms.fields))])
        return _known(counts, numbers, often)

    def _weighted(self, queries: Queries) -> WeightedTerms:
        given: Sequence[Mapping[str, float]] = queries.terms or []
        for name, terms in zip(queries.ids, given, strict=True):
            wrong = next((term for term, weight in terms.items() if not 0 <= weight < np.inf), None)
            if wrong is not None:
                raise ValueError(f"query {name!r}: the weight of {wrong!r} is {terms[wrong]}; weights are 0 or more")
        words = pa.array([term for terms in given for term in terms], pa.large_string())
        weights = np.array([weight for terms in given for weight in terms.values()], np.float64)
        numbers = np.stack([self.terms.numbers(words, field) for field in range(len(self.terms.fields))])
        return _known(np.array([len(terms) for terms in given], np.int64), numbers, weights)

    def _counted(self, queries: Queries) -> Sequence[Mapping[str, float]]:
        if queries.terms is not None:
            return queries.terms
        lists = self.analyzer.analyze(pa.array(queries.texts, pa.large_string())).lists()
        return [dict(Counter(words)) for words in lists]

    def _lengths(self, rows: np.ndarray) -> list[FieldLengths]:
        """How long these documents are, and what the formula takes them for."""
        found = []
        for field, (name, weight) in enumerate((self.fields or {WHOLE: 1.0}).items()):
            lengths = self.terms.lengths[field][rows]
            counted = byte_length(length_byte(lengths)) if self.weights.variant == "lucene" else lengths
            mean = self.terms.mean_length(field)
            found.append(FieldLengths(name if self.fields else None, weight, lengths.tolist(), counted.tolist(), mean))
        return found

    def _weigh(self, folder: Path) -> None:
        """Write the impact of every posting: this is where k1, b and the variant go in."""
        terms = self.terms
        impacts = np.zeros(len(terms.docs), np.float32)
        field_of = terms.field_of_terms()
        for field, weight in enumerate((self.fields or {WHOLE: 1.0}).values()):
            if not terms.holding(field):  # a field that is empty everywhere, such as titles that are not given
                continue
            idf = weight * self.weights.idf(terms.document_frequencies, terms.holding(field))
            mean = terms.mean_length(field)
            found = self.weights.impacts(
                *(terms.offsets, terms.docs, terms.frequencies, terms.lengths[field], mean),
                np.where(field_of == field, idf, 0),
            )
            impacts = found if len(terms.fields) == 1 else impacts + found
        with writing(folder) as part:
            part.write("impacts", impacts)
            part.write("highest", Impacts.of(terms.offsets, terms.docs, impacts).highest.ravel())
            part.finish({"weights": asdict(self.weights), "fields": self.fields})


def _known(counts: np.ndarray, numbers: np.ndarray, weights: np.ndarray) -> WeightedTerms:
    """Those terms that some document holds; `numbers` int32 [fields, terms], queries one after another."""
    query = np.broadcast_to(np.repeat(np.arange(len(counts)), counts), numbers.shape)
    heavy = np.broadcast_to(np.asarray(weights, np.float64), numbers.shape)
    kept = (numbers >= 0) & (heavy != 0)
    order = np.argsort(query[kept], kind="stable") if len(numbers) > 1 else slice(None)
    bounds = np.concatenate([[0], np.cumsum(np.bincount(query[kept], minlength=len(counts)))])
    return WeightedTerms(bounds, numbers[kept][order], heavy[kept][order])
