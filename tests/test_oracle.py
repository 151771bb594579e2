"""The oracle source: judged documents by grade, and that it says what it is."""

from __future__ import annotations

import logging

import pytest

from prf.rm3 import RM3
from retrieval.corpus import Corpus, Document
from retrieval.protocols import FeedbackSource, Retriever
from retrieval.registry import find
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.oracle import Oracle
from retrieval.types import Queries
from tests.tables import Table, lists

QRELS = """\
p 0 a 1
p 0 b 3
p 0 c 0
p 0 gone 2
p 0 d 1
q 0 c 0
"""
QUERIES = Queries(["p", "q", "unjudged"], ["otter", "comet", "violin"])


@pytest.fixture
def corpus(tmp_path):
    documents = [Document(name, "", f"{name} otter {name * 3}") for name in "abcd"]
    return Corpus.build(documents, tmp_path / "corpus")


@pytest.fixture
def qrels(tmp_path):
    path = tmp_path / "judged.qrels"
    path.write_text(QRELS)
    return path


def opened(retriever, corpus, folder):
    retriever.open(corpus, folder)
    return retriever


def test_recipes_find_it_by_its_file():
    assert find(Retriever, "oracle") is Oracle and find(FeedbackSource, "oracle") is Oracle


def test_relevant_documents_come_by_grade_then_by_id_and_the_name_says_oracle(corpus, qrels, tmp_path, caplog):
    source = opened(Oracle(qrels, Table({})), corpus, tmp_path)
    with caplog.at_level(logging.WARNING):
        run = source.retrieve(QUERIES, 10)
    assert run.to_dict() == {"p": {"b": 3.0, "d": 1.0, "a": 1.0}, "q": {}, "unjudged": {}}
    assert run.name == "oracle" and "2 of 3 queries have no relevant document" in caplog.text
    assert lists(source.retrieve(QUERIES, 1))["p"] == ["b"]


def test_the_lowest_grade_that_is_relevant_may_be_chosen(corpus, qrels, tmp_path):
    assert lists(opened(Oracle(qrels, Table({}), least=2), corpus, tmp_path).retrieve(QUERIES, 10))["p"] == ["b"]


def test_its_provenance_names_it_and_the_judgements_and_counts_what_is_missing(corpus, qrels, tmp_path):
    source = opened(Oracle(qrels, Table({})), corpus, tmp_path)
    source.retrieve(QUERIES, 10)
    about = source.provenance()
    assert about["oracle"]["path"] == str(qrels) and len(about["oracle"]["sha256"]) == 64
    assert about["judged documents not in the corpus"] == 1
    assert about["queries without relevant documents"] == 2


def test_judgements_are_found_below_the_data_folder(corpus, qrels, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    assert lists(opened(Oracle(qrels.name, Table({})), corpus, tmp_path).retrieve(QUERIES, 1))["p"] == ["b"]


def test_judgements_that_are_not_there_are_an_error_that_says_where_they_were_looked_for(corpus, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no judgements: .*none.qrels is no file, nor is it below RETRIEVAL_DA"
    ):
        Oracle(tmp_path / "none.qrels", Table({})).open(corpus, tmp_path)


def test_it_feeds_a_feedback_model_whose_run_is_marked(corpus, qrels, tmp_path):
    retriever = opened(FeedbackRetriever(Oracle(qrels, BM25()), RM3(max_df=None), BM25()), corpus, tmp_path)
    run = retriever.retrieve(QUERIES.take([0]), 4)
    assert run.name.startswith("oracle+rm3") and lists(run)["p"][0] == "b"
