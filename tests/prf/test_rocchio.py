"""Rocchio over terms against worked values, and what must hold for any feedback."""

from __future__ import annotations

import logging
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prf.rocchio import Rocchio
from tests.prf.toy import D1, D2, D3, feedback, queries, ranking

QUERY = queries("apple banana")
TOY = feedback([D1, D2], [(0, 2.0), (1, 1.0)])
TEXTS = st.lists(st.sampled_from("aa bb cc dd ee ff gg".split()), min_size=1, max_size=8).map(" ".join)


def moved(model, asked=QUERY, found=TOY):
    return model.reformulate(asked, found).terms


@pytest.mark.parametrize(
    ("fb_terms", "expected"),
    [
        (2, {"banana": 1.272965, "apple": 1.199352}),
        (3, {"banana": 1.201205, "apple": 1.136927, "cherry": 0.365543}),
    ],
)
def test_the_worked_example_comes_out(fb_terms, expected):
    assert moved(Rocchio(fb_terms=fb_terms)) == [pytest.approx(expected, abs=1e-6)]


def test_the_mean_of_the_worked_example_comes_out():
    mean = {"apple": 0.471385, "banana": 0.541879, "cherry": 0.400892, "date": 0.204124}
    length = math.sqrt(sum(weight**2 for weight in mean.values()))
    assert moved(Rocchio(alpha=0, beta=length)) == [pytest.approx(mean, abs=1e-6)]


def test_the_last_documents_of_the_first_pass_move_the_query_away():
    deep = feedback([D1, D2, D3], [(0, 2.0), (1, 1.0), (2, 0.5)])
    away = Rocchio(fb_terms=3, fb_docs=2, use_negative=True, bottom_fb_docs=1)
    expected = {"banana": 1.201205, "apple": 1.050325, "cherry": 0.365543}  # fig and grape would be negative
    assert moved(away, found=deep) == [pytest.approx(expected, abs=1e-6)]
    unused = Rocchio(fb_terms=3, fb_docs=2, gamma=0.9, bottom_fb_docs=1)
    assert moved(unused, found=deep) == moved(Rocchio(fb_terms=3))


def test_the_last_documents_are_counted_from_the_end_of_each_list():
    lists = feedback([D1, D2, D3], [(0, 3.0), (1, 2.0), (2, 1.0)], [(2, 3.0), (1, 2.0)])
    model = Rocchio(alpha=0, beta=10, gamma=1, fb_terms=10, fb_docs=1, use_negative=True, bottom_fb_docs=1)
    first, second = moved(model, queries("apple", "apple"), lists)
    assert first["apple"] == pytest.approx(10 * 2 / math.sqrt(14) - 1 / math.sqrt(3))  # D1 less D3
    assert second["apple"] == pytest.approx(10 / math.sqrt(3) - 1 / math.sqrt(6))  # D3 less D2


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=5))
def test_without_feedback_weights_the_first_ranking_is_reproduced(query, texts):
    found = feedback(texts, [(i, 1.0) for i in range(len(texts))])
    (terms,) = moved(Rocchio(beta=0), queries(query), found)
    bags = [Counter(text.split()) for text in texts]
    assert ranking(bags, terms) == ranking(bags, Counter(query.split()))
    assert set(terms) == set(query.split())


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=5), st.floats(0, 2), st.floats(0, 2), st.floats(0, 2))
def test_all_weights_are_positive_and_scores_do_not_count(query, texts, alpha, beta, gamma):
    model = Rocchio(3, 2, alpha, beta, gamma, use_negative=True, bottom_fb_docs=2)
    one = moved(model, queries(query), feedback(texts, [(i, 1.0) for i in range(len(texts))]))
    other = moved(model, queries(query), feedback(texts, [(i, 99.0) for i in range(len(texts))]))
    assert one == other and one[0] and min(one[0].values()) > 0


def test_a_query_that_nothing_is_left_of_stays_as_it_is():
    nothing = feedback([D1], [])
    assert moved(Rocchio(alpha=0), found=nothing) == [pytest.approx({"apple": 0.5**0.5, "banana": 0.5**0.5})]
    assert moved(Rocchio(), found=nothing) == [pytest.approx({"apple": 0.5**0.5, "banana": 0.5**0.5})]


def test_terms_that_are_no_words_may_expand_but_odd_lengths_and_frequent_terms_do_not():
    found = feedback(["x caf\u00e9 common rare"], [(0, 1.0)], df={"common": 101, "rare": 100})
    assert set(moved(Rocchio(alpha=0), found=found)[0]) == {"caf\u00e9", "rare"}
    assert set(moved(Rocchio(alpha=0, max_df=None), found=found)[0]) == {"caf\u00e9", "rare", "common"}


def test_a_filter_that_removes_every_term_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        moved(Rocchio(), found=feedback([D1, D2], [(0, 2.0)], documents=5))
    assert "1 of 1 queries are not expanded: max_df 0.1 removes every term" in caplog.text


def test_only_the_first_documents_count_and_fewer_are_enough():
    deep = feedback([D1, D2, "fig fig"], [(0, 2.0), (1, 1.0), (2, 0.5)])
    assert moved(Rocchio(fb_docs=2), found=deep) == moved(Rocchio())
    assert moved(Rocchio(fb_docs=100)) == moved(Rocchio())


@pytest.mark.parametrize("wrong", [{"fb_terms": 0}, {"bottom_fb_docs": 0}, {"gamma": -0.1}, {"max_df": 1.5}])
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Rocchio(**wrong)
