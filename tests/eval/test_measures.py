"""Measures against trec_eval (pytrec_eval), query by query and to the last digit, in memory and through files."""

from __future__ import annotations

import subprocess
import sys

import ir_measures
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eval import evaluate
from eval.measures import parse
from retrieval.ids import DocIds, encode_id
from retrieval.qrels_file import read_qrels, write_qrels
from retrieval.run_file import read_run, write_run
from retrieval.types import Qrels, Run
from tests.judging import UNHURRIED, by_query, judged_runs, parsed, run_of, trec_eval

TREC = {
    "nDCG": "ndcg",
    "nDCG@1": "ndcg_cut_1",
    "nDCG@3": "ndcg_cut_3",
    "AP": "map",
    "AP@2": "map_cut_2",
    "RR": "recip_rank",
    "P@3": "P_3",
    "P@20": "P_20",
    "R@2": "recall_2",
    "Success@1": "success_1",
}


@UNHURRIED
@given(judged_runs())
def test_memory_files_and_trec_eval_on_the_files_agree_to_the_last_digit(tmp_path_factory, example):
    run, judged = example
    folder = tmp_path_factory.getbasetemp()
    write_run(run, folder / "run.trec")
    write_run(run, folder / "run.parquet")
    write_qrels(Qrels.from_dict(judged), folder / "qrels")
    assume((folder / "run.trec").stat().st_size)  # a file cannot say which queries found nothing
    in_memory = evaluate(run, Qrels.from_dict(judged), list(TREC))
    expected = trec_eval(parsed(folder / "run.trec", (0, 2, 4), float), parsed(folder / "qrels", (0, 2, 3), int), TREC)
    assert by_query(in_memory) == expected
    for name in ("run.trec", "run.parquet"):
        found = read_run(folder / name, run.query_ids)
        from_files = evaluate(found, read_qrels(folder / "qrels"), list(TREC))
        assert by_query(from_files) == expected
        assert (from_files.mean, from_files.counts) == (in_memory.mean, in_memory.counts)


@UNHURRIED
@given(judged_runs(), st.integers(1, 4))
def test_rr_with_a_cutoff_follows_its_definition(example, cutoff):
    run, judged = example
    found = by_query(evaluate(run, Qrels.from_dict(judged), [f"RR@{cutoff}"]))[f"RR@{cutoff}"]
    ranked = {query: list(docs) for query, docs in run.to_dict().items()}
    for query, grades in judged.items():
        ranks = [rank for rank, doc in enumerate(ranked.get(query, [])[:cutoff], 1) if grades.get(doc, 0) >= 1]
        assert found[encode_id(query)] == (1 / ranks[0] if ranks else 0)


def test_a_small_example_by_hand():
    run = run_of({"q1": {"a": 3, "b": 2, "c": 1}, "q2": {"a": 1}})
    evaluation = evaluate(
        run, Qrels.from_dict({"q1": {"b": 2, "c": 1}, "q2": {"z": 1}, "q3": {"a": 1}}), ["nDCG@2", "RR"]
    )
    assert evaluation.query_ids == ("q1", "q2", "q3")
    assert evaluation.values["nDCG@2"].tolist() == [(2 / np.log2(3)) / (2 + 1 / np.log2(3)), 0, 0]
    assert evaluation.values["RR"].tolist() == [0.5, 0, 0]
    assert list(evaluation.mean) == ["nDCG@2", "RR"] and evaluation.mean["RR"] == 0.5 / 3


def test_what_a_reader_must_know_is_counted():
    run = run_of({"q1": {"a": 3, "b": 2, "c": 1}, "q2": {}, "unjudged": {"a": 1}})
    qrels = Qrels.from_dict({"q1": {"b": 2, "c": -1}, "q2": {"a": 1}, "q3": {"a": 0}})
    assert evaluate(run, qrels, ["RR"]).counts == {
        "judged queries": 3,
        "missing from the run": 1,
        "without results": 1,
        "without relevant documents": 1,
        "unjudged in the top 10": 1 / 3,
    }


def test_a_query_judged_by_nothing_counts_as_zero():
    evaluation = evaluate(run_of({"q1": {"a": 1}, "q2": {"a": 1}}), Qrels.from_dict({"q1": {"a": 1}, "q2": {}}), ["RR"])
    assert evaluation.mean == {"RR": 0.5}


def test_a_run_that_found_nothing_at_all_scores_zero():
    nothing = Run(["q"], DocIds.of([]), np.full((1, 2), -1, np.int32), np.full((1, 2), -np.inf, np.float32))
    evaluation = evaluate(nothing, Qrels.from_dict({"q": {"a": 1}}), ["nDCG@10", "Rprec"])
    assert evaluation.mean == {"nDCG@10": 0, "Rprec": 0} and evaluation.counts["without results"] == 1


def test_measures_keep_their_order_and_take_their_canonical_names():
    measures = ["MRR@10", ir_measures.AP(rel=2) @ 5, "Rprec", "nDCG(dcg='log2')@10", "P(rel=1)@5"]
    evaluation = evaluate(run_of({"q": {"a": 1}}), Qrels.from_dict({"q": {"a": 2}}), measures)
    assert list(evaluation.values) == ["RR@10", "AP(rel=2)@5", "Rprec", "nDCG@10", "P@5"]
    assert all(values.dtype == np.float64 for values in evaluation.values.values())


def test_a_parameter_of_its_own_goes_to_ir_measures():
    run = run_of({"q": {"a": 3, "b": 2, "c": 1}})
    evaluation = evaluate(run, Qrels.from_dict({"q": {"b": 1, "c": 3}}), ["nDCG@2", "nDCG(judged_only=True)@2", "P@2"])
    assert evaluation.values["nDCG(judged_only=True)@2"] > evaluation.values["nDCG@2"]


@pytest.mark.parametrize(
    ("measure", "complaint"),
    [
        ("ndgc@10", "unknown measure 'ndgc@10'; the nearest are nDCG"),
        ("map_cut_5", "nearest are .*AP"),
        ("P", "it needs a cutoff, as in P@10"),
        ("nDCG@0", "cutoff is at least 1"),
        ("nDCG@'ten'", "invalid param cutoff='ten'"),
        ("RR(rel=0)", "rel is at least 1"),
        ("AP(level=2)", "level.*it takes cutoff, rel, judged_only"),
        ("nDCG at 10", "must be in format"),
        ("IPrec", "it needs a recall, as in IPrec@0.1"),
        ("IPrec@0.125", "recall is between 0 and 1, with two decimals"),
        ("BPM@10", r"it needs a max_rel, as in BPM\(max_rel=3\)"),
        ("ERR", "nothing computes it in this form; there is ERR@REQUIRED"),
        ("alpha_nDCG@10", "it is of subtopics, which these judgements do not have"),
        ("R_caped@10", "nearest are CappedR"),
        ("CappedAP", "it needs a cutoff, as in CappedAP@10"),
    ],
)
def test_a_measure_that_does_not_exist_is_refused(measure, complaint):
    with pytest.raises(ValueError, match=complaint):
        evaluate(run_of({"q": {"a": 1}}), Qrels.from_dict({"q": {"a": 1}}), [measure])


def test_a_run_of_other_queries_is_refused_with_examples():
    with pytest.raises(
        ValueError, match="none of the 1 queries of run 'x' .*'q1'.* among the 2 judged .*'PLAIN-1', 'b'"
    ):
        evaluate(run_of({"q1": {"a": 1}}, name="x"), Qrels.from_dict({"PLAIN-1": {"a": 1}, "b": {"a": 1}}), ["RR"])


def test_a_measure_of_a_package_that_is_not_installed_names_its_pip_line(monkeypatch):
    monkeypatch.setattr(ir_measures.cwl_eval, "_is_available", False)
    with pytest.raises(ValueError, match=r"computed by cwl_eval, which is not installed: pip install ir-measures\[cwl"):
        parse("INSQ(max_rel=3)")


def test_grades_that_gdeval_stops_at_are_refused():
    with pytest.raises(ValueError, match="ERR@3: gdeval takes grades up to 4, and there is a 5"):
        evaluate(run_of({"q": {"a": 1}}), Qrels.from_dict({"q": {"a": 5}}), ["ERR@3", "RR"])


@pytest.mark.parametrize("grade", [1, 0, -1])
def test_a_judged_document_that_is_there_twice_is_refused(grade):
    docs = DocIds.of(["a", "b"])
    scores = np.array([[3, 2, 1]], np.float32)
    run = Run(["q 1"], docs, np.array([[1, 0, 1]], np.int32), scores)
    with pytest.raises(ValueError, match="run 'run' has document 'b' 2 times for query 'q 1', and 1 such results"):
        evaluate(run, Qrels.from_dict({"q 1": {"b": grade}}), ["nDCG@10"])


def test_one_query_is_enough():
    evaluation = evaluate(run_of({"q": {"a": 2, "b": 1}}), Qrels.from_dict({"q": {"b": 3}}), ["RR", "AP@1", "Bpref"])
    assert evaluation.mean == {"RR": 0.5, "AP@1": 0, "Bpref": 1}


def test_queries_without_relevant_documents_score_zero_and_are_counted():
    run = run_of({"q1": {"a": 1}, "q2": {"a": 1}})
    measures = ["nDCG@10", "AP", "R@10", "RR", "P@1", "Rprec", "Bpref", "CappedR@10", "CappedAP@10", "Accuracy"]
    evaluation = evaluate(run, Qrels.from_dict({"q1": {"a": 1}, "q2": {"a": 0, "b": -1}}), measures)
    assert [values.tolist()[1] for values in evaluation.values.values()] == [0] * len(measures)
    assert evaluation.counts["without relevant documents"] == 1


def test_importing_evaluate_loads_nothing_heavy():
    code = (
        "import sys; from eval import evaluate; print({'torch', 'scipy', 'pandas', 'ir_measures'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_evaluating_run_files_does_not_wait_for_pandas(tmp_path):
    for name in ("run.trec", "run.parquet"):
        write_run(run_of({"q": {"a": 2, "b": 2}}), tmp_path / name)
    write_qrels(Qrels.from_dict({"q": {"b": 1}}), tmp_path / "qrels")
    code = """
import sys
from pathlib import Path
from eval import evaluate
from retrieval.qrels_file import read_qrels
from retrieval.run_file import read_run
folder = Path(sys.argv[1])
runs = [read_run(folder / name) for name in ("run.trec", "run.parquet")]
means = [evaluate(run, read_qrels(folder / "qrels"), ["nDCG@10", "AP", "RR@10", "R@5"]).mean for run in runs]
print([mean["AP"] for mean in means], "pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[1.0, 1.0] False\n"
