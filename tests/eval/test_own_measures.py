"""Measures that ir_measures lacks or stops at, by worked values and by their definitions."""

from __future__ import annotations

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import evaluate
from eval.measures import parse
from retrieval.ids import encode_id
from retrieval.types import Qrels
from tests.judging import UNHURRIED, by_query, judged_runs, run_of


def ranked(*docs):
    """Document -> score, best first."""
    return {doc: -rank for rank, doc in enumerate(docs)}


def value(run, judged, *measures):
    """The one query's values."""
    found = evaluate(run_of({"q": run}), Qrels.from_dict({"q": judged}), measures).values
    return [float(values[0]) for values in found.values()]


def test_sufficiency_is_whether_all_that_is_needed_is_among_the_first_k():
    run = run_of({"q1": ranked("t1", "t2", "t3"), "q2": ranked("t9", "t2", "t3"), "q3": ranked("t5", "t1")})
    qrels = Qrels.from_dict({"q1": {"t1": 1, "t3": 1}, "q2": {"t9": 1, "t8": 1}, "q3": {"t1": 1}})
    means = evaluate(run, qrels, ["Sufficiency@1", "Sufficiency@2", "Sufficiency@3", "R@2"]).mean
    assert list(means.values()) == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3])


def test_sufficiency_has_no_value_where_nothing_is_needed():
    qrels = Qrels.from_dict({"q1": {"t1": 1}, "q2": {"t9": 0}})
    with pytest.raises(ValueError, match="1 judged queries have no document of grade 1 or more"):
        evaluate(run_of({"q1": {"t1": 1}}), qrels, ["Sufficiency@2"])


def test_ap_is_over_what_can_be_found_down_to_the_cutoff():
    five = dict.fromkeys("acxyz", 1)
    assert value(ranked("a", "b", "c"), five, "CappedAP@3", "AP@3") == pytest.approx([0.5555555556, 1 / 3], abs=1e-10)


def test_recall_is_over_what_can_be_found_down_to_the_cutoff():
    five, run = dict.fromkeys("acxyz", 1), ranked("a", "b", "c")
    assert value(run, five, "CappedR@1", "CappedR@3", "CappedR@9", "R@3") == pytest.approx([1, 2 / 3, 2 / 5, 2 / 5])


def test_beir_s_name_of_capped_recall_is_known():
    assert str(parse("R_cap@100")) == "CappedR@100"
    assert str(parse("CappedR(rel=2)@100")) == "CappedR(rel=2)@100"


def test_our_measures_are_known_to_ir_measures_once_a_measure_was_parsed():
    parse("RR")
    assert str(ir_measures.parse_measure("CappedAP@50")) == "CappedAP@50"


@UNHURRIED
@given(judged_runs(), st.integers(1, 4), st.integers(1, 3))
def test_capped_measures_follow_their_definitions(example, cutoff, level):
    run, judged = example
    names = [f"CappedR(rel={level})@{cutoff}", f"CappedAP(rel={level})@{cutoff}"]
    recall, ap = by_query(evaluate(run, Qrels.from_dict(judged), names)).values()
    first = {query: list(docs)[:cutoff] for query, docs in run.to_dict().items()}
    for query, grades in judged.items():
        hits = [grades.get(doc, 0) >= level for doc in first.get(query, [])]
        possible = min(sum(grade >= level for grade in grades.values()), cutoff)
        precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
        assert recall[encode_id(query)] == (sum(hits) / possible if possible else 0)
        assert ap[encode_id(query)] == pytest.approx(sum(precisions) / possible if possible else 0, abs=1e-15)


@UNHURRIED
@given(judged_runs(), st.integers(1, 4))
def test_capped_measures_differ_from_recall_and_ap_only_where_more_is_relevant_than_the_cutoff(example, cutoff):
    run, judged = example
    names = [f"{name}@{cutoff}" for name in (*PLAIN, *CAPPED)]
    found = by_query(evaluate(run, Qrels.from_dict(judged), names))
    for query, grades in judged.items():
        relevant = sum(grade >= 1 for grade in grades.values())
        for plain, capped in zip(PLAIN, CAPPED, strict=True):
            one, other = (found[f"{name}@{cutoff}"][encode_id(query)] for name in (plain, capped))
            assert other == one if relevant <= cutoff else one <= other <= 1


PLAIN, CAPPED = ("R", "AP"), ("CappedR", "CappedAP")


def test_judged_is_the_share_of_results_that_anyone_judged():
    run, judged = ranked("a", "b", "c", "d"), {"a": 1, "c": 0, "d": -1, "z": 1}
    measures = ["Judged@1", "Judged@2", "Judged@3", "Judged@10", "Judged"]
    assert value(run, judged, *measures) == [1, 1 / 2, 2 / 3, 3 / 4, 3 / 4]


@UNHURRIED
@given(judged_runs(), st.integers(1, 4))
def test_judged_follows_its_definition(example, cutoff):
    run, judged = example
    found = by_query(evaluate(run, Qrels.from_dict(judged), [f"Judged@{cutoff}", "Judged"]))
    lists = {query: list(docs) for query, docs in run.to_dict().items()}
    for query, grades in judged.items():
        docs = lists.get(query, [])
        for name, shown in ((f"Judged@{cutoff}", docs[:cutoff]), ("Judged", docs)):
            assert found[name][encode_id(query)] == (sum(doc in grades for doc in shown) / len(shown) if shown else 0)


def test_accuracy_is_the_share_of_pairs_that_are_in_order():
    judged = {"a": 1, "c": 2, "e": 1}
    run = ranked("a", "b", "c", "d", "e")  # pairs with b, d: a before both, c before one, e before none
    assert value(run, judged, "Accuracy", "Accuracy@3", "Accuracy(rel=2)") == pytest.approx([3 / 6, 1 / 2, 1 / 2])


def test_accuracy_is_one_where_all_is_relevant_and_zero_where_nothing_is():
    assert value(ranked("a", "b"), {"a": 1, "b": 1}, "Accuracy") == [1]
    assert value(ranked("a", "b"), {"c": 1}, "Accuracy") == [0]
