"""All that ir_measures has by name: on real runs as trec_eval computes it, on a small one as its own providers do."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import evaluate
from eval.measures import parse
from retrieval.qrels_file import read_qrels
from retrieval.run_file import read_run
from retrieval.types import Qrels
from tests.judging import UNHURRIED, by_query, encoded, judged_runs, parsed, run_of, trec_eval

DEPTHS = (1, 2, 3, 5, 10, 15, 20, 30, 100, 200, 500, 1000)  # small ones, and trec_eval's own
NO_LEVEL = {  # whatever grade counts as relevant
    "nDCG": "ndcg",
    **{f"nDCG@{k}": f"ndcg_cut_{k}" for k in DEPTHS},
    "NumQ": "num_q",
    "NumRet": "num_ret",
    "NumRel": "num_rel",  # pytrec_eval gives no other level
}
BY_LEVEL = {
    "AP": "map",
    "RR": "recip_rank",
    "Rprec": "Rprec",
    "Bpref": "bpref",
    "infAP": "infAP",
    "NumRet(rel=1)": "num_rel_ret",
    "SetP": "set_P",
    "SetP(relative=True)": "set_relative_P",
    "SetR": "set_recall",
    "SetF": "set_F",
    "SetAP": "set_map",
    **{f"P@{k}": f"P_{k}" for k in DEPTHS},
    **{f"AP@{k}": f"map_cut_{k}" for k in DEPTHS},
    **{f"R@{k}": f"recall_{k}" for k in DEPTHS},
    **{f"Success@{k}": f"success_{k}" for k in DEPTHS},
    **{f"IPrec@{tenth / 10}": f"iprec_at_recall_{tenth / 10:.2f}" for tenth in range(11)},
}
JUDGED_ONLY = {
    "nDCG@10",
    "AP",
    "AP@100",
    "RR",
    "P@10",
    "R@100",
    "Rprec",
    "SetP",
    "SetF",
    "SetAP",
    "Success@5",
    "IPrec@0.5",
}
OWN = {"Sufficiency", "CappedR", "CappedAP"}


def at_level(level):
    return {str(parse(name)(rel=level)): theirs for name, theirs in BY_LEVEL.items()}


def test_no_measure_of_trec_eval_that_ir_measures_knows_is_left_out():
    known = {measure.NAME for measure in ir_measures.pytrec_eval.SUPPORTED_MEASURES}
    assert {parse(name).NAME for name in (*NO_LEVEL, *BY_LEVEL)} == known


@pytest.fixture(scope="module")
def real_runs(data):
    """(run, qrels, run as the simplest tool reads it) of all twelve."""
    folder = data / "trec-dl-pool"
    qrels = {year: read_qrels(folder / "qrels_full" / f"{year}.tsv") for year in ("dl19", "dl20")}
    return [
        (read_run(path), qrels[path.name.split(".")[0]], parsed(path, (0, 2, 4), float))
        for path in sorted((folder / "runs").glob("*.trec"))
    ]


def test_every_measure_of_every_real_run_is_that_of_trec_eval_on_every_query(real_runs):
    assert len(real_runs) == 12
    for run, qrels, read in real_runs:
        judged = qrels.to_dict()
        for level, measures in ((1, NO_LEVEL | at_level(1)), (2, at_level(2))):
            assert by_query(evaluate(run, qrels, list(measures))) == trec_eval(read, judged, measures, level)


def test_measures_of_judged_results_alone_are_those_of_trec_eval_on_every_query(real_runs):
    names = {str(parse(name)(judged_only=True)): (NO_LEVEL | BY_LEVEL)[name] for name in JUDGED_ONLY}
    for run, qrels, read in real_runs:
        found = by_query(evaluate(run, qrels, list(names)))
        assert found == trec_eval(read, qrels.to_dict(), names, judged_only=True)


def test_gains_of_one_measure_are_not_lent_to_another(real_runs):
    run, qrels, read = real_runs[0]
    exponential = {0: 0, 1: 1, 2: 3, 3: 7}
    powers = {
        query: {doc: exponential[grade] for doc, grade in docs.items()} for query, docs in qrels.to_dict().items()
    }
    plain, gained = parse("nDCG(judged_only=True)@10"), parse("nDCG@10")(gains=exponential)
    found = by_query(evaluate(run, qrels, [gained, plain, "SetP", gained @ 5]))
    at = {str(gained): "ndcg_cut_10", str(gained @ 5): "ndcg_cut_5"}
    assert {name: found[name] for name in at} == trec_eval(read, powers, at)
    at = {str(plain): "ndcg_cut_10"}
    assert {name: found[name] for name in at} == trec_eval(read, qrels.to_dict(), at, judged_only=True)


@pytest.mark.parametrize(
    ("system", "dl19", "dl20"),
    [("BM25", 0.5058, 0.4796), ("BM25_RM3", 0.5216, 0.4896), ("SPLADE_P_P_ENSEMBLE_DISTIL", 0.7308, 0.7197)],
)
def test_published_figures_of_trec_dl_come_out(data, system, dl19, dl20):
    for year, published in (("dl19", dl19), ("dl20", dl20)):
        run = read_run(data / "trec-dl-pool" / "runs" / f"{year}.{system}.top100.trec")
        evaluation = evaluate(run, read_qrels(data / "trec-dl-pool" / "qrels_full" / f"{year}.tsv"), ["nDCG@10"])
        assert round(evaluation.mean["nDCG@10"], 4) == published


@UNHURRIED
@given(judged_runs(), st.integers(1, 4))
def test_measures_of_small_runs_with_ties_and_negative_grades_are_those_of_trec_eval(example, level):
    run, judged = example
    measures = at_level(level) | (NO_LEVEL if level == 1 else {})
    expected = trec_eval(encoded(run.to_dict()), encoded(judged), measures, level)
    assert by_query(evaluate(run, Qrels.from_dict(judged), list(measures))) == expected


VALUES = {"cutoff": 3, "max_rel": 3, "recall": 0.5}


def every_measure():
    """Each measure that ir_measures knows, once, with what it requires."""
    for measure in dict.fromkeys(ir_measures.measures.registry.values()):
        required = [name for name, about in measure.SUPPORTED_PARAMS.items() if about.required]
        required += ["cutoff"] if measure.NAME == "ERR" else []  # gdeval has no other
        yield measure(**{name: VALUES[name] for name in required})


# numbers for ids: gdeval takes no other, which is why evaluate numbers them
TIED = {"1": {"a": 2, "b": 2, "c": 2, "d": 1}, "2": {"d": 1, "a": 1}, "3": {"b": 1, "c": 1}, "9": {"a": 1}}
GRADES = {"1": {"a": 1, "c": 0, "d": 3, "e": 1}, "2": {"d": 2}, "3": {"b": 1, "a": -1}, "4": {"a": 1}}


@pytest.mark.parametrize("measure", [pytest.param(one, id=str(one)) for one in every_measure()])
def test_every_registered_measure_is_computed_or_says_what_it_takes(measure):
    able = [provider for provider in ir_measures.DefaultPipeline.providers if provider.supports(measure)]
    able = [provider for provider in able if provider.is_available() and provider.NAME != "pyndeval"]  # subtopics
    if measure.NAME not in OWN and not able:
        with pytest.raises(ValueError, match="pip install|of subtopics|nothing computes it in this form; there is"):
            parse(measure)
        return
    run = run_of(TIED)
    values = evaluate(run, Qrels.from_dict(GRADES), [str(measure)]).values[str(measure)]
    assert np.isfinite(values).all() and (values[:3] > 0).any() and values[3] == 0
    if measure.NAME not in OWN:  # scores made of ranks: providers of ir_measures break ties in ways of their own
        ranked = {query: {doc: -float(rank) for rank, doc in enumerate(docs)} for query, docs in run.to_dict().items()}
        told = {metric.query_id: metric.value for metric in ir_measures.iter_calc([measure], GRADES, ranked)}
        assert {query: dict(zip(GRADES, values, strict=True))[query] for query in told} == pytest.approx(
            told, abs=1e-12
        )
