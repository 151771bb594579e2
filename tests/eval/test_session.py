"""NUM of sessions: worked values, the paper's two assumptions, and what holds for every session."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eval.session import Read, evaluate_sessions, num, with_hindsight
from eval.u_measure import Reader
from retrieval.types import Qrels
from tests.judging import UNHURRIED, run_of

READS = st.builds(Read, st.sampled_from("abcd"), st.integers(0, 400), st.integers(0, 3))
SESSIONS = st.lists(st.lists(READS, max_size=4), max_size=3)
SPANS = st.sampled_from([150, 1000, 132_000])


def reads(gains, length=100, start=0):
    """Strings of documents of their own."""
    return [Read(str(start + number), length, gain) for number, gain in enumerate(gains)]


def test_two_relevant_strings_of_four():
    assert num([reads([0, 1, 0, 1])], span=1000) == pytest.approx(0.8235294, abs=1e-7)


def test_queries_of_a_session_are_read_on_one_trail():
    assert num([reads([0, 1]), reads([0, 1], start=2)], span=1000) == pytest.approx(1.4 / 1.7)


def test_a_reformulation_costs_what_could_have_been_read():
    session = [reads([0, 1]), reads([0, 1], start=2)]
    assert num(session, span=1000, reformulation=100) == pytest.approx((0.8 + 0.5) / 1.7)


def test_relevant_documents_that_were_never_shown_belong_to_the_ideal():
    missed = [Read("x", 100, 1), Read("1", 100, 1)]  # the second was read
    assert num([reads([0, 1])], span=1000, missed=missed) == pytest.approx(0.8 / (0.9 + 0.8))


def test_a_document_gains_once():
    again = [Read("a", 100, 1), Read("a", 100, 1)]
    assert num([again], span=1000) == 1


def test_a_document_clicked_later_counts_where_it_was_skipped_first():
    session = [[Read("a", 100, 0), Read("b", 100, 0)], [Read("a", 100, 1)]]
    assert num(session, span=1000) == pytest.approx(0.7 / 0.9)
    assert num(with_hindsight(session), span=1000) == 1
    assert with_hindsight(session) == [[Read("a", 100, 1), Read("b", 100, 0)], [Read("a", 100, 0)]]


def test_a_session_without_anything_relevant_has_zero():
    assert num([reads([0, 0])]) == num([]) == num([[]]) == 0


@UNHURRIED
@given(SESSIONS, SPANS, st.integers(0, 300), st.lists(READS, max_size=2))
def test_num_lies_between_zero_and_one(session, span, reformulation, missed):
    assert 0 <= num(session, span, reformulation, missed) <= 1 + 1e-12


@UNHURRIED
@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_of_strings_of_equal_length_num_is_one_only_where_all_that_is_relevant_comes_first(relevant):
    assume(any(relevant))
    first = sorted(relevant, reverse=True) == relevant
    assert (num([reads(map(int, relevant))], span=1000) == pytest.approx(1, abs=1e-12)) == first


@UNHURRIED
@given(SESSIONS, st.integers(0, 400), SPANS)
def test_num_never_rises_when_something_irrelevant_is_read_first(session, length, span):
    assert num([[Read("z", length, 0)], *session], span) <= num(session, span) + 1e-12


@UNHURRIED
@given(SESSIONS, SPANS)
def test_hindsight_keeps_every_string_and_the_most_that_each_document_gains(session, span):
    seen = with_hindsight(session)
    assert [[(read.document, read.length) for read in query] for query in seen] == [
        [(read.document, read.length) for read in query] for query in session
    ]
    gains = [(read.document, read.gain) for query in session for read in query]
    most = {doc: max(gain for other, gain in gains if other == doc) for doc, _ in gains}
    assert sorted((read.document, read.gain) for query in seen for read in query if read.gain) == sorted(
        (doc, gain) for doc, gain in most.items() if gain
    )


def test_a_run_is_read_session_by_session():
    run = run_of({"q1": {"a": 3, "b": 2}, "q2": {"b": 2, "c": 1}, "q3": {"d": 1}}, docs=list("abcde"))
    qrels = Qrels.from_dict({"q1": {"b": 1}, "q2": {"c": 2, "b": 0, "e": 1}, "q3": {"d": 0}, "q4": {"a": 1}})
    evaluation = evaluate_sessions(
        run, qrels, {"s1": ["q1", "q2"], "s2": ["q3"], "s3": ["q4", "q1"]}, Reader(np.full(5, 100), span=1000), 50
    )
    assert evaluation.query_ids == ("s1", "s2", "s3")
    first = [[Read("a", 100, 0), Read("b", 100, 1)], [Read("b", 100, 0), Read("c", 100, 2)]]
    last = [[], [Read("a", 100, 1), Read("b", 100, 1)]]
    expected = [num(first, 1000, 50, [Read("e", 100, 1)]), 0, num(last, 1000, 50)]
    assert evaluation.values["NUM(L=1000,reformulation=50)"].tolist() == pytest.approx(expected)
    assert expected[0] == pytest.approx((0.8 + 2 * 0.55) / (2 * 0.9 + 0.8 + 0.7))
    assert evaluation.counts == {
        "sessions": 3,
        "queries": 5,
        "missing from the run": 1,
        "without relevant documents": 1,
    }


@pytest.mark.parametrize(
    ("judged", "sessions", "complaint"),
    [
        ({"q": {"a": 1}}, {"s": ["q", "qq"]}, "1 queries of the sessions, such as 'qq' of 's', are in neither"),
        ({"q": {"z": 1, "y": 0}}, {"s": ["q"]}, "1 relevant documents, such as 'z', are not in the table"),
        ({"p": {"a": 1}}, {"s": ["p"]}, "none of the 1 queries"),
    ],
)
def test_sessions_that_do_not_fit_are_refused(judged, sessions, complaint):
    with pytest.raises(ValueError, match=complaint):
        evaluate_sessions(run_of({"q": {"a": 1}}), Qrels.from_dict(judged), sessions, Reader(np.ones(1)))


def test_a_negative_cost_of_reformulating_is_refused():
    with pytest.raises(ValueError, match="reformulation -1 must be 0 or more"):
        num([reads([1])], reformulation=-1)
