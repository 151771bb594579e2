"""The BM25 baseline against the formula, and what it does with odd input."""

from __future__ import annotations

import math

import numpy as np
import pytest

from retrieval.corpus import Corpus, Document
from retrieval.datasets.folder import Folder
from retrieval.retrievers.bm25 import BM25
from retrieval.types import Queries

TEXTS = ["otter otter river", "river bank's music", "comet", "the of and", "otter bank"]


@pytest.fixture
def bm25(tmp_path):
    corpus = Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(TEXTS)), tmp_path / "corpus")
    retriever = BM25(k1=0.9, b=0.4)
    retriever.open(corpus, tmp_path / "cache")
    return retriever


def score(tf, length, df, mean=(3 + 3 + 1 + 0 + 2) / 5, n=5, k1=0.9, b=0.4):
    idf = math.log(1 + (n - df + 0.5) / (df + 0.5))
    return idf * tf / (tf + k1 * (1 - b + b * length / mean))


def test_scores_are_the_formulas(bm25):
    run = bm25.retrieve(Queries(["q"], ["The Otters near a river"]), k=10)
    expected = {0: score(2, 3, 2) + score(1, 3, 2), 1: score(1, 3, 2), 4: score(1, 2, 2)}
    found = {int(row): float(s) for row, s in zip(run.rows[0], run.scores[0], strict=True) if row >= 0}
    assert found == pytest.approx(expected, rel=1e-6)
    assert run.rows[0, :3].tolist() == sorted(expected, key=expected.get, reverse=True)


def test_a_query_without_a_known_word_finds_nothing_and_stays_in_the_run(bm25):
    run = bm25.retrieve(Queries(["stop", "unknown", "empty"], ["the of", "zyzzyva", ""]), k=3)
    assert (run.rows == -1).all() and list(run.query_ids) == ["stop", "unknown", "empty"]


def test_the_possessive_is_the_word_itself(bm25):
    run = bm25.retrieve(Queries(["q"], ["banks"]), k=5)
    assert set(run.rows[0][run.rows[0] >= 0]) == {1, 4}


def test_an_index_is_made_once_and_gives_the_same(bm25, tmp_path, monkeypatch):
    again = BM25(k1=0.9, b=0.4)
    monkeypatch.setattr(bm25.corpus, "texts", None)  # no document is read again
    again.open(bm25.corpus, tmp_path / "cache")
    queries = Queries(["q"], ["otter bank"])
    np.testing.assert_array_equal(again.retrieve(queries, 5).scores, bm25.retrieve(queries, 5).scores)


def test_a_corpus_without_words_is_refused(tmp_path):
    corpus = Corpus.build([Document("d", "", "the of")], tmp_path / "corpus")
    with pytest.raises(ValueError, match="no document of .* has a word that BM25 could index"):
        BM25().open(corpus, tmp_path / "cache")


def test_parameters_out_of_range_are_refused():
    with pytest.raises(ValueError, match="BM25 needs k1 >= 0 and 0 <= b <= 1, not k1 0.9 and b 4"):
        BM25(b=4)


def test_limit_small_gives_the_published_recall(data):
    from eval import evaluate

    collection = Folder(str(data / "limit-small")).open()
    retriever = BM25()
    retriever.open(collection.corpus, collection.corpus.folder.parent)
    found = retriever.retrieve(collection.queries("test"), 100)
    assert evaluate(found, collection.qrels("test"), ["R@2"]).mean["R@2"] == pytest.approx(0.978, abs=0.01)


def test_no_queries_give_an_empty_run(bm25):
    assert bm25.retrieve(Queries([], []), k=3).rows.shape == (0, 3)
