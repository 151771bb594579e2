"""The verb that compares runs, of files and of folders of results; and what it refuses."""

from __future__ import annotations

import json

import pytest

from eval.comparison import TESTS
from eval.significance import holm
from retrieval.collection import write_collection
from retrieval.compare import compare, run_or_why
from retrieval.expected import given, head, read_expected
from retrieval.recipe_file import read
from retrieval.run_file import find_run, read_run, write_run
from retrieval.verbs import verb_of

RECIPE = """\
dataset: {type: folder, path: toy}
runs: {first: first.trec, second: second}
measures: [RR, R@1]
resamples: 99
"""
QUERIES = "qrstuv"


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A collection of six queries, the run file first.trec, and the folder of results second; a recipe to write."""
    monkeypatch.chdir(tmp_path)
    documents = [(name, "", f"text of {name}") for name in QUERIES.upper()]
    queries = [(name, f"query {name}") for name in QUERIES]
    judged = {"test": {name: {name.upper(): 1} for name in QUERIES}, "one": {"q": {"Q": 1}}}
    write_collection(tmp_path / "toy", documents, queries, judged)
    good = [f"{name} Q0 {name.upper()} 1 1.0 good" for name in QUERIES[:5]]
    bad = [f"{name} Q0 {found} 1 {2 - rank} bad" for name in QUERIES for rank, found in enumerate(("X", name.upper()))]
    (tmp_path / "first.trec").write_text("\n".join(good) + "\n")
    (tmp_path / "second").mkdir()
    (tmp_path / "bad.trec").write_text("\n".join(bad) + "\n")
    write_run(read_run(tmp_path / "bad.trec"), tmp_path / "second" / "run.parquet")

    def write(text=RECIPE):
        (tmp_path / "recipe.yaml").write_text(text)
        return "recipe.yaml"

    return write


def refused(capsys, arguments):
    """The one line that says why nothing ran."""
    with pytest.raises(SystemExit) as stopped:
        run_or_why(compare, arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 1 and len(error.splitlines()) == 1
    return error


def test_it_compares_files_and_folders_and_writes_what_papers_need(there, tmp_path, capsys):
    results = run_or_why(compare, [there(), "baseline=second", "out=found"])
    text = capsys.readouterr().out
    assert "difference from second by query; p corrected by Holm over 2 tests" in text and "query q: query q" in text
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == [
        "comparison.json",
        "comparison.md",
        "comparison.tex",
        "manifest.json",
    ]
    whole = json.loads((tmp_path / "found" / "comparison.json").read_text())
    for test in TESTS:
        assert [one["corrected"][test] for one in whole["differences"]] == holm(
            [one["p"][test] for one in whole["differences"]]
        )
    manifest = json.loads((tmp_path / "found" / "manifest.json").read_text())
    assert manifest["results"] == json.loads(json.dumps(results))
    assert results["systems"]["first"]["mean"] == {"RR": 5 / 6, "R@1": 5 / 6}
    assert results["runs"]["second"]["file"] == "second/run.parquet" and len(results["runs"]["first"]["sha256"]) == 64
    assert results["looks"]["by verb"] == {"compare": 1}
    (tmp_path / "found" / "comparison.tex").read_text().index(r"\begin{tabular}")


def test_without_a_baseline_all_are_compared(there, capsys):
    run_or_why(compare, [there(), "out=found"])
    text = capsys.readouterr().out
    assert "differences by query" in text and "against first" in text


def test_no_queries_are_shown_where_none_are_asked_for(there, capsys):
    run_or_why(compare, [there(), "changed=0", "out=found"])
    assert "query q" not in capsys.readouterr().out


def test_judged_queries_that_a_run_lacks_score_0_and_are_told(there, capsys):
    run_or_why(compare, [there(), "out=found"])
    text = " ".join(capsys.readouterr().out.split())
    assert "first has no results for 1 of the 6 judged queries: they score 0" in text
    assert "the runs are not equally deep, in results for a query: first 1, second 2; RR favour the deeper" in text


def test_one_query_is_compared_and_not_tested(there, capsys):
    run_or_why(compare, [there(), "split=one", "out=found"])
    assert "no test: a single query" in capsys.readouterr().out


def test_a_run_compared_with_itself_differs_nowhere(there, capsys):
    text = "dataset: {type: folder, path: toy}\nruns: {a: bad.trec, b: second}\nmeasures: [RR]\n"
    results = run_or_why(compare, [there(text), "out=found"])
    assert "no test: no query differs" in capsys.readouterr().out
    assert results["differences"][0]["test"]["untested"] == "no query differs"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("baseline=secnd", "baseline 'secnd' is none of the runs: first, second. Did you mean second?"),
        ("correction=bonferoni", "unknown correction 'bonferoni'; there are holm, bonferroni, benjamini-hochberg."),
        ("runs={first: first.trec}", "two runs at least are needed, and there is only first"),
        ("runs={}", "two runs at least are needed, and there is none"),
        ("resamples=0", "resamples is 0; it must be at least 1"),
        ("changed=-1", "changed is -1: how many queries to show of each pair, 0 for none"),
        ("measures=[nDGC@10]", "unknown measure 'nDGC@10'; the nearest are"),
        ("split=dev", "toy has no split 'dev'"),
        ("runs={a: first.trec, b: nowhere.trec}", "no run at nowhere.trec"),
        ("runs={a: first.trec, b: toy}", "has none of run.parquet, run.trec, trained.parquet; it holds no run"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(there, capsys, override, says):
    assert says in refused(capsys, [there(), override, "out=found"])


def test_a_run_for_other_queries_is_refused_with_counts(there, tmp_path, capsys):
    (tmp_path / "lost.trec").write_text("x Q0 Q 1 1.0 lost\ny Q0 Q 1 1.0 lost\n")
    error = refused(capsys, [there(), "runs={a: first.trec, lost: lost.trec}", "out=found"])
    assert "none of the 2 queries of run 'lost' (such as 'x', 'y') is among the 6 judged" in error


def test_two_systems_of_one_name_are_refused_where_they_are_written(there, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_or_why(compare, [there(RECIPE.replace("second: second", "first: second")), "out=found"])
    assert stopped.value.code == 2 and "recipe.yaml:2: runs.first: given twice" in capsys.readouterr().err


@pytest.mark.parametrize("below", ["", "elsewhere"])
def test_runs_that_changed_in_a_folder_or_below_retrieval_data_are_no_finished_comparison(
    there, tmp_path, monkeypatch, capsys, below
):
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    recipe = tmp_path / there()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / below)
    before = run_or_why(compare, [str(recipe), "out=found"])
    assert run_or_why(compare, [str(recipe), "out=found"]) == json.loads(json.dumps(before))
    write_run(read_run(tmp_path / "first.trec"), tmp_path / "second" / "run.parquet")
    capsys.readouterr()
    assert "found was finished with other input: runs.second sha256 was" in refused(capsys, [str(recipe), "out=found"])


def test_a_run_may_lie_below_retrieval_data(there, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_run("second") == tmp_path / "second" / "run.parquet"
    with pytest.raises(FileNotFoundError, match=f"no run at third nor {tmp_path}/third"):
        find_run("third")


def test_a_folder_of_several_runs_says_which_may_be_named(tmp_path):
    (tmp_path / "BM25.parquet").touch()
    with pytest.raises(FileNotFoundError, match="it holds BM25.parquet: name the file"):
        find_run(tmp_path)


def test_the_recipe_of_dl19_gives_what_its_first_line_says(data, tmp_path, monkeypatch, request):
    path = request.config.rootpath / "configs" / "compare" / "trec-dl-pool-dl19.yaml"
    assert verb_of(path) is compare and read(path).tree["correction"] == "holm"
    results = run_or_why(compare, [str(path), f"out={tmp_path / 'found'}"])
    expected = read_expected(head(path))
    assert len(expected) == 3
    for one in expected:
        (value,) = given(one, [({}, results)])
        assert one.agrees(value)
