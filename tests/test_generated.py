"""Generated texts as feedback documents: their scores, their terms, and what is wrong with a file."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from prf.rm3 import RM3
from prf.writers.recorded import Recorded
from retrieval.composed import picking
from retrieval.corpus import Corpus, Document
from retrieval.order import top_k
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.generated import Generated
from retrieval.types import Feedback, Queries, Run, Terms, TermStatistics

TEXTS = ["otter river", "otter sea sea", "salt", "comet"]
WRITTEN = {
    "a": ["Otter otter sea unheard", "river", " \n", "salt salt"],
    "b": ["", ""],
    "unasked": ["comet"],
}
QUERIES = Queries(["a", "b", "c"], ["otter otter river", "salt", "comet"])


class LowerCase:
    """Words in lower case."""

    def contract(self):
        return {"analyzer": "lower case"}

    def analyze(self, texts):
        lists = [text.lower().split() for text in texts.to_pylist()]
        words = list(dict.fromkeys(word for one in lists for word in one))
        ids = np.array([words.index(word) for one in lists for word in one], np.int32)
        return Terms(pa.array(words, pa.large_string()), ids, np.cumsum([0, *map(len, lists)]))


class Lexical:
    """What a BM25 retriever offers, with weight x tf for a score."""

    analyzer = LowerCase()

    def open(self, corpus, folder):
        self.ids, self.bags = corpus.ids, [Counter(text.split()) for text in corpus.texts(np.arange(len(corpus)))]
        self.mean_length = sum(bag.total() for bag in self.bags) / len(self.bags)
        self.statistics = TermStatistics(
            len(self.bags),
            lambda terms: np.array([sum(term in bag for bag in self.bags) for term in terms], np.int64),
            lambda terms: np.ones(len(terms)),
        )

    def read(self, queries, run, texts):
        terms = queries.terms or [Counter(text.lower().split()) for text in queries.texts]
        counts = self.analyzer.analyze(pa.array(texts, pa.large_string())).counts
        return replace(queries, terms=terms), Feedback(run, picking(texts), counts, statistics=self.statistics)

    def retrieve(self, queries, k):
        scores = [[sum(w * bag[t] for t, w in one.items()) for bag in self.bags] for one in queries.terms]
        return Run(queries.ids, self.ids, *top_k(np.array(scores, np.float32), self.ids.rank, k, above=0), "lexical")


@pytest.fixture
def corpus(tmp_path):
    return Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(TEXTS)), tmp_path / "corpus")


@pytest.fixture
def generated(tmp_path, corpus):
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"_id": query, "texts": texts}) for query, texts in WRITTEN.items()))

    def make(**kwargs):
        source = Generated(Recorded(path), Lexical(), **({"weight_by": "bm25"} | kwargs))
        source.open(corpus, tmp_path)
        return source

    return make


def score(tf, length, df, k1=0.9, b=0.4):
    mean = (2 + 3 + 1 + 1) / 4
    return math.log(1 + (4 - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / mean))


def test_a_text_scores_what_it_would_for_the_query_each_term_once(generated):
    assert generated().retrieve(QUERIES, 5).to_dict() == {
        "a": pytest.approx({"a#0": score(2, 4, 2), "a#1": score(1, 1, 1), "a#2": 0}),
        "b": {},
        "c": {},
    }
    other = generated(k1=2.0, b=1.0).retrieve(QUERIES, 5).to_dict()
    assert other["a"]["a#0"] == pytest.approx(score(2, 4, 2, k1=2.0, b=1.0))


def test_every_text_can_count_the_same(generated):
    run = generated(weight_by="one").retrieve(QUERIES, 5)
    assert list(run.to_dict()["a"].items()) == [("a#0", 1), ("a#1", 1), ("a#2", 1)]  # as they were written
    assert run.scores.shape == (3, 3) and run.name == "recorded"


def test_only_the_best_k_are_kept(generated):
    assert list(generated().retrieve(QUERIES, 1).to_dict()["a"]) == ["a#1"]  # river is rare and the text short


def test_terms_are_the_retrievers_own_and_statistics_the_collections(generated):
    source = generated()
    run = source.retrieve(QUERIES, 5)
    queries, feedback = source.feedback(QUERIES, run)
    assert queries.terms == [{"otter": 2, "river": 1}, {"salt": 1}, {"comet": 1}]
    row = run.docs.rows(["a#0"])
    assert feedback.terms(row) == [{"otter": 2, "sea": 1, "unheard": 1}] and feedback.texts(row) == WRITTEN["a"][:1]
    assert feedback.statistics.frequencies(["otter", "unheard"]).tolist() == [2, 0]


def test_terms_that_queries_carry_are_kept(generated):
    source = generated()
    carried = Queries(["a"], ["otter"], terms=[{"salt": 2.0}])
    assert source.feedback(carried, source.retrieve(carried, 3))[0].terms == [{"salt": 2.0}]
    assert source.retrieve(carried, 3).to_dict()["a"]["a#2"] == pytest.approx(score(2, 2, 1))


def test_queries_without_texts_are_counted_and_stay_as_they_are(generated, corpus, tmp_path, caplog):
    source = generated(weight_by="one")
    searcher = Lexical()
    both = FeedbackRetriever(source, RM3(original_query_weight=0.5, max_df=None), searcher)
    both.open(corpus, tmp_path)
    with caplog.at_level(logging.WARNING):
        run = both.retrieve(QUERIES, 4)
    assert "2 of 3 queries have no text from Recorded and stay as they are" in caplog.text
    assert {query: list(found) for query, found in run.to_dict().items()} == {
        "a": ["d0", "d1", "d2"],
        "b": ["d2"],
        "c": ["d3"],
    }
    weights = {"otter": 1 / 3 + 2 / 9 / 2, "river": 1 / 6 + 1 / 6, "sea": 1 / 9 / 2, "salt": 1 / 6}
    assert run.to_dict()["a"]["d1"] == pytest.approx(weights["otter"] + 2 * weights["sea"])
    assert run.name == "recorded+rm3+lexical"


def test_counts_and_the_file_are_in_the_provenance(generated):
    source = generated()
    source.retrieve(QUERIES, 3)
    about = source.provenance()
    assert (about["empty texts"], about["queries without texts"]) == (3, 2)
    assert about["writer"]["path"] == str(source.writer.path) and len(about["writer"]["sha256"]) == 64


def test_its_own_documents_are_not_searched(generated, corpus, tmp_path):
    alone = FeedbackRetriever(generated(), RM3())
    alone.open(corpus, tmp_path)
    with pytest.raises(ValueError, match="recorded finds documents of its own"):
        alone.retrieve(QUERIES, 3)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[]", 'each line is {"_id": query id, "texts": \\[text, ...\\]}'),
        ('{"_id": "z"}', "each line is"),
        ('{"_id": 3, "texts": []}', "each line is"),
        ('{"_id": "z", "texts": "one"}', "each line is"),
        ('{"_id": "z", "texts": ["one", null]}', "each line is"),
        ('{"_id": "a", "texts": []}', "query 'a' is given twice; put all its texts in one line"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, corpus, line, problem):
    path = tmp_path / "wrong.jsonl"
    path.write_text('{"_id": "a", "texts": ["one"]}\n\n' + line)
    with pytest.raises(ValueError, match=f"wrong.jsonl:3: {problem}"):
        Recorded(path).write(QUERIES, None)


def test_a_file_without_texts_gives_every_query_none(tmp_path, corpus):
    (tmp_path / "none.jsonl").write_text("")
    source = Generated(Recorded(tmp_path / "none.jsonl"), Lexical())
    source.open(corpus, tmp_path)
    assert source.retrieve(QUERIES, 3).to_dict() == {"a": {}, "b": {}, "c": {}}


def test_a_retriever_that_analyses_nothing_and_an_unknown_weight_are_refused(tmp_path):
    with pytest.raises(ValueError, match="object cannot read written texts; bm25, sparse and dense can"):
        Generated(Recorded(tmp_path / "texts.jsonl"), object())
    with pytest.raises(ValueError, match='weight_by is "bm25" or "one", not \'two\''):
        Generated(Recorded(tmp_path / "texts.jsonl"), Lexical(), weight_by="two")
