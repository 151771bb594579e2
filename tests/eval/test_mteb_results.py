"""MTEB's result files: figures as mteb computes them from the same run, files that mteb reads, and what is refused."""

from __future__ import annotations

import json
import runpy
import sys
import types
from dataclasses import replace
from pathlib import Path

import mteb
import numpy as np
import pytest

from eval.mteb_model import MtebRetriever
from eval.mteb_results import TASKS, task_result, write_mteb
from eval.results import Result, read_results
from retrieval.cli import run
from retrieval.collection import Collection, write_collection
from retrieval.datasets.folder import Folder
from retrieval.mteb_package import find_task
from retrieval.protocols import Task
from retrieval.search import ranked, search
from tests.mteb_toy import task_of
from tests.tables import Table

ROOT = Path(__file__).parents[2]
RAN = {"verb": "search", "wall_seconds": 1.5, "ended": "2025-08-28T12:00:00+00:00"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """30 documents, graded judgements, two queries that are documents too, one that is asked for nothing."""
    folder = tmp_path_factory.mktemp("toy") / "toy"
    rng = np.random.default_rng(0)
    documents = [(f"d{i}", f"title {i}" if i % 3 else "", f"text {i}") for i in range(30)]
    queries = {q: f"text {q[1:]}" for q in ("d3", "d4", "q1", "q2", "q3", "q4")}
    judged = {q: {f"d{d}": int(g) for d, g in enumerate(rng.integers(0, 3, 30)) if d % 4 == 0} for q in queries}
    write_collection(folder, documents, queries, {"test": judged})
    return Collection(folder)


@pytest.fixture(scope="module")
def found():
    """Scores with many ties, some of documents that are judged and some not; the queries' own documents on top."""
    rng = np.random.default_rng(1)
    lists = {
        q: {f"d{d}": float(s) for d, s in enumerate(rng.integers(1, 6, 30))} for q in ("d3", "d4", "q1", "q2", "q3")
    }
    lists["d3"]["d3"] = lists["d4"]["d4"] = 9.0
    return lists | {"q4": {"d7": 1.0}}


def result(toy, found, k=1000):
    run = ranked(toy, Table(found, "table"), "test", k)
    return Result("table", Task("toy", Folder("toy"), k=k), toy, run, toy.qrels("test"), Path("toy"), RAN)


def by_mteb(toy, found, **settings):
    model = MtebRetriever(Table(found, "table"), "toy/table", "1")
    done = mteb.evaluate(model, task_of(toy, **settings), cache=None, show_progress_bar=False)
    return done.task_results[0]


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("empty", [{}, {"q4": {}}], ids=["", "a query without results"])
def test_figures_are_those_of_mteb_for_the_same_run_with_ties_and_own_documents(toy, found, ignored, empty):
    theirs = by_mteb(toy, found | empty, ignore_identical_ids=ignored).scores["test"][0]
    ours = task_result(result(toy, found | empty), task_of(toy, ignore_identical_ids=ignored)).scores["test"][0]
    assert {name for name in theirs if not name.startswith("nauc_")} == {*ours}
    for name in ours:
        assert ours[name] == (pytest.approx(theirs[name], abs=1e-6) if name.startswith("mrr") else theirs[name]), name


def test_ignoring_own_documents_makes_a_difference_here(toy, found):
    one, other = (task_result(result(toy, found), task_of(toy, ignore_identical_ids=it)) for it in (False, True))
    assert one.get_score() < other.get_score()


def test_mteb_reads_the_files_and_finds_them_where_it_keeps_its_own(toy, found, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.mteb_results.find_task", lambda name: task_of(toy))
    shown, paths = write_mteb([result(toy, found)], tmp_path, "toy/table", "abc")
    folder = tmp_path / "results" / "toy__table" / "abc"
    assert paths == [folder / "ToyRetrieval.json", folder / "model_meta.json"]
    read = mteb.TaskResult.from_disk(folder / "ToyRetrieval.json")
    cached = mteb.ResultCache(tmp_path).load_task_result("ToyRetrieval", "toy/table", "abc")
    assert read == cached and read.dataset_revision == "abc" and read.mteb_version == mteb.__version__
    (scores,) = read.scores["test"]
    assert (scores["hf_subset"], scores["languages"]) == ("default", ["eng-Latn"])
    assert scores["main_score"] == scores["ndcg_at_10"] and f"{scores['main_score']:.5f}" in shown
    assert (read.evaluation_time, read.date.isoformat()) == (1.5, "2025-08-28T12:00:00+00:00")
    meta = json.loads((folder / "model_meta.json").read_text())
    assert (meta["name"], meta["revision"]) == ("toy/table", "abc")


def test_mteb_does_not_evaluate_again_what_it_finds_there(toy, found, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.mteb_results.find_task", lambda name: task_of(toy))
    write_mteb([result(toy, found)], tmp_path, "toy/table", "1")
    table = Table(found, "table")
    model = MtebRetriever(table, "toy/table", "1")
    again = mteb.evaluate(model, task_of(toy), cache=mteb.ResultCache(tmp_path), show_progress_bar=False)
    assert (
        not table.opened
        and again.task_results[0].get_score() == task_result(result(toy, found), task_of(toy)).get_score()
    )


@pytest.fixture
def script(monkeypatch, capsys):
    """Runs the script as people do, and gives what it shows."""

    def call(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["leaderboard_mteb.py", *map(str, arguments)])
        runpy.run_path(str(ROOT / "scripts" / "leaderboard_mteb.py"), run_name="__main__")
        return capsys.readouterr().out

    return call


def refused(script, *arguments):
    """The error line of the script."""
    with pytest.raises(SystemExit) as stopped:
        script(*arguments)
    return str(stopped.value)


@pytest.fixture
def searched(toy, tmp_path, monkeypatch):
    """A recipe of BM25 on the toy, the folder where it was searched, and the toy's task as a class to be named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "my_tasks", types.SimpleNamespace(Toy=lambda: task_of(toy)))
    recipe = {"dataset": {"type": "folder", "path": str(toy.folder)}, "retriever": "bm25"}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    run(search, ["recipe.yaml", "out=found"])
    return "found"


def test_the_script_writes_a_task_of_ones_own(searched, script, tmp_path):
    named = ("--model", "toy/bm25", "--revision", "1", "--task", "my_tasks:Toy")
    shown = script(searched, "--out", "board", *named)
    assert "| ToyRetrieval | test  | ndcg at 10 |" in shown and "MTEB has no counts of its data" in shown
    read = mteb.TaskResult.from_disk(tmp_path / "board" / "results" / "toy__bm25" / "1" / "ToyRetrieval.json")
    (one,) = read_results(searched)
    assert 0 < read.get_score() == round(one.evaluate(["nDCG@10"]).mean["nDCG@10"], 5)
    assert (
        script("recipe.yaml", "--out", "other", *named).startswith(shown.split("\n")[0]) is False
    )  # it searches first
    assert (tmp_path / "other" / "results" / "toy__bm25" / "1" / "ToyRetrieval.json").is_file()


def test_without_a_name_or_a_revision_the_flag_is_named(searched, script):
    assert "give --model ORGANISATION/MODEL" in refused(script, searched, "--out", "board")
    message = refused(script, searched, "--out", "board", "--model", "toy/bm25")
    assert "does not say which revision of toy/bm25 was used: give --revision" in message
    message = refused(script, searched, "--out", "board", "--model", "bm25", "--revision", "1")
    assert "says that the model is 'bm25': give --model ORGANISATION/MODEL" in message


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"model": "toy/tiny", "revision": "abc"}, None),
        ({"model": "toy/tiny", "revision": None}, "which revision of toy/tiny was used: give --revision"),
        ({"model": "tiny", "revision": None}, "says that the model is 'tiny': give --model"),
        ({}, "does not say of which model the vectors are: give --model"),
    ],
)
def test_name_and_revision_are_those_of_the_one_encoder(toy, found, tmp_path, monkeypatch, about, message):
    monkeypatch.setattr("eval.mteb_results.find_task", lambda name: task_of(toy))
    made = {"retriever": {}, "retriever.encoder": about, "baseline.encoder": {"model": "other/one"}}
    one = replace(result(toy, found), manifest=RAN | {"made_of": made})
    if message:
        with pytest.raises(ValueError, match=message):
            write_mteb([one], tmp_path)
    else:
        write_mteb([one], tmp_path)
        assert (tmp_path / "results" / "toy__tiny" / "abc" / "ToyRetrieval.json").is_file()


def test_a_cell_of_a_suite_tells_its_encoder_too(toy, found, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.mteb_results.find_task", lambda name: task_of(toy))
    recipe = {"encoders": [{"model": "toy/tiny", "revision": "abc"}], "retriever": {"encoder": {}, "index": {}}}
    write_mteb([replace(result(toy, found), manifest=RAN | {"verb": "suite cell", "recipe": recipe})], tmp_path)
    assert (tmp_path / "results" / "toy__tiny" / "abc" / "ToyRetrieval.json").is_file()


def test_what_was_made_of_a_models_vectors_is_no_result_of_the_model(toy, found, tmp_path):
    about = {"model": "toy/tiny", "revision": "abc"}
    fused = {"made_of": {"retriever": {}, "retriever.retrievers.1.encoder": about}}
    recipe = {"encoders": [about], "retriever": {"type": "weighted_sum", "retrievers": []}}
    for manifest in (fused, {"verb": "suite cell", "recipe": recipe}):
        with pytest.raises(ValueError, match="does not say of which model the vectors are: give --model"):
            write_mteb([replace(result(toy, found), manifest=RAN | manifest)], tmp_path)


def test_an_unknown_task_is_refused_with_the_nearest(searched, script):
    flags = ("--model", "toy/bm25", "--revision", "1")
    message = refused(script, searched, "--out", "board", *flags, "--task", "scifacts")
    assert "MTEB has no task 'scifacts'; the nearest are SciFact" in message
    assert "MTEB has no task 'toy'; the nearest are" in refused(script, searched, "--out", "board", *flags)


def test_several_systems_and_one_task_of_several_results_are_refused(toy, found, tmp_path):
    one = result(toy, found)
    with pytest.raises(ValueError, match="results of other, table, and a command is of one model"):
        write_mteb([one, replace(one, system="other")], tmp_path, "toy/table", "1")
    with pytest.raises(ValueError, match="--task SciFact is of one result, and there are 2"):
        write_mteb([one, one], tmp_path, "toy/table", "1", "SciFact")


def test_results_of_other_data_than_the_tasks_are_refused(toy, found):
    with pytest.raises(ValueError, match="toy test is not the data of SciFact: it has 30 documents, .* 7,771,451 char"):
        task_result(result(toy, found), find_task("SciFact"))


def test_limit_made_again_is_no_result_of_limit(data, tmp_path):
    collection = Collection(data / "limit-rebuilt")
    run = ranked(collection, Table({"query_0": {"Geneva Durben": 1.0}}, "t"), "test", 1000)
    task = Task("limit-rebuilt", Folder("limit-rebuilt"))
    one = Result("t", task, collection, run, collection.qrels("test"), Path("x"), RAN)
    with pytest.raises(
        ValueError, match="50,000 documents, 29,854,994 characters, .* test: 50,000 documents, 29,916,423"
    ):
        write_mteb([one], tmp_path, "toy/t", "1", "LIMITRetrieval")


def test_limit_small_of_bm25_is_written_for_mteb(data, script, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    recipe = ROOT / "configs" / "bm25" / "limit-small.yaml"
    script(recipe, "--out", "board", "--model", "toy/bm25", "--revision", "1")
    read = mteb.ResultCache(tmp_path / "board").load_task_result("LIMITSmallRetrieval", "toy/bm25", "1")
    assert read.get_score() == 0.978 == read.scores["test"][0]["recall_at_2"]


@pytest.mark.parametrize("name", ["scifact", "nfcorpus"])
def test_real_collections_are_those_of_mteb(data, name):
    from eval.mteb_results import _split

    collection = Collection(data / name)
    one = Result("t", Task(name, Folder(name)), collection, None, collection.qrels("test"), Path("x"), RAN)
    assert _split(one, find_task(TASKS[name])) == "test"


def test_every_task_that_is_named_here_is_one_of_mteb():
    assert all(find_task(name).metadata.name == name for name in TASKS.values())


def test_a_task_with_subsets_and_one_of_another_split_are_refused(toy, found):
    with pytest.raises(ValueError, match="BelebeleRetrieval has 376 subsets: only tasks without any are written"):
        task_result(result(toy, found), find_task("BelebeleRetrieval"))
    with pytest.raises(ValueError, match="ToyRetrieval is evaluated on dev, not on test"):
        task_result(result(toy, found), task_of(toy, split="dev"))


def test_a_run_that_is_not_deep_enough_is_refused(toy, found):
    with pytest.raises(ValueError, match="searched with k=10, and nDCG@20 needs 20: search again with k=20"):
        task_result(result(toy, found, k=10), task_of(toy))
