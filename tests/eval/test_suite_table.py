"""Averages over tasks, tests within a task, and what the table shows of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel
from statsmodels.stats.multitest import multipletests

from eval.measures import Evaluation
from eval.suite_table import averaged, print_suite, task_row
from retrieval.tasks import average_of, short


def scored(**values):
    """An evaluation from measure -> values."""
    arrays = {name.replace("_at_", "@"): np.array(one, float) for name, one in values.items()}
    return Evaluation(tuple(f"q{n}" for n in range(len(next(iter(arrays.values()))))), arrays, {"judged queries": 1})


def row(task, mean):
    return task_row(task, {"a": scored(RR=[mean])})


means = st.dictionaries(st.sampled_from("stuvwxyz"), st.floats(0, 1), min_size=1)


@given(means, st.sets(st.sampled_from("stuvwxyz"), min_size=1))
def test_an_average_is_over_all_that_it_names_or_is_not_given(found, wanted):
    name, parts = next(iter(average_of("mean", sorted(wanted)).items()))
    averages = averaged({name: parts}, [row(task, mean) for task, mean in found.items()])
    if wanted <= {*found}:
        assert averages.whole[name]["a"]["RR"] == pytest.approx(np.mean([found[task] for task in wanted]), abs=1e-12)
        assert not averages.lacking
    else:
        assert not averages.whole and averages.lacking == {name: sorted(wanted - {*found})}


def test_an_average_of_an_average_that_lacks_a_task_lacks_it_too():
    over = {**average_of("in", ["x", "y"])}
    over |= average_of("out", ["z", *over])
    averages = averaged(over, [row("x", 1.0), row("z", 1.0)])
    assert averages.lacking == {"in (2: x, y)": ["y"], "out (2: z, in)": ["y"]} and not averages.whole


def test_only_measures_that_all_tasks_have_are_averaged():
    rows = [
        task_row("x", {"a": scored(nDCG_at_10=[1.0], R_at_100=[0.5])}),
        task_row("y", {"a": scored(nDCG_at_10=[0.0], R_at_1000=[0.5])}),
    ]
    assert averaged({"m": ["x", "y"]}, rows).whole == {"m": {"a": {"nDCG@10": 0.5}}}


def test_each_system_is_tested_against_the_baseline_and_holm_is_over_systems_and_measures():
    rng = np.random.default_rng(5)
    shifts = {"b": 0, "x": 0.2, "y": 0.4, "z": 0}
    systems = {name: scored(RR=rng.random(30) + shift, P_at_1=rng.random(30)) for name, shift in shifts.items()}
    tests = task_row("t", systems, "b").tests
    places = [(measure, name) for measure in ("RR", "P@1") for name in "xyz"]
    theirs = [ttest_rel(systems[name].values[one], systems["b"].values[one]).pvalue for one, name in places]
    assert [tests[one][name].test.p for one, name in places] == pytest.approx(theirs, abs=1e-10)
    adjusted = multipletests(theirs, method="holm")[1]
    assert [tests[one][name].corrected["t"] for one, name in places] == pytest.approx(adjusted, abs=1e-10)


def test_the_table_marks_what_differs_and_says_which_sets_a_mean_is_over(capsys):
    rng = np.random.default_rng(6)
    base = rng.random(40)
    systems = {
        "base": scored(RR=base),
        "better": scored(RR=base + 0.1 + rng.random(40) / 50),
        "worse": scored(RR=base - 0.1 - rng.random(40) / 50),
        "same": scored(RR=base + rng.normal(0, 0.01, 40)),
    }
    rows = [task_row(name, systems, "base") for name in ("one", "two")]
    print_suite(rows, averaged(average_of("both", ["one", "two"]), rows), "title", "base", ["a note"])
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if "│ one" in line)
    cells = [cell.strip() for cell in first.split("│")]
    assert [cell[-1] for cell in cells[4:8]] == [cells[4][-1], "▲", "▼", cells[7][-1]] and cells[4][-1].isdigit()
    assert f"{base.mean():.4f}" == cells[4]
    assert "mean of tasks: both (2: one, two)" in lines and "a note" in lines
    assert any(line.startswith("▲ ▼ better, worse than base: p < 0.05") for line in lines)


def test_one_system_alone_is_tested_against_nothing(capsys):
    rows = [task_row("one", {"base": scored(RR=[1.0, 0.5])}, "base")]
    print_suite(rows, averaged({}, rows), "title", "base")
    assert "▲" not in capsys.readouterr().out


def test_of_many_lacking_tasks_a_few_are_named(capsys):
    over = average_of("mean", list("abcdefgx"))
    rows = [row("x", 1.0)]
    print_suite(rows, averaged(over, rows), "title")
    assert "no mean: mean lacks a, b, c, d, e and 2 more" in capsys.readouterr().out


def test_names_of_averages_are_short_where_they_are_parts():
    inner = average_of("CQADupStack", ["a", "b"])
    assert next(iter(average_of("BEIR", ["x", *inner]))) == "BEIR (2: x, CQADupStack)"
    assert short("BEIR-17, without cqadupstack (17: x)") == "BEIR-17, without cqadupstack" and short("x") == "x"
