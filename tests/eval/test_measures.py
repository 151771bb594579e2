"""Measures against trec_eval (pytrec_eval), query by query and to the last digit, in memory and through files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from eval import evaluate
from retrieval.ids import DocIds, encode_id
from retrieval.qrels_file import read_qrels, write_qrels
from retrieval.run_file import read_run, write_run
from retrieval.types import Qrels, Run

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are shared
# zero bytes end a C string, and Arrow takes U+FEFF at the start of a file for a mark
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1, max_size=3)
IDS = st.one_of(TEXT, st.sampled_from(["a", "b", "a b", "a%20b", "A", "é", "\U0001f600", "10", "9"]))
SCORES = st.sampled_from([-3.0, 0.0, 0.25, 0.5, 1.0000001, 1.0])  # few, so that many tie

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
GRADED = ("nDCG", "nDCG@1", "nDCG@3")  # these have no relevance level


@st.composite
def judged_runs(draw):
    """(run, qrels as dictionary): ties, lists of any length, missing queries, unknown documents, negative grades."""
    docs = draw(st.lists(IDS, min_size=1, max_size=9, unique=True))
    queries = draw(st.lists(IDS, min_size=1, max_size=4, unique=True))
    found = {query: draw(st.dictionaries(st.sampled_from(docs), SCORES)) for query in queries}
    judged = draw(
        st.dictionaries(
            st.one_of(st.sampled_from(queries), IDS),
            st.dictionaries(st.one_of(st.sampled_from(docs), IDS), st.integers(-2, 4), min_size=1),
            min_size=1,
        )
    )
    assume(set(judged) & set(queries))
    return run_of(found, docs), judged


def run_of(found, docs=None, name="run"):
    """A Run from query -> document -> score."""
    table = DocIds.of(docs or sorted({doc for scores in found.values() for doc in scores}))
    longest = max(map(len, found.values()))
    rows, scores = np.full((len(found), longest), -1, np.int32), np.zeros((len(found), longest), np.float32)
    for number, results in enumerate(found.values()):
        rows[number, : len(results)] = table.rows(list(results))
        scores[number, : len(results)] = list(results.values())
    return Run.ordered(tuple(found), table, rows, scores, name)


def trec_eval(found, judged, measures, level=1):
    """measure -> query -> value, by trec_eval's own code; a query it does not report scores 0."""
    # it crashes on a query with negative grades only, which one more document that nothing retrieves prevents
    judged = {
        query: {**grades, "nowhere": 0} if max(grades.values()) < 0 else grades for query, grades in judged.items()
    }
    evaluator = pytrec_eval.RelevanceEvaluator(judged, set(measures.values()), relevance_level=level)
    values = evaluator.evaluate({query: scores for query, scores in found.items() if scores})
    return {
        ours: {query: values.get(query, {}).get(theirs, 0.0) for query in judged} for ours, theirs in measures.items()
    }


def encoded(table):
    return {encode_id(query): {encode_id(doc): value for doc, value in row.items()} for query, row in table.items()}


def by_query(evaluation):
    return {
        measure: dict(zip(map(encode_id, evaluation.query_ids), values.tolist(), strict=True))
        for measure, values in evaluation.values.items()
    }


def parsed(path: Path, columns: tuple[int, int, int], convert: type) -> dict[str, dict[str, float]]:
    """A TREC file as the simplest tool reads it."""
    table: dict[str, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line:
            query, doc, value = (line.split()[column] for column in columns)
            table.setdefault(query, {})[doc] = convert(value)
    return table


@UNHURRIED
@given(judged_runs())
def test_every_query_scores_as_in_trec_eval(example):
    run, judged = example
    expected = trec_eval(encoded(run.to_dict()), encoded(judged), TREC)
    assert by_query(evaluate(run, Qrels.from_dict(judged), list(TREC))) == expected


@UNHURRIED
@given(judged_runs(), st.integers(1, 4))
def test_relevance_levels_are_those_of_trec_eval(example, level):
    run, judged = example
    at_level = {f"{ir_measures.parse_measure(name)(rel=level)}": TREC[name] for name in TREC if name not in GRADED}
    expected = trec_eval(encoded(run.to_dict()), encoded(judged), at_level, level)
    assert by_query(evaluate(run, Qrels.from_dict(judged), list(at_level))) == expected


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
@given(judged_runs())
def test_measures_left_to_ir_measures_follow_the_one_order_too(example):
    run, judged = example
    left = {"Rprec": "Rprec", "Bpref": "bpref", "IPrec@0.5": "iprec_at_recall_0.50", "SetP": "set_P", "infAP": "infAP"}
    expected = trec_eval(encoded(run.to_dict()), encoded(judged), left)
    found = by_query(evaluate(run, Qrels.from_dict(judged), list(left)))
    assert {name: found[str(ir_measures.parse_measure(name))] for name in left} == expected


@UNHURRIED
@given(judged_runs(), st.integers(1, 4))
def test_rr_with_a_cutoff_and_judged_follow_their_definitions(example, cutoff):
    run, judged = example
    qrels = Qrels.from_dict(judged)
    found = by_query(evaluate(run, qrels, [f"RR@{cutoff}", f"Judged@{cutoff}", "Judged"]))
    ranked = {query: list(docs) for query, docs in run.to_dict().items()}
    for query, grades in judged.items():
        docs = ranked.get(query, [])
        ranks = [rank for rank, doc in enumerate(docs[:cutoff], 1) if grades.get(doc, 0) >= 1]
        assert found[f"RR@{cutoff}"][encode_id(query)] == (1 / ranks[0] if ranks else 0)
        for name, shown in ((f"Judged@{cutoff}", docs[:cutoff]), ("Judged", docs)):
            assert found[name][encode_id(query)] == (sum(doc in grades for doc in shown) / len(shown) if shown else 0)


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


def test_importing_evaluate_loads_nothing_heavy():
    code = (
        "import sys; from eval import evaluate; print({'torch', 'scipy', 'pandas', 'ir_measures'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("system", "dl19", "dl20"),
    [("BM25", 0.5058, 0.4796), ("BM25_RM3", 0.5216, 0.4896), ("SPLADE_P_P_ENSEMBLE_DISTIL", 0.7308, 0.7197)],
)
def test_published_figures_of_trec_dl_come_out(data, system, dl19, dl20):
    for year, published in (("dl19", dl19), ("dl20", dl20)):
        run = read_run(data / "trec-dl-pool" / "runs" / f"{year}.{system}.top100.trec")
        evaluation = evaluate(run, read_qrels(data / "trec-dl-pool" / "qrels_full" / f"{year}.tsv"), ["nDCG@10"])
        assert round(evaluation.mean["nDCG@10"], 4) == published


def test_real_runs_score_on_every_query_as_in_trec_eval(data):
    folder = data / "trec-dl-pool"
    for path in sorted((folder / "runs").glob("*.trec")):
        qrels = read_qrels(folder / "qrels_full" / f"{path.name.split('.')[0]}.tsv")
        found = evaluate(read_run(path), qrels, list(TREC))
        assert by_query(found) == trec_eval(parsed(path, (0, 2, 4), float), qrels.to_dict(), TREC)


def test_sufficiency_is_whether_all_that_is_needed_is_among_the_first_k():
    found = {"q1": "t1 t2 t3 t4 t5", "q2": "t9 t2 t3 t4 t7", "q3": "t5 t1"}
    docs = DocIds.of([f"t{n}" for n in range(1, 10)])
    rows = np.full((3, 5), -1, np.int32)
    scores = np.full((3, 5), -np.inf, np.float32)
    for place, line in enumerate(found.values()):
        rows[place, : len(line.split())] = docs.rows(line.split())
        scores[place, : len(line.split())] = -np.arange(len(line.split()))
    run = Run(list(found), docs, rows, scores)
    qrels = Qrels.from_dict({"q1": {"t1": 1, "t3": 1}, "q2": {"t9": 1, "t8": 1}, "q3": {"t1": 1}})
    means = evaluate(run, qrels, ["Sufficiency@1", "Sufficiency@2", "Sufficiency@3", "Sufficiency@5", "R@2"]).mean
    assert list(means.values()) == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    with pytest.raises(ValueError, match="1 judged queries have no document of grade 1 or more"):
        evaluate(run, Qrels.from_dict({"q1": {"t1": 1}, "q2": {"t9": 0}}), ["Sufficiency@2"])
