"""RM3 against worked values, and what must hold for any feedback."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prf.rm3 import RM3
from tests.prf.toy import D1, D2, feedback, queries, ranking

QUERY = queries("apple banana")
TOY = feedback([D1, D2], [(0, 2.0), (1, 1.0)])
TEXTS = st.lists(st.sampled_from("aa bb cc dd ee ff gg".split()), min_size=1, max_size=8).map(" ".join)
SCORES = st.integers(1, 1000).map(lambda score: score / 8)  # exact in float32, also when scaled below


def expanded(model, asked=QUERY, found=TOY):
    return model.reformulate(asked, found).terms


@pytest.mark.parametrize(
    ("fb_terms", "expected"),
    [
        (2, {"apple": 0.492857, "cherry": 0.257143, "banana": 0.25}),
        (3, {"apple": 0.416667, "banana": 0.401515, "cherry": 0.181818}),
    ],
)
def test_the_worked_example_comes_out(fb_terms, expected):
    assert expanded(RM3(fb_terms=fb_terms)) == [pytest.approx(expected, abs=1e-6)]


def test_without_the_query_the_worked_feedback_is_left():
    alone = expanded(RM3(fb_terms=2, original_query_weight=0))
    assert alone == [pytest.approx({"cherry": 0.514286, "apple": 0.485714}, abs=1e-6)]


def test_the_query_counts_by_how_often_it_says_a_term():
    (found,) = expanded(RM3(fb_terms=2), queries("apple apple apple banana"))
    assert found["apple"] == pytest.approx(0.75 / 2 + 0.485714 / 2, abs=1e-6)


@given(TEXTS, st.lists(st.tuples(TEXTS, SCORES), min_size=1, max_size=5), st.floats(0, 1), st.integers(1, 4))
def test_weights_are_positive_and_sum_to_1(query, documents, weight, fb_terms):
    found = feedback([text for text, _ in documents], [(i, score) for i, (_, score) in enumerate(documents)])
    (terms,) = expanded(RM3(fb_terms, original_query_weight=weight), queries(query), found)
    assert sum(terms.values()) == pytest.approx(1) and min(terms.values()) > 0
    assert set(terms) <= set(query.split()) | {term for text, _ in documents for term in text.split()}


@given(TEXTS, st.lists(st.tuples(TEXTS, SCORES), min_size=1, max_size=5))
def test_the_weight_1_reproduces_the_first_ranking(query, documents):
    texts = [text for text, _ in documents]
    found = feedback(texts, [(i, score) for i, (_, score) in enumerate(documents)])
    (terms,) = expanded(RM3(original_query_weight=1), queries(query), found)
    bags = [Counter(text.split()) for text in texts]
    assert ranking(bags, terms) == ranking(bags, Counter(query.split()))


@given(st.lists(st.tuples(TEXTS, SCORES), min_size=1, max_size=5), st.sampled_from([0.125, 4, 1024]))
def test_scaled_scores_change_nothing(documents, factor):
    texts = [text for text, _ in documents]
    plain, scaled = ([(i, by * score) for i, (_, score) in enumerate(documents)] for by in (1, factor))
    model = RM3(fb_terms=3)
    (one,), (other,) = (expanded(model, QUERY, feedback(texts, scores)) for scores in (plain, scaled))
    assert other == pytest.approx(one, rel=1e-12)


def test_a_constant_added_to_the_scores_changes_the_weights():
    (before,) = expanded(RM3(fb_terms=3))
    (after,) = expanded(RM3(fb_terms=3), found=feedback([D1, D2], [(0, 102.0), (1, 101.0)]))
    assert after["cherry"] == pytest.approx(0.5 * 51 / (51 + 59.25 + 67.5))  # cherry, apple, banana; date is cut
    assert before["cherry"] - after["cherry"] > 0.03


def test_terms_of_odd_length_form_or_frequency_do_not_expand():
    document = f"x {'y' * 21} {'z' * 20} caf\u00e9 3d common rare"
    found = feedback([document], [(0, 1.0)], df={"common": 101, "rare": 100})
    kept = {"z" * 20, "3d", "rare"}
    assert set(expanded(RM3(original_query_weight=0), found=found)[0]) == kept
    assert set(expanded(RM3(original_query_weight=0, filter_terms=False), found=found)[0]) == kept | {"caf\u00e9"}
    assert set(expanded(RM3(original_query_weight=0, max_df=None), found=found)[0]) == kept | {"common"}


def test_the_odd_terms_of_the_query_stay():
    (found,) = expanded(RM3(fb_terms=1), queries("x caf\u00e9 common"), feedback([D1], [(0, 1.0)], df={"common": 999}))
    assert found == pytest.approx({"x": 1 / 6, "caf\u00e9": 1 / 6, "common": 1 / 6, "cherry": 0.5})


def test_a_term_that_the_collection_does_not_hold_is_no_expansion():
    found = feedback([D1], [(0, 1.0)])
    statistics = replace(found.statistics, frequencies=lambda terms: np.array([int(t != "cherry") for t in terms]))
    assert "cherry" not in expanded(RM3(), found=replace(found, statistics=statistics))[0]


def test_a_filter_that_removes_every_term_is_warned_of_once(caplog):
    asked, found = queries("apple", "banana", "date"), [[(0, 2.0)], [(1, 1.0)], []]
    with caplog.at_level(logging.WARNING):
        small = expanded(RM3(), asked, feedback([D1, D2], *found, documents=5))
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 3 queries are not expanded: max_df 0.1 removes every term of their feedback documents, "
        "as it does in small collections; raise it, or set it to None"
    ]
    assert small == [{"apple": 1.0}, {"banana": 1.0}, {"date": 1.0}]
    caplog.clear()
    assert "cherry" in expanded(RM3(max_df=None), asked, feedback([D1, D2], *found, documents=5))[0]
    assert not caplog.records


def test_documents_without_wellformed_terms_are_no_reason_for_the_warning(caplog):
    assert expanded(RM3(), found=feedback(["x \u00e9\u00e9"], [(0, 1.0)])) == [{"apple": 0.5, "banana": 0.5}]
    assert not caplog.records


def test_only_the_first_documents_count_and_fewer_are_enough():
    deep = feedback([D1, D2, "fig fig"], [(0, 2.0), (1, 1.0), (2, 0.5)])
    assert expanded(RM3(fb_terms=2, fb_docs=2), found=deep) == expanded(RM3(fb_terms=2))
    assert expanded(RM3(fb_terms=2, fb_docs=100)) == expanded(RM3(fb_terms=2))


def test_a_query_gets_the_same_terms_in_any_batch(monkeypatch):
    asked = queries("apple", "banana date", "fig", "cherry")
    lists = [[(0, 2.0), (1, 1.0)], [(1, 3.0)], [], [(1, 1.5), (0, 0.5)]]
    together = expanded(RM3(fb_terms=2), asked, feedback([D1, D2], *lists))
    monkeypatch.setattr("prf._vectors.BLOCK", 2)  # one query at a time
    assert expanded(RM3(fb_terms=2), asked, feedback([D1, D2], *lists)) == together
    monkeypatch.undo()
    reverse = feedback([D1, D2], *lists[::-1])
    turned = replace(reverse, run=replace(reverse.run, query_ids=asked.ids[::-1]))
    assert expanded(RM3(fb_terms=2), asked.take([3, 2, 1, 0]), turned) == together[::-1]


def test_documents_and_frequencies_are_fetched_once_for_a_batch():
    calls = []
    found = feedback([D1, D2], *[[(0, 2.0), (1, 1.0)]] * 50)
    counted = replace(
        found,
        terms=lambda rows: calls.append(rows.tolist()) or found.terms(rows),
        statistics=replace(
            found.statistics, frequencies=lambda t: calls.append(sorted(t)) or found.statistics.frequencies(t)
        ),
    )
    expanded(RM3(), queries(*["apple"] * 50), counted)
    assert calls == [[0, 1], ["apple", "banana", "cherry", "date"]]


def test_no_query_and_no_argument_is_changed():
    assert expanded(RM3(), QUERY.take([]), feedback([D1])) == []
    assert QUERY.terms == [{"apple": 1, "banana": 1}]


def test_what_is_missing_is_an_error_that_names_a_source():
    for asked, found in [
        (QUERY, None),
        (QUERY, replace(TOY, terms=None)),
        (QUERY, replace(TOY, statistics=None)),
        (replace(QUERY, terms=None), TOY),
    ]:
        with pytest.raises(ValueError, match="RM3 needs the terms of queries and documents; bm25 gives both"):
            RM3().reformulate(asked, found)
    with pytest.raises(ValueError, match="RM3 was given 1 queries and the feedback of others"):
        RM3().reformulate(replace(QUERY, ids=["other"]), TOY)


@pytest.mark.parametrize("wrong", [{"fb_terms": 0}, {"fb_docs": 0}, {"original_query_weight": 1.5}, {"max_df": 0}])
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RM3(**wrong)
