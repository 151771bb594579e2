"""Comparisons: one family of tests over all pairs and measures, and what makes a comparison impossible."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from eval import evaluate
from eval.changes import changes
from eval.comparison import compare, differences
from eval.measures import Evaluation
from eval.resampling import bootstrap, randomisation
from eval.significance import gaps, paired_t
from retrieval.datasets.folder import Folder
from retrieval.run_file import read_run
from retrieval.types import Qrels
from tests.reports import cell, many, texts

JUDGED = {"qa": {"da": 1, "dn": 0}, "qb": {"db": 1}, "qc": {"dc": 1}}
GOOD = {"qa": ["da", "dn"], "qb": ["db"], "qc": ["dc"]}
BAD = {"qa": ["dn", "da"], "qb": ["dn"], "qc": ["dn", "dn2", "dc"]}


def toy(lists, system, judged=JUDGED, measures=("nDCG@10", "R@1")):
    return cell(system, "toy", lists, judged, measures=list(measures))


def scored(*systems, measures=("RR", "P@1")):
    """Evaluations of given values, [queries] by measure."""
    ids = tuple(f"q{n}" for n in range(len(systems[0][0])))
    return {
        f"s{number}": Evaluation(ids, dict(zip(measures, map(np.array, values), strict=True)), {})
        for number, values in enumerate(systems)
    }


def drawn(systems, queries=30, measures=2):
    return scored(*np.random.default_rng(3).random((systems, measures, queries)))


def test_each_is_compared_with_the_baseline_on_every_measure():
    found = differences(drawn(3), "s1")
    asked = [(one.measure, one.system, one.against) for one in found]
    assert asked == [("RR", "s0", "s1"), ("RR", "s2", "s1"), ("P@1", "s0", "s1"), ("P@1", "s2", "s1")]


def test_without_a_baseline_each_is_compared_with_all_before_it():
    asked = [(one.system, one.against) for one in differences(drawn(3)) if one.measure == "RR"]
    assert asked == [("s1", "s0"), ("s2", "s0"), ("s2", "s1")]


def test_a_difference_has_the_tests_of_its_own_queries():
    systems = drawn(3)
    for one in differences(systems, resamples=500, seed=4):
        a, b = systems[one.system], systems[one.against]
        between = gaps(a, b, one.measure)[:, None]
        again = bootstrap(between, 500, 4)
        assert one.test == paired_t(a, b, one.measure)
        assert one.p == {"t": one.test.p, "randomisation": randomisation(between, 500, 4)[0], "bootstrap": again.p[0]}
        assert one.resampled == pytest.approx(tuple(again.intervals[0]), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "theirs"), [("holm", "holm"), ("bonferroni", "bonferroni"), ("benjamini-hochberg", "fdr_bh")]
)
def test_all_pairs_and_measures_are_one_family_for_each_test(name, theirs):
    found = differences(drawn(3), correction=name, resamples=200)
    for test in ("t", "randomisation", "bootstrap"):
        expected = multipletests([one.p[test] for one in found], method=theirs)[1]
        assert [one.corrected[test] for one in found] == pytest.approx(expected, abs=1e-10)


def test_the_family_is_stated():
    whole = compare([toy(GOOD, "good"), toy(BAD, "bad"), toy(GOOD, "same")], "bad")
    assert whole.family == "corrected by Holm over 4 tests (2 pairs of systems on 2 measures)"
    two = compare([toy(GOOD, "good", measures=["RR"]), toy(BAD, "bad", measures=["RR"])], correction="bonferroni")
    assert two.family == "not corrected, for it is the only test"


def test_one_query_is_no_test():
    judged = {"qa": JUDGED["qa"]}
    whole = compare([toy(BAD, "bad", judged), toy(GOOD, "good", judged)])
    for one in whole.differences:
        assert one.test.untested == "a single query" and one.resampled is None
        assert {*one.p.values(), *one.corrected.values()} == {None} and not one.significant()


def test_where_all_differences_are_zero_it_is_said_and_the_others_are_tested():
    whole = compare([toy(BAD, "bad"), toy(GOOD, "good"), toy(BAD, "as bad")], "bad", resamples=100)
    by = {(one.system, one.measure): one for one in whole.differences}
    same = by["as bad", "nDCG@10"]
    assert same.test.untested == "no query differs" and same.corrected == dict.fromkeys(same.p)
    other = by["good", "nDCG@10"]
    assert other.corrected["t"] == pytest.approx(min(1, 4 * other.p["t"]))  # the untested stay in the family


def test_fewer_than_two_runs_are_refused():
    with pytest.raises(ValueError, match="two runs at least are needed, and there is only good"):
        compare([toy(GOOD, "good")])
    with pytest.raises(ValueError, match="two runs at least are needed, and there is none"):
        compare([])


def test_an_unknown_baseline_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="baseline 'god' is none of the runs: good, bad. Did you mean good?"):
        compare([toy(GOOD, "good"), toy(BAD, "bad")], "god")


def test_an_unknown_correction_is_refused_before_any_test():
    with pytest.raises(ValueError, match="unknown correction 'hollm'; there are holm, .* Did you mean holm?"):
        compare([toy(GOOD, "good"), toy(BAD, "bad")], correction="hollm")


def test_systems_of_one_name_are_refused():
    with pytest.raises(ValueError, match="system 'good' is given twice"):
        compare([toy(GOOD, "good"), toy(BAD, "good")])


def test_other_judgements_under_the_same_queries_are_refused():
    other = toy(BAD, "bad", JUDGED | {"qc": {"dc": 2}})
    with pytest.raises(ValueError, match="bad was judged by 4 judgements, good by 4, and they differ"):
        compare([toy(GOOD, "good"), other])


def test_equal_judgements_need_not_be_one_object():
    one, other = toy(GOOD, "good"), toy(BAD, "bad")
    assert one.qrels is not other.qrels
    assert compare([one, replace(other, qrels=Qrels.from_dict(JUDGED))], resamples=9).differences


def test_runs_of_several_tasks_are_refused():
    with pytest.raises(ValueError, match="the runs are of 2 tasks, toy, other"):
        compare([toy(GOOD, "good"), replace(toy(BAD, "bad"), task="other")])


def test_a_run_for_other_queries_than_the_judged_is_refused_with_counts():
    with pytest.raises(ValueError, match=r"none of the 1 queries of run 'lost' .* among the 3 judged"):
        toy({"other": ["da"]}, "lost")


def test_plain_values_hold_what_was_found():
    whole = compare([toy(GOOD, "good"), toy(BAD, "bad")], "bad", resamples=99, seed=5)
    found = json.loads(json.dumps(whole.to_dict(), allow_nan=False))
    assert (found["baseline"], found["resamples"], found["seed"]) == ("bad", 99, 5)
    assert found["systems"]["good"] == {"mean": whole.systems["good"].mean, "depth": 2} | {
        "counts": whole.systems["good"].counts
    }
    first = found["differences"][0]
    assert (first["system"], first["against"], first["measure"]) == ("good", "bad", "nDCG@10")
    assert first["test"]["difference"] == whole.differences[0].test.difference


def test_the_queries_that_changed_most_come_first_with_both_rankings():
    shown = changes(compare([toy(BAD, "bad"), toy(GOOD, "good")], "bad", resamples=9), texts(), 2)
    assert [one.query_id for one in shown] == ["qb", "qc"]  # by 1, by 0.5; qa by 0.37
    first = shown[0]
    assert (first.query, first.system, first.against, first.measure) == ("what does qb ask", "good", "bad", "nDCG@10")
    assert (first.value, first.other) == (1, 0)
    assert [(one.document, one.grade, one.text) for one in first.top] == [("db", 1, "text of db")]
    assert [(one.document, one.grade) for one in first.other_top] == [("dn", None)]


def test_queries_that_did_not_change_are_never_shown():
    whole = compare([toy(BAD, "bad"), toy(BAD | {"qb": ["db"]}, "better")], "bad", resamples=9)
    assert [one.query_id for one in changes(whole, texts(), 5)] == ["qb"]


def test_a_query_that_a_run_lacks_has_an_empty_ranking():
    whole = compare([toy({"qa": ["da"]}, "short"), toy(GOOD, "good")], "short", resamples=9)
    assert [(one.query_id, one.other, one.other_top) for one in changes(whole, texts(), 5)] == [
        ("qb", 0, []),
        ("qc", 0, []),
    ]


def test_every_pair_shows_its_own_queries():
    cells, by = many(3, 40)
    shown = changes(compare(cells, resamples=9), by["many"], 2)
    assert [(one.system, one.against) for one in shown[::2]] == [
        ("system 1", "system 0"),
        ("system 2", "system 0"),
        ("system 2", "system 1"),
    ]
    assert len(shown) == 6 and all(len(one.top) == 5 for one in shown)


def test_bm25_and_rm3_differ_on_dl19_as_trec_eval_has_it(data):
    """The published means; the difference as scipy has it from trec_eval's own values by query."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    from scipy.stats import ttest_rel

    qrels = Folder("trec-dl-pool", qrels="qrels_full").open().qrels("dl19")
    runs = [read_run(data / "trec-dl-pool" / "runs" / f"dl19.{name}.top100.trec") for name in ("BM25", "BM25_RM3")]
    cells = [cell_of(name, one, qrels) for name, one in zip(("BM25", "BM25+RM3"), runs, strict=True)]
    (one,) = compare(cells, "BM25").differences
    official = pytrec_eval.RelevanceEvaluator(qrels.to_dict(), {"ndcg_cut_10"})
    values = [
        [found[query]["ndcg_cut_10"] for query in qrels.query_ids]
        for found in (official.evaluate(run.to_dict()) for run in runs)
    ]
    assert np.mean(values, axis=1).round(4).tolist() == [0.5058, 0.5216]
    assert one.p["t"] == pytest.approx(ttest_rel(values[1], values[0]).pvalue, abs=1e-10)
    assert all(abs(one.p["t"] - one.p[test]) < 0.02 for test in ("randomisation", "bootstrap"))


def cell_of(name, run, qrels):
    from eval.cells import Cell

    return Cell(name, "dl19", evaluate(run, qrels, ["nDCG@10"]), run, qrels)
