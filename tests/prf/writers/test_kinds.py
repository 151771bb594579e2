"""GRF and DMQR: a text of each kind."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from prf.rm3 import RM3
from prf.writers.grf import FEATURES, GRF
from prf.writers.multi_query import REWRITES, MultiQuery
from tests.prf.toy import D1, D2, feedback, queries
from tests.prf.writers.rules import ONE, QUERIES, Rule, failing, rewritten, saying


def test_ten_features_are_ten_prompts_and_ten_texts():
    model = Rule(lambda request: f"text {len(request.messages[-1]['content'])}")
    (texts,) = GRF(model).write(ONE, None)
    assert len({*model.prompts}) == len(texts) == len(FEATURES) == 10


def test_features_are_chosen_by_name():
    model = saying("x")
    assert GRF(model, features=["essay", "keywords"]).write(ONE, None) == [["x", "x"]]
    assert "essay" in model.prompts[0] and "List words" in model.prompts[1]
    with pytest.raises(ValueError, match="there is no 'essays'"):
        GRF(model, features=["essays"])


def test_the_texts_are_rm3_s_feedback_documents():
    writer = GRF(saying(D1, D2), features=["document", "essay"])
    asked = queries("apple banana")
    texts = writer.write(asked, None)
    assert texts == [[D1, D2]]
    generated = feedback(texts[0], [(0, 1.0), (1, 1.0)])
    # by hand: d1 = cherry 3/6, apple 2/6, banana 1/6; d2 = banana 2/4, apple 1/4, date 1/4; the query has half
    pooled = {"cherry": 1 / 2, "apple": 1 / 3 + 1 / 4, "banana": 1 / 6 + 1 / 2, "date": 1 / 4}
    own = Counter(apple=0.25, banana=0.25)
    expected = {term: own[term] + weight / 4 for term, weight in pooled.items()}
    assert writer.join().reformulate(asked, generated).terms == [pytest.approx(expected)]
    assert isinstance(writer.join(), RM3) and writer.join().fb_docs == 2


def test_all_ten_features_count_as_feedback():
    assert GRF(saying("x")).join().fb_docs == 10


def test_four_rewrites_are_searched_apart_in_place_of_the_query():
    answers = ["tall trees", "tall tree", "redwoods are tall", "height of trees"]
    new = rewritten(MultiQuery(saying(*answers)), ONE)
    assert new.variants == [[(answer, 1.0) for answer in answers]] and new.texts == ONE.texts
    assert len(REWRITES) == 4


def test_a_query_whose_rewrites_all_failed_is_searched_alone():
    new = rewritten(MultiQuery(failing(), fallback="keep"), ONE)
    assert new.variants == [[("tall trees", 1.0)]]


def test_a_rewrite_that_failed_leaves_the_other_three():
    (texts,) = MultiQuery(failing("keywords"), fallback="keep").write(ONE, None)
    assert texts == ["some text"] * 3


def test_texts_of_a_batch_are_those_of_each_query_alone():
    rule = Rule(lambda request: " ".join(sorted(request.messages[-1]["content"].split())))
    together = GRF(rule).write(QUERIES, None)
    assert together == [GRF(rule).write(replace(QUERIES.take([i])), None)[0] for i in range(2)]
