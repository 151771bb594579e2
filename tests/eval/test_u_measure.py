"""U-measure: worked values, its properties, and runs against a reader who goes through them string by string."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.u_measure import SPAN, Reader, evaluate_u, ideal_u, u_measure
from retrieval.ids import encode_id
from retrieval.types import Qrels
from tests.judging import UNHURRIED, by_query, judged_runs, run_of

LENGTHS, GAINS, SPANS = st.integers(0, 400), st.integers(0, 3), st.sampled_from([1, 150, 1000, SPAN])
STRINGS = st.lists(st.tuples(LENGTHS, GAINS), max_size=5)


def u(strings, span):
    return u_measure([length for length, _ in strings], [gain for _, gain in strings], span)


def test_two_relevant_strings_of_four():
    assert u_measure([100] * 4, [0, 1, 0, 1], span=1000) == pytest.approx(1.4, abs=1e-12)
    assert ideal_u([100, 100], [1, 1], span=1000) == pytest.approx(1.7, abs=1e-12)


def test_what_ends_at_the_span_or_later_is_worth_nothing():
    assert u_measure([500, 500, 100], [0, 3, 3], span=1000) == 0


def test_the_span_is_that_of_the_paper():
    assert u_measure([66_000, 33_000], [1, 2]) == 0.5 + 2 * 0.25


@UNHURRIED
@given(STRINGS, LENGTHS, SPANS)
def test_u_never_rises_when_something_irrelevant_is_read_first(strings, length, span):
    assert u([(length, 0), *strings], span) <= u(strings, span)


@UNHURRIED
@given(STRINGS, SPANS, st.integers(0, 5))
def test_u_never_falls_when_something_is_worth_more(strings, span, place):
    better = [(length, gain + (number == place)) for number, (length, gain) in enumerate(strings)]
    assert u(better, span) >= u(strings, span)


@UNHURRIED
@given(STRINGS, SPANS)
def test_no_order_of_all_or_some_strings_has_more_than_the_ideal(strings, span):
    orders = (order[:count] for order in permutations(strings) for count in range(len(strings) + 1))
    most = max(u(order, span) for order in orders)
    assert ideal_u(*zip(*strings, strict=True), span) == pytest.approx(most, abs=1e-12) if strings else most == 0


def test_the_ideal_leaves_out_what_would_push_more_beyond_the_span():
    # the first has the most per character, and nothing fits after it; read alone, the second is worth more
    assert ideal_u([9, 8], [10, 8], span=10) == pytest.approx(8 * 0.2)


@UNHURRIED
@given(judged_runs(), st.integers(1, 5), st.sampled_from([None, 0, 2]))
def test_a_run_is_read_from_top_to_bottom(example, length, skimmed):
    run, judged = example
    lengths = length + np.arange(len(run.docs))
    reader = Reader(lengths, skimmed, gains={1: 1, 2: 3, 3: 7, 4: 0}, span=12)
    found = by_query(evaluate_u(run, Qrels.from_dict(judged), reader))["U(L=12)"]
    texts = dict(zip(run.docs.values.to_pylist(), lengths.tolist(), strict=True))
    for query, grades in judged.items():
        end = value = 0
        for doc in run.to_dict().get(query, {}):
            gain = {1: 1, 2: 3, 3: 7}.get(grades.get(doc, 0), 0)
            end += texts[doc] if gain or skimmed is None else skimmed
            value += gain * max(0, 1 - end / 12)
        assert found[encode_id(query)] == pytest.approx(value, abs=1e-12)


def test_grades_are_gains_unless_others_are_given():
    run, qrels = run_of({"q": {"a": 2, "b": 1}}), Qrels.from_dict({"q": {"a": 2, "b": -1}, "missing": {"a": 1}})
    evaluation = evaluate_u(run, qrels, Reader(np.array([100, 100]), span=1000))
    assert evaluation.values["U(L=1000)"].tolist() == pytest.approx([2 * 0.9, 0])
    assert evaluation.mean == pytest.approx({"U(L=1000)": 0.9})
    assert evaluation.counts["missing from the run"] == 1


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (lambda: u_measure([1, 2], [1]), "2 lengths and 1 gains"),
        (lambda: u_measure([1, -2], [1, 1]), "negative or NaN"),
        (lambda: u_measure([1], [float("nan")]), "negative or NaN"),
        (lambda: u_measure([1], [1], span=0), "span 0 must be above 0"),
        (lambda: Reader(np.array([1.0, np.nan])), "a length is negative or NaN"),
        (lambda: Reader(np.array([1]), skimmed=-1), "a length is negative or NaN"),
        (lambda: Reader(np.array([1]), span=float("nan")), "span nan must be above 0"),
    ],
)
def test_lengths_gains_and_spans_that_cannot_be_are_refused(wrong, complaint):
    with pytest.raises(ValueError, match=complaint):
        wrong()


def test_lengths_of_other_documents_are_refused_with_counts():
    with pytest.raises(ValueError, match="3 lengths for the 1 documents of run 'run': give one per row"):
        evaluate_u(run_of({"q": {"a": 1}}), Qrels.from_dict({"q": {"a": 1}}), Reader(np.ones(3)))


def test_a_grade_without_a_gain_is_refused():
    with pytest.raises(ValueError, match=r"grade 2 has no gain, only \[1\] have"):
        evaluate_u(run_of({"q": {"a": 1}}), Qrels.from_dict({"q": {"a": 2}}), Reader(np.ones(1), gains={1: 1}))
