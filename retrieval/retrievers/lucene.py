"""Lucene as an engine, by Anserini's classes: BM25, RM3, Rocchio, and impacts of learned sparse vectors."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from retrieval import jvm
from retrieval.corpus import Corpus, Document
from retrieval.ids import DocIds, decode_id, encode_id
from retrieval.lucene_index import find_index, index_documents, open_reader
from retrieval.order import PAD
from retrieval.types import Queries, Run

__all__ = ["Lucene"]

CONTENTS = {"text": "contents"}  # what Anserini calls its main field
PRF = {  # Pyserini's parameters and defaults
    "rm3": {"fb_terms": 10, "fb_docs": 10, "original_query_weight": 0.5, "filter_terms": True},
    "rocchio": {"top_fb_terms": 10, "top_fb_docs": 10, "alpha": 1.0, "beta": 0.75},
}
SHARD = 20_000  # documents from which another thread indexes
MOST_CLAUSES = 2**20  # terms of a query; Lucene's own limit, 1024, is too low for text that a model wrote


class Lucene:
    """BM25 as Anserini has it, with Pyserini's RM3 or Rocchio; or the dot product of integer impacts.

    Scores are Lucene's own float32, in the one order: Anserini's rounding to four places and its nudges by 1e-6, which
    put equal scores in ascending order of ids, are left out. Queries with terms are searched by these, as analysed
    terms of the index with their weights.
    """

    reads = ("terms", "texts")

    def __init__(
        self,
        k1: float = 0.9,
        b: float = 0.4,
        fields: Mapping[str, float] | None = None,
        prf: Literal["rm3", "rocchio"] | None = None,
        prf_parameters: Mapping[str, float] | None = None,
        impact: bool = False,
        index: str | Path | None = None,
        threads: int | None = None,
    ):
        """`fields` weighs title and text as fields of their own; None makes them one, Anserini's `contents`.

        `index` is a folder, or the name of one of Pyserini's prebuilt indexes; None builds one of the corpus.
        `impact` is for an index of pre-tokenised impacts (`index_impacts`): queries need terms. `threads` None: all.
        """
        if k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"BM25 needs k1 >= 0 and 0 <= b <= 1, not k1 {k1} and b {b}")
        if prf and (fields or impact):
            raise ValueError("Anserini has prf for one field of BM25: leave out fields and impact, or prf")
        if impact and not index:
            raise ValueError("impacts are searched in an index that exists: name it as `index`")
        if not index and not {*(fields or ())} <= {"title", "text"}:
            raise ValueError(f"documents have the fields title and text, not {', '.join(fields or ())}")
        self.k1, self.b, self.impact, self.index = k1, b, impact, index
        self.fields = {CONTENTS.get(name, name): float(weight) for name, weight in (fields or {}).items()}
        self.prf, self.prf_parameters = prf, _parameters(prf, prf_parameters)
        self.threads = threads or os.cpu_count() or 1

    def open(self, corpus: Corpus | None, folder: Path) -> None:
        """Build or open the index. Without a corpus, an `index` is searched as it is: runs have a table of their own.

        Raises ValueError for an index that is not there or lacks what the search needs, and ImportError without Java.
        """
        jvm.start()
        self.corpus = corpus
        with jvm.ALONE:
            self.folder = find_index(self.index) if self.index else self._built(corpus, folder / "lucene")
            self.reader = open_reader(self.folder)
            self._check()
            searcher = jvm.java_class("org.apache.lucene.search.IndexSearcher")
            searcher.setMaxClauseCount(MOST_CLAUSES)
            self.searcher = searcher(self.reader)
            self.searcher.setSimilarity(self._similarity())
            self.by_rank, self.by_id = _order(descending=True), _order(descending=False)  # ours, and Anserini's
            self.analyzer = jvm.java_class("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
            self.bag = jvm.java_class("io.anserini.search.query.BagOfWordsQueryGenerator")()

    def retrieve(self, queries: Queries, k: int) -> Run:
        """The k best documents that share a term with the query.

        Raises ValueError for documents of another corpus, and for queries with terms where there are fields.
        """
        if self.impact and queries.terms is None:
            raise ValueError("an index of impacts is searched by weighted terms, and these queries have none")
        depth = min(k, self.reader.numDocs())
        if self.fields and queries.terms is not None:
            raise ValueError("queries carry terms, which do not say of which field they are: leave out `fields`")
        terms = queries.terms or itertools.repeat(None)
        with jvm.ALONE:
            asked = [self._asked(text, weights) for text, weights in zip(queries.texts, terms, strict=False)]
            found = self._found(asked, depth)
        ids = [name for hits in found for name in hits.ids]
        docs = self.corpus.ids if self.corpus else DocIds.of(dict.fromkeys(ids))
        table = np.arange(depth) < np.array([len(hits.ids) for hits in found], int)[:, None]
        rows, scores = np.full(table.shape, PAD, np.int32), np.full(table.shape, -np.inf, np.float32)
        rows[table], scores[table] = self._rows(docs, ids), [score for hits in found for score in hits.scores]
        return Run.ordered(queries.ids, docs, rows, scores, self.prf or "lucene")

    def provenance(self) -> dict[str, Any]:
        """What the index is and how it is searched, for the manifest; of one that was never opened, how alone."""
        about: dict[str, Any] = {}
        if hasattr(self, "reader"):
            about = {"index": str(self.folder), "documents": self.reader.numDocs(), "anserini": jvm.anserini_jar().stem}
        if self.impact:
            return about | {"similarity": "impact"}
        prf = {"prf": self.prf, **self.prf_parameters} if self.prf else {}
        return about | {"k1": self.k1, "b": self.b, "fields": self.fields or None} | prf

    def _built(self, corpus: Corpus | None, folder: Path) -> Path:
        if corpus is None:
            raise ValueError("without a corpus an index is needed: name it as `index`")
        layout = [jvm.anserini_jar().stem, bool(self.fields), bool(self.prf), 1]
        digest = hashlib.sha256(json.dumps(layout).encode()).hexdigest()
        place = folder / f"{corpus.fingerprint[:16]}-{digest[:16]}"
        if not place.is_dir():
            options = ["-storeDocvectors"] if self.prf else []
            options += ["-fields", "title"] if self.fields else []
            records = (_record(document, bool(self.fields)) for document in corpus)
            index_documents(records, place, min(self.threads, 1 + len(corpus) // SHARD), *options)
        return place

    def _similarity(self) -> Any:
        if self.impact:
            return jvm.java_class("io.anserini.search.similarity.ImpactSimilarity")()
        return jvm.java_class("org.apache.lucene.search.similarities.BM25Similarity")(float(self.k1), float(self.b))

    def _check(self) -> None:
        """Whether an index that was given has what the search needs."""
        for name in self.fields if self.index else ():
            if self.reader.getDocCount(name) <= 0:
                raise ValueError(f"{self.folder} has no field {name!r}")
        if self.prf and self.index and self.reader.maxDoc() and self.reader.termVectors().get(0) is None:
            raise ValueError(f"{self.folder} keeps no document vectors, which {self.prf} needs (-storeDocvectors)")

    def _rows(self, docs: DocIds, ids: Sequence[str]) -> np.ndarray:
        rows = docs.rows(ids)
        if self.index and (rows < 0).any():  # one that this class built, or made from TREC files: ids are encoded
            rows = np.where(rows < 0, docs.rows([decode_id(name) for name in ids]), rows)
        if (rows < 0).any():
            strange = ids[int((rows < 0).argmax())]
            raise ValueError(f"{self.folder} holds {strange!r}, which {self.corpus and self.corpus.folder} does not")
        return rows

    def _asked(self, text: str, terms: Mapping[str, float] | None) -> Any:
        query = self.query(text) if terms is None else self.bag.buildQuery("contents", _floats(terms))
        return self._expanded(query, text, terms) if self.prf else query

    def _found(self, queries: Sequence[Any], k: int) -> list[Hits]:
        """In threads, which call no method but those of the one searcher: pyjnius mixes up those of other objects."""
        first = [self._hits(query, k) for query in queries[:1]]  # alone: pyjnius reads each Java class on first use
        with ThreadPoolExecutor(self.threads) as pool:
            return first + list(pool.map(lambda query: self._task(query, k), queries[1:]))

    def _task(self, query: Any, k: int) -> Hits:
        try:
            return self._hits(query, k)
        finally:
            jvm.detach()

    def _hits(self, query: Any, k: int) -> Hits:
        found = top(self.searcher, query, k, self.by_rank)
        return Hits(found.docids if self.index else [decode_id(name) for name in found.docids], found.scores)

    def query(self, text: str) -> Any:
        """Lucene's query of a text: each term once, weighted by how often it is in it."""
        if self.fields:
            return self.bag.buildQuery(_floats(self.fields), self.analyzer, text)
        return self.bag.buildQuery("contents", self.analyzer, text)

    def _expanded(self, query: Any, text: str, terms: Mapping[str, float] | None) -> Any:
        """The query that Anserini's RM3 or Rocchio makes of the first documents, in Anserini's own order of ties."""
        if terms is not None:
            raise ValueError(f"{self.prf} expands a text, and these queries carry terms")
        docs = self.prf_parameters["fb_docs" if self.prf == "rm3" else "top_fb_docs"]
        first = top(self.searcher, query, int(docs), self.by_id)
        if not len(first.docids):
            return query
        settings = jvm.java_class("io.anserini.search.SearchCollection$Args")()
        settings.hits = 1  # of the search that the reranker does itself, whose results are not used
        tokens = jvm.java_class("io.anserini.analysis.AnalyzerUtils").analyze(self.analyzer, text)
        made = jvm.java_class("io.anserini.rerank.RerankerContext")
        context = made(self.searcher, None, query, None, text, tokens, None, settings)
        self._reranker().rerank(first, context)
        return self.bag.buildQuery("contents", context.feedbackTerms)

    def _reranker(self) -> Any:
        p = self.prf_parameters
        if self.prf == "rm3":
            made = jvm.java_class("io.anserini.rerank.lib.Rm3Reranker")
            how = [int(p["fb_terms"]), int(p["fb_docs"]), float(p["original_query_weight"])]
            return made(self.analyzer, None, "contents", *how, False, bool(p["filter_terms"]))
        made = jvm.java_class("io.anserini.rerank.lib.RocchioReranker")
        how = [int(p["top_fb_terms"]), int(p["top_fb_docs"]), 0, 0, float(p["alpha"]), float(p["beta"]), 0.0]
        return made(self.analyzer, None, "contents", *how, False, False)


class Hits(NamedTuple):
    """What one query found."""

    ids: Sequence[str]
    scores: Sequence[float]


def _parameters(prf: str | None, given: Mapping[str, float] | None) -> dict[str, float]:
    known = PRF.get(prf or "", {})
    if prf and not known:
        raise ValueError(f"prf is rm3 or rocchio, not {prf!r}")
    for name in given or ():
        if name not in known:
            raise ValueError(f"{prf or 'a search without prf'} has no parameter {name!r}: {', '.join(known) or 'none'}")
    return {**known, **(given or {})}


def _record(document: Document, fields: bool) -> dict[str, str]:
    # ids in their written form: Lucene's byte order is then that of DocIds.rank
    name, title, text = encode_id(document.id), document.title, document.text
    if not fields:
        return {"id": name, "contents": f"{title} {text}".strip()}
    # Anserini leaves out a document whose contents are blank, title or not; a full stop is no term
    return {"id": name, "title": title, "contents": text if text.strip() or not title.strip() else "."}


def top(searcher: Any, query: Any, k: int, order: Any) -> Any:
    """Anserini's ScoredDocs of the k best, equal scores in this order."""
    scored = jvm.java_class("io.anserini.search.ScoredDocs")
    return scored.fromTopDocs(searcher.search(query, max(k, 1), order, True), searcher)


def _order(descending: bool) -> Any:
    """By score, then by byte order of the ids."""
    field, kind = jvm.java_class("org.apache.lucene.search.SortField"), "org.apache.lucene.search.SortField$Type"
    by_id = field("id", jvm.java_class(kind).STRING_VAL, descending)
    return jvm.java_class("org.apache.lucene.search.Sort")(field.FIELD_SCORE, by_id)


def _floats(weights: Mapping[str, float]) -> Any:
    """A Java map to floats. Raises ValueError for a weight that is negative or no number."""
    number, mapped = jvm.java_class("java.lang.Float"), jvm.java_class("java.util.HashMap")()
    for term, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"term {term!r} weighs {weight}; weights are 0 or more, and finite")
        if weight:  # a clause of weight 0 would find documents that score 0
            mapped.put(term, number(float(weight)))
    return mapped
