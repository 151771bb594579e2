"""What a comparison warns of: missing judgements, other depths, missing queries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.cautions import cautions, condensed, unjudged
from tests.reports import cell

JUDGED = {"qa": {"da": 1, "db": 0, "dc": 1}, "qb": {"da": 0, "dd": 2}}


def found(lists, name="one", measures=("nDCG",), judged=JUDGED):
    return cell(name, "toy", lists, judged, measures=list(measures))


def test_nothing_is_said_where_all_is_alike():
    assert cautions([found({"qa": ["da"], "qb": ["dd"]}), found({"qa": ["db"], "qb": ["da"]}, "two")]) == []


def test_shares_of_unjudged_results_that_differ_are_told_with_the_figure_without_them():
    whole = found({"qa": ["da", "dc"], "qb": ["dd", "da"]})
    part = found({"qa": ["dx", "da"], "qb": ["dy", "dd"]}, "two")
    (line,) = cautions([whole, part])
    assert line.startswith("unjudged in the top 10, which counts as not relevant: 0.0% of one, 50.0% of two; ")
    without = found({"qa": ["da"], "qb": ["dd"]}).evaluation.mean["nDCG"]
    assert line.endswith(f"nDCG with unjudged results left out: one 1.0000, two {without:.4f}")


def test_a_large_share_of_unjudged_results_is_told_even_where_it_is_the_same():
    lists = {"qa": ["da", "dx"], "qb": ["dd", "dx"]}
    (line,) = cautions([found(lists), found(lists, "two")])
    assert "50.0% of one, 50.0% of two" in line


def test_a_small_share_that_hardly_differs_is_not_told():
    judged = {"qa": {f"d{n}": 1 for n in range(40)}, "qb": {f"d{n}": 1 for n in range(40)}}
    full, lacking = [f"d{n}" for n in range(10)], ["dx", *(f"d{n}" for n in range(9))]
    cells = [found({"qa": full, "qb": full}, judged=judged), found({"qa": full, "qb": lacking}, "two", judged=judged)]
    assert [unjudged(one) for one in cells] == [0, 0.05]  # at the border, which is not beyond it
    assert cautions(cells) == []


def test_other_depths_are_told_with_the_measures_that_they_favour():
    deep, short = {"qa": ["da", "db", "dc"], "qb": ["dd", "da"]}, {"qa": ["da"], "qb": ["dd"]}
    lines = cautions([found(deep, measures=["RR@1", "AP", "R@3"]), found(short, "two", ["RR@1", "AP", "R@3"])])
    assert lines == ["the runs are not equally deep, in results for a query: one 3, two 1; AP, R@3 favour the deeper"]
    lines = cautions([found(deep, measures=["RR@1"]), found(short, "two", ["RR@1"])])
    assert lines[0].endswith("one 3, two 1; no measure looks deeper than the shortest")


def test_a_measure_that_looks_deeper_than_all_runs_is_told():
    lists = {"qa": ["da"], "qb": ["dd"]}
    lines = cautions([found(lists, measures=["R@100", "RR@1"]), found(lists, "two", ["R@100", "RR@1"])])
    assert lines == ["R@100: the runs hold only 1 results for a query"]


def test_judged_queries_that_a_run_lacks_are_counted():
    lines = cautions([found({"qa": ["da"], "qb": ["dd"]}), found({"qa": ["da"]}, "two")])
    assert lines == ["two has no results for 1 of the 2 judged queries: they score 0"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_condensed_run_holds_the_judged_documents_in_their_order(data):
    names = [f"d{n}" for n in range(8)]
    lists = {
        query: data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1), query)
        for query in ("qa", "qb", "qz")
    }
    grades = st.dictionaries(st.sampled_from([*names, "unknown"]), st.integers(-1, 3), min_size=1)
    judged = {query: data.draw(grades, f"judged {query}") for query in ("qb", "qa", "qc")}
    run = found(lists, judged=judged).run
    kept = condensed(run, found(lists, judged=judged).qrels).to_dict()
    expected = {query: [doc for doc in docs if doc in judged.get(query, {})] for query, docs in lists.items()}
    assert {query: list(docs) for query, docs in kept.items()} == expected


def test_condensing_changes_no_run(tmp_path):
    run = found({"qa": ["dx", "da"], "qb": ["dd"]}).run
    rows = run.rows.copy()
    condensed(run, found({"qa": ["da"]}).qrels)
    np.testing.assert_array_equal(run.rows, rows)


@pytest.mark.parametrize("systems", [2, 3])
def test_lines_keep_the_order_of_the_systems(systems):
    cells = [found({"qa": ["dx"], "qb": ["dy"]}, f"s{n}") for n in range(systems)]
    (line,) = cautions(cells)
    places = [line.index(f"of s{n}") for n in range(systems)]
    assert places == sorted(places)
