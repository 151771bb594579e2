"""Comparisons with Lucene, for the tests of parity and the tables of scripts/parity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from eval import evaluate
from prf.rm3 import RM3
from prf.rocchio import Rocchio
from retrieval import jvm
from retrieval.analyzers.english import English
from retrieval.collection import Collection
from retrieval.corpus import Corpus, read_jsonl
from retrieval.ids import decode_id
from retrieval.indexes.inverted import Inverted
from retrieval.order import PAD
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.lucene import Lucene, top
from retrieval.types import Qrels, Queries, Run

Ties = Literal["trec_eval", "lucene"]
Model = Literal["rm3", "rocchio"]
Scores = Mapping[int, np.float32]  # by row
TIES: tuple[Ties, Ties] = ("trec_eval", "lucene")
MODELS = {"rm3": RM3, "rocchio": Rocchio}
COLLECTIONS = ("scifact", "nfcorpus", "limit-rebuilt", "vaswani", "cranfield", "trec-dl-pool")
EQUAL = 1e-4  # nDCG@10 of two systems that count as the same


def all_queries(collection: Collection) -> Queries:
    """Every query of the file, judged or not."""
    found = {str(record["_id"]): record["text"] for _, record in read_jsonl(collection.folder / "queries.jsonl")}
    return Queries(list(found), list(found.values()))


def all_texts(collection: Collection) -> Iterator[str]:
    """Title and text of every document, then every query."""
    for titles, texts in collection.corpus.batches():
        yield from (f"{title} {text}" for title, text in zip(titles.to_pylist(), texts.to_pylist(), strict=True))
    yield from all_queries(collection).texts


# --- tokens


class Difference(NamedTuple):
    """The first token in which two analyses of a text differ."""

    text: str
    place: int
    ours: str
    lucene: str
    cause: str  # a guess


class TokenParity(NamedTuple):
    """What was compared, and each text whose tokens are not Lucene's."""

    texts: int
    tokens: int
    differing: list[Difference]


def compare_tokens(texts: Iterable[str], stemmer: Literal["porter"] | None, stopwords: bool) -> TokenParity:
    """English against Anserini's analyzer with the same stemmer, and with or without Lucene's stop words."""
    listed = list(texts)
    analyzer = English(stemmer, "lucene" if stopwords else [])
    ours = analyzer.analyze(pa.array(listed, pa.large_string()))
    words, bounds = np.array(ours.terms.to_pylist(), object), ours.offsets.tolist()
    differing = []
    for i, theirs in enumerate(lucene_tokens(listed, stemmer or "none", stopwords)):
        own = words[ours.ids[bounds[i] : bounds[i + 1]]].tolist()
        if own != theirs:
            differing.append(_first_difference(listed[i], own, theirs))
    return TokenParity(len(listed), len(ours.ids), differing)


def lucene_tokens(texts: Iterable[str], stemmer: str = "porter", stopwords: bool = True) -> Iterator[list[str]]:
    """The terms of each text by Anserini's DefaultEnglishAnalyzer; `stemmer` is porter, krovetz or none."""
    made = jvm.java_class("io.anserini.analysis.DefaultEnglishAnalyzer")
    analyzer = made.fromArguments(stemmer, not stopwords, None)
    analyze = jvm.java_class("io.anserini.analysis.AnalyzerUtils").analyze
    for text in texts:
        listed = analyze(analyzer, text).toString()[1:-1]  # one string is fetched sooner; no token holds a space
        yield listed.split(", ") if listed else []


def _first_difference(text: str, ours: list[str], theirs: list[str]) -> Difference:
    pairs = zip(ours, theirs, strict=False)
    place = next((i for i, (own, other) in enumerate(pairs) if own != other), min(len(ours), len(theirs)))
    own, other = ("".join(tokens[place : place + 1]) for tokens in (ours, theirs))
    return Difference(text, place, own, other, _cause(ours[place:], theirs[place:]))


def _cause(ours: list[str], theirs: list[str]) -> str:
    if ours[1:] == theirs[1:]:
        return "case or stem of one word"
    if ours[1:] == theirs or ours == theirs[1:]:
        return "a word that one of them drops"
    if "".join(ours) == "".join(theirs):
        return "where words break"
    return "the stem, or where words break"


# --- search


class Found(NamedTuple):
    """The list of one query."""

    rows: np.ndarray  # int32, best first
    scores: np.ndarray  # float32


class SearchParity(NamedTuple):
    """How BM25 and Lucene agree on one query."""

    results: int  # of Lucene
    documents: bool  # the same ones
    but_for_ties: bool  # the same ones, those of equal score where the list is cut aside
    difference: float  # the largest of a score
    steps: int  # the same in steps of float32
    order: bool  # the same order in the house's, documents of equal score aside
    identical: bool  # the same list with `ties: lucene`
    first: str  # what differs first in a list that is not identical


def compare_search(
    corpus: Corpus, queries: Queries, folder: Path, k: int = 1000, fields: dict[str, float] | None = None
) -> list[SearchParity]:
    """BM25, in the house order and with `ties: lucene`, against Lucene's own scores in Anserini's order of ties."""
    house, tied = (_bm25(corpus, queries, folder, k, fields, ties) for ties in TIES)
    theirs = lucene_search(corpus, queries.texts, folder, k, fields)
    return [_agreement(corpus, *lists) for lists in zip(house, tied, theirs, strict=True)]


def lucene_search(
    corpus: Corpus, texts: Sequence[str], folder: Path, k: int, fields: dict[str, float] | None = None
) -> Iterator[Found]:
    """What IndexSearcher returns per text, float32 scores as they are, equal ones by id ascending."""
    engine = Lucene(fields=fields)
    engine.open(corpus, folder)
    for text in texts:
        hits = top(engine.searcher, engine.query(text), min(k, len(corpus)), engine.by_id)
        names = [decode_id(name) for name in hits.docids]
        yield Found(corpus.ids.rows(names), np.array(hits.scores, np.float32))


def _bm25(
    corpus: Corpus, queries: Queries, folder: Path, k: int, fields: dict[str, float] | None, ties: Ties
) -> list[Found]:
    retriever = BM25(fields=fields, index=Inverted(ties=ties))
    retriever.open(corpus, folder)
    run = retriever.retrieve(queries, k)
    lists = zip(run.rows, run.scores, strict=True)
    return [Found(rows[rows != PAD], scores[rows != PAD]) for rows, scores in lists]


def _agreement(corpus: Corpus, house: Found, tied: Found, theirs: Found) -> SearchParity:
    own, other = (dict(zip(found.rows.tolist(), found.scores, strict=True)) for found in (house, theirs))
    shared = [(own[row], score) for row, score in other.items() if row in own]
    pairs = np.array(shared, np.float32).reshape(-1, 2)
    steps = np.abs(np.subtract(*pairs.view(np.int32).astype(np.int64).T)).max(initial=0)
    apart = [*(own[row] for row in own.keys() - other.keys()), *(other[row] for row in other.keys() - own.keys())]
    cut = min(other.values(), default=np.float32(0))
    sequence = [other.get(row, own[row]) for row in house.rows.tolist()]  # Lucene's scores in our order
    same = np.array_equal(tied.rows, theirs.rows)
    return SearchParity(
        len(other),
        not apart,
        len(own) == len(other) and all(score == cut for score in apart),
        float(np.abs(np.subtract(*pairs.T)).max(initial=0)),
        int(steps),
        all(before >= after for before, after in pairwise(sequence)),
        same,
        "" if same else _first_swap(corpus, own, other, tied.rows, theirs.rows),
    )


def _first_swap(corpus: Corpus, own: Scores, other: Scores, ours: np.ndarray, theirs: np.ndarray) -> str:
    """The documents at the first place where two lists differ, and how far apart each system has their scores."""
    if len(ours) != len(theirs):
        return f"{len(ours)} and {len(theirs)} results"
    place = int((ours != theirs).argmax())
    pair = [int(ours[place]), int(theirs[place])]
    distance = {
        name: abs(int(np.subtract(*np.array([scores[row] for row in pair]).view(np.int32).astype(np.int64))))
        if all(row in scores for row in pair)
        else None
        for name, scores in (("ours", own), ("Lucene", other))
    }
    names = " and ".join(corpus.ids.take(pair))
    return f"rank {place + 1}, {names}: float32 steps apart {distance}"


# --- feedback


class FeedbackParity(NamedTuple):
    """nDCG@10 of one query after feedback, and where a difference comes from."""

    query: str
    pyserini: float
    lucene_ties: float  # ours with `ties: lucene`
    house: float  # ours in the house order
    cause: str  # of the difference with `ties: lucene`, or where there is none of that in the house order


def compare_feedback(collection: Collection, split: str, model: Model, folder: Path) -> list[FeedbackParity]:
    """FeedbackRetriever over BM25 against Pyserini's own searcher, both with Pyserini's defaults, per query."""
    corpus, queries, qrels = collection.corpus, collection.queries(split), collection.qrels(split)
    searcher = _pyserini(corpus, model, folder)
    hits = searcher.batch_search(list(queries.texts), list(queries.ids), k=1000, threads=2)
    lists = [[decode_id(hit.docid) for hit in hits[query]] for query in queries.ids]
    own = {ties: _feedback(ties, model, corpus, folder) for ties in TIES}
    runs = {ties: retriever.retrieve(queries, 1000) for ties, retriever in own.items()}
    theirs, house, tied = (_ndcg(run, qrels) for run in (_run(corpus, queries.ids, lists), *runs.values()))
    found = []
    for place, query in enumerate(queries.ids):
        wrong = [ties for ties, values in zip(TIES, (house, tied), strict=True) if _apart(values[query], theirs[query])]
        cause = _why(own, wrong[-1], queries.take([place]), lists[place], searcher) if wrong else ""
        found.append(FeedbackParity(query, theirs[query], tied[query], house[query], cause))
    return found


def _apart(value: float, other: float) -> bool:
    return abs(value - other) > EQUAL


def _pyserini(corpus: Corpus, model: Model, folder: Path) -> Any:
    engine = Lucene(prf=model)  # for its index, which has document vectors
    engine.open(corpus, folder)
    searcher = jvm.pyserini_module("pyserini.search.lucene").LuceneSearcher(str(engine.folder))
    searcher.set_bm25(0.9, 0.4)
    getattr(searcher, f"set_{model}")()
    return searcher


def _feedback(ties: Ties, model: Model, corpus: Corpus, folder: Path) -> FeedbackRetriever:
    retriever = FeedbackRetriever(BM25(index=Inverted(ties=ties)), MODELS[model]())
    retriever.open(corpus, folder)
    return retriever


def _run(corpus: Corpus, ids: Sequence[str], lists: Sequence[Sequence[str]]) -> Run:
    """Lists as they stand: Pyserini's scores are rounded, so each document's is taken to be its place from the end."""
    wide = max(map(len, lists))
    rows, scores = np.full((len(ids), wide), PAD, np.int32), np.full((len(ids), wide), -np.inf, np.float32)
    for i, names in enumerate(lists):
        rows[i, : len(names)], scores[i, : len(names)] = corpus.ids.rows(names), np.arange(wide, wide - len(names), -1)
    return Run(ids, corpus.ids, rows, scores, "pyserini")


def _ndcg(run: Run, qrels: Qrels) -> dict[str, float]:
    found = evaluate(run, qrels, ["nDCG@10"])
    return dict(zip(found.query_ids, found.values["nDCG@10"].tolist(), strict=True))


def _why(
    own: Mapping[Ties, FeedbackRetriever], ties: Ties, query: Queries, theirs: Sequence[str], searcher: Any
) -> str:
    """Whether feedback documents, terms, weights or the last order make the difference; `ties` is whose it is."""
    first, same = (own[order].source.retrieve(query, 10).rows[0].tolist() for order in (ties, "lucene"))
    if {*first} != {*same}:
        return "equal scores where the first pass is cut: other feedback documents"
    (terms,) = own[ties].model.reformulate(
        *own[ties].documents.feedback(query, own[ties].source.retrieve(query, 50))
    ).terms or ({},)
    other = searcher.get_feedback_terms(query.texts[0]) or {}
    if terms.keys() != other.keys():
        return f"other terms: ours alone {sorted(terms.keys() - other.keys())}, theirs {sorted(other.keys() - terms)}"
    apart = max(abs(weight - other[term]) for term, weight in terms.items())
    if apart > EQUAL:
        return f"other weights, by up to {apart:.2g}"
    run = own[ties].retrieve(query, 1000).to_dict()[query.ids[0]]
    step = max(after - before for before, after in pairwise(run.get(name, -np.inf) for name in theirs[:10]))
    return (
        f"scores of the second pass within {step:.1g} in the first ten"
        if step > 0
        else "equal scores in the second pass"
    )
