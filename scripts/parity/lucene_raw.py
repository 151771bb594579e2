"""What Lucene itself answers, for comparisons: tokens of its analyzer, and exact results before Anserini's rounding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from retrieval import jvm
from retrieval.lucene_index import open_reader


def tokens(texts: Iterable[str], stemmer: str = "porter", stopwords: bool = True) -> list[list[str]]:
    """The terms of each text by Anserini's DefaultEnglishAnalyzer; `stemmer` is porter, krovetz or none."""
    made = jvm.java_class("io.anserini.analysis.DefaultEnglishAnalyzer")
    analyzer = made.fromArguments(stemmer, not stopwords, None)
    analyze = jvm.java_class("io.anserini.analysis.AnalyzerUtils").analyze
    return [list(analyze(analyzer, text).toArray()) for text in texts]


def search(
    index: Path, texts: Sequence[str], k: int, k1: float = 0.9, b: float = 0.4, descending: bool = False
) -> list[tuple[list[str], np.ndarray]]:
    """Ids and float32 scores of BM25 per text, as IndexSearcher returns them; equal scores by id, ascending as Anserini."""
    from retrieval.retrievers.lucene import Lucene, top

    engine = Lucene(k1, b, index=index)
    engine.open(None, index)
    order = engine.by_rank if descending else engine.by_id
    found = (top(engine.searcher, engine.query(text), k, order) for text in texts)
    return [(list(hits.docids), np.array(hits.scores, np.float32)) for hits in found]


def adjusted(scores: np.ndarray) -> np.ndarray:
    """float32 [k] as Anserini returns them: to four places, then 1e-6 less for each in a row that is within 1e-4."""
    adjusted, tied = np.array(scores, np.float32), 0
    for i, score in enumerate(adjusted.tolist()):
        adjusted[i] = np.floor(score * 1e4 + 0.5) / 1e4
        tied = tied + 1 if i and adjusted[i - 1] - adjusted[i] <= np.float32(1e-4) else 0
        adjusted[i] -= np.float32(1e-6) * np.float32(tied)
    return adjusted


def statistics(index: Path, terms: Sequence[str], field: str = "contents") -> dict[str, int | dict[str, int]]:
    """What BM25 is made of: documents with a term in the field, all tokens in it, and in how many each term is."""
    reader, term = open_reader(index), jvm.java_class("org.apache.lucene.index.Term")
    frequencies = {text: reader.docFreq(term(field, text)) for text in terms}
    return {
        "documents": reader.getDocCount(field),
        "tokens": reader.getSumTotalTermFreq(field),
        "frequencies": frequencies,
    }
