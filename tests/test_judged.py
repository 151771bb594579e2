"""Feedback from what a model judges relevant. The model is a rule."""

from __future__ import annotations

import re

import pytest

from prf.append import Append
from retrieval.corpus import Corpus, Document
from retrieval.protocols import FeedbackSource, Retriever
from retrieval.registry import find
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.judged import Judged, grade
from retrieval.types import Generation, Queries
from tests.prf.writers.shown import asked, broken, ruled
from tests.tables import Table, lists

GRADES = {"a": 1, "b": 3, "c": 0, "d": 3, "e": 3, "f": 2}
FOUND = {"p": {"a": 5.0, "b": 4.0, "c": 3.0, "d": 2.0, "e": 1.0}, "q": {"c": 2.0, "blank": 1.0}, "none": {}}
QUERIES = Queries(["p", "none", "q"], ["the p", "the none", "the q"])


def judge(request):
    return str(GRADES[re.search(r"Passage: this is (\w)", asked(request))[1]])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    documents = [Document(name, "", f"this is {name} indeed") for name in GRADES]
    return Corpus.build([*documents, Document("blank", "", " ")], tmp_path_factory.mktemp("judged") / "corpus")


@pytest.fixture
def opened(corpus, tmp_path):
    def opened(model, found=FOUND, **settings):
        retriever = Judged(Table(found), ruled(model), **settings)
        retriever.open(corpus, tmp_path)
        return retriever

    return opened


def test_recipes_find_it_by_its_file():
    assert find(Retriever, "judged") is Judged and find(FeedbackSource, "judged") is Judged


def test_only_the_highest_grade_of_a_query_is_left_with_its_scores_and_none_where_it_is_zero(opened):
    run = opened(judge).retrieve(QUERIES, 10)
    assert run.to_dict() == {"p": {"b": 4.0, "d": 2.0, "e": 1.0}, "none": {}, "q": {}}
    assert run.name == "table+judged"


def test_at_most_so_many_are_left_the_first_of_them(opened):
    assert lists(opened(judge, keep=2).retrieve(QUERIES, 10))["p"] == ["b", "d"]
    assert lists(opened(judge).retrieve(QUERIES, 1))["p"] == ["b"]


def test_only_the_first_documents_are_judged(opened):
    retriever = opened(judge, depth=1)
    assert lists(retriever.retrieve(QUERIES, 10)) == {"p": ["a"], "none": [], "q": []}
    assert len(retriever.generator.requests) == 2 and retriever.retriever.depths == [1]


def test_a_passage_without_text_is_not_asked_about_and_counted(opened):
    retriever = opened(judge)
    retriever.retrieve(QUERIES, 10)
    about = retriever.provenance()
    assert len(retriever.generator.requests) == 6 == about["generations"]
    assert (about["empty passages"], about["queries without relevant documents"]) == (1, 2)


def test_a_request_shows_query_and_passage_once_and_takes_the_likeliest_answer(opened):
    retriever = opened(judge, words=3)
    retriever.retrieve(QUERIES.take([0]), 10)
    first = retriever.generator.requests[0]
    assert "query: the p\n" in asked(first) and "Passage: this is a\n" in asked(first)
    assert first.sampling.temperature == 0 and retriever.provenance()["truncated passages"] == 5


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("2", 2),
        ("**3**", 3),
        ("Grade: 0", 0),
        ("Final score: 2 out of 3", 2),
        ("The passage deserves a 1.", 1),
        ("between 1 and 2", None),
        ("2.5", None),
        ("1-2", None),
        ("4", None),
        ("12", None),
        ("", None),
        ("relevant", None),
    ],
)
def test_a_grade_is_a_digit_from_0_to_3(answer, found):
    assert grade(answer) == found


@pytest.mark.parametrize("model", [broken, "", "relevant"])
def test_a_failure_raises_and_with_a_fallback_is_grade_zero(opened, model):
    with pytest.raises(ValueError, match="Rule failed .*; take another model; or fallback: zero"):
        opened(model).retrieve(QUERIES, 10)
    retriever = opened(model, fallback="zero")
    assert lists(retriever.retrieve(QUERIES, 10)) == {"p": [], "none": [], "q": []}
    assert retriever.provenance()["failed generations"] == 6


def test_one_failed_judgement_leaves_the_others(opened):
    def rule(request):
        return Generation("", failure="cut") if "this is b" in asked(request) else judge(request)

    assert lists(opened(rule, fallback="zero").retrieve(QUERIES, 10))["p"] == ["d", "e"]


def test_it_is_a_source_for_any_feedback_model(corpus, tmp_path):
    source = Judged(BM25(), ruled(judge))
    retriever = FeedbackRetriever(source, Append(), BM25())
    retriever.open(corpus, tmp_path)
    _, feedback = source.feedback(QUERIES, source.retrieve(QUERIES, 10))
    assert feedback.texts is not None and feedback.terms is not None
    run = retriever.retrieve(Queries(["x"], ["f indeed"]), 3)
    plain = BM25()
    plain.open(corpus, tmp_path)
    by_hand = plain.retrieve(Queries(["x"], ["f indeed this is b indeed this is d indeed this is e indeed"]), 3)
    assert run.to_dict() == by_hand.to_dict()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 0}, "depth, keep and words .or None. are at least 1, not 0, 8 and 300"),
        ({"keep": 0}, "not 10, 0 and 300"),
        ({"words": 0}, "not 10, 8 and 0"),
        ({"fallback": "keep"}, "fallback is \"zero\" or None, not 'keep'"),
    ],
)
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Judged(Table(FOUND), ruled(judge), **wrong)
