"""Many systems on many collections: cells that are finished once, averages that are whole, bad input."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from eval import evaluate
from eval.significance import holm, paired_t
from retrieval.cli import run
from retrieval.collection import write_collection
from retrieval.looks import ledger
from retrieval.protocols import Task
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.reciprocal_rank import ReciprocalRank
from retrieval.retrievers.rerank import Rerank
from retrieval.run_file import read_run
from retrieval.suite import suite
from retrieval.suites.folders import Folders
from retrieval.tasks import average_of
from tests.tables import Table

GOOD = {f"q{n}": {"a": 2.0, "b": 1.0} for n in range(6)}
BAD = {f"q{n}": {"b": 2.0, "a": 1.0} for n in range(6)}
MIXED = {f"q{n}": {"ab"[n % 2]: 2.0, "c": 1.0} for n in range(6)}
OTHER = {f"q{n}": {"aab"[n % 3]: 2.0, "c": 1.0} for n in range(6)}
MEASURES = ("nDCG@3", "R@1")


def collection(folder, judged="a", queries=6):
    documents = [(name, "", f"document {name}") for name in "abc"]
    write_collection(
        folder,
        documents,
        [(f"q{n}", f"query {n}") for n in range(queries)],
        {"test": {f"q{n}": {judged: 1} for n in range(queries)}},
    )
    return str(folder)


@pytest.fixture
def two(tmp_path):
    return Folders([collection(tmp_path / "one"), collection(tmp_path / "two", "b")], measures=MEASURES, k=3)


def systems():
    return {"good": Table(GOOD, "good"), "bad": Table(BAD, "bad")}


class Tasks:
    """A suite of given tasks and averages."""

    def __init__(self, tasks, averages=None):
        self.given, self.over = tasks, averages or {}

    def tasks(self):
        return self.given

    def averages(self):
        return self.over


def test_every_system_is_measured_on_every_task(two, tmp_path, capsys):
    results = suite(two, systems(), out=tmp_path / "out")
    for name in ("good", "bad"):
        for task in two.tasks():
            run = read_run(tmp_path / "out" / name / task.name / "run.parquet")
            found = results["tasks"][task.name]["systems"][name]
            assert found["mean"] == evaluate(run, task.dataset.open().qrels("test"), MEASURES).mean
            assert found["cost"]["seconds per query"] > 0
    assert results["tasks"]["one"]["systems"]["good"]["mean"]["R@1"] == 1.0
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    assert "good" in (tmp_path / "out" / "report.html").read_text()
    shown = capsys.readouterr().out
    assert "two" in shown and "mean of tasks: all (2: one, two)" in shown and "no mean" not in shown


def test_without_a_folder_nothing_is_written(two, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert suite(two, systems())["tasks"]["two"]["systems"]["bad"]["mean"]["R@1"] == 1.0
    assert sorted(tmp_path.iterdir()) == before


def test_an_average_is_the_mean_of_its_tasks(two):
    results = suite(two, systems())
    by_task = [results["tasks"][task]["systems"]["good"]["mean"] for task in ("one", "two")]
    assert results["averages"] == {
        "all (2: one, two)": {
            system: {
                measure: sum(results["tasks"][task]["systems"][system]["mean"][measure] for task in ("one", "two")) / 2
                for measure in MEASURES
            }
            for system in ("good", "bad")
        }
    }
    assert by_task[0] != by_task[1]


def test_systems_are_tested_against_the_baseline_with_holm_over_those_of_a_task(two, tmp_path):
    retrievers = {**systems(), "mixed": Table(MIXED, "mixed"), "other": Table(OTHER, "other")}
    results = suite(two, retrievers, baseline="bad", measures=["R@1"], out=tmp_path / "out")
    qrels = two.tasks()[0].dataset.open().qrels("test")
    found = {
        name: evaluate(read_run(tmp_path / "out" / name / "one" / "run.parquet"), qrels, ["R@1"]) for name in retrievers
    }
    tests = {name: paired_t(found[name], found["bad"], "R@1") for name in ("good", "mixed", "other")}
    assert tests["good"].p is None  # it differs by the same everywhere, and counts among the three
    adjusted = holm([1.0, tests["mixed"].p, tests["other"].p])
    for name, p in zip(tests, [None, *adjusted[1:]], strict=True):
        kept = results["tasks"]["one"]["systems"][name]["paired t-test"]["R@1"]
        assert kept == tests[name].to_dict() | {"p after Holm": p}
    assert results["tasks"]["one"]["systems"]["bad"]["paired t-test"] == {}


def test_a_finished_cell_is_neither_searched_nor_evaluated_again(two, tmp_path, monkeypatch):
    first = suite(two, systems(), baseline="bad", out=tmp_path / "out")
    again = systems()
    monkeypatch.setattr("retrieval.open_task.OpenTask.measured", None)
    assert suite(two, again, baseline="bad", out=tmp_path / "out") == first
    assert [one.depths for one in again.values()] == [[], []]


def test_a_system_is_added_to_a_folder_later(two, tmp_path):
    suite(two, {"good": Table(GOOD, "good")}, out=tmp_path / "out")
    both = systems()
    results = suite(two, both, out=tmp_path / "out")
    assert both["good"].depths == [] and both["bad"].depths == [3, 3]
    assert list(results["tasks"]["one"]["systems"]) == ["good", "bad"]


def test_measures_are_added_without_searching(two, tmp_path):
    suite(two, systems(), out=tmp_path / "out")
    again = systems()
    results = suite(two, again, measures=["RR", "nDCG@3"], out=tmp_path / "out")
    assert again["good"].depths == []
    mean = results["tasks"]["two"]["systems"]["good"]["mean"]
    assert list(mean) == ["RR", "nDCG@3"] and mean["RR"] == 0.5
    kept = json.loads((tmp_path / "out" / "good" / "two" / "cell.json").read_text())
    assert list(kept["values"]) == ["nDCG@3", "R@1", "RR"]


def test_a_killed_run_resumes_with_the_cells_that_are_left(two, tmp_path, monkeypatch):
    plain = Table.retrieve

    def killed(self, queries, k):
        if len(self.depths):
            raise KeyboardInterrupt
        return plain(self, queries, k)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Table, "retrieve", killed)
        suite(two, {"good": Table(GOOD, "good")}, out=tmp_path / "out")
    left = Table(GOOD, "good")
    suite(two, {"good": left}, out=tmp_path / "out")
    assert left.depths == [3]
    manifest = json.loads((tmp_path / "out" / "good" / "two" / "manifest.json").read_text())
    assert manifest["status"] == "finished" and manifest["attempts"][0]["status"] == "failed"


@pytest.mark.parametrize("last", ["run.parquet", "cell.json", "manifest.json"])
def test_a_cell_killed_between_its_files_is_made_again_with_the_same_bytes(two, tmp_path, last, monkeypatch):
    """Killed after each file in turn, by a signal that nothing can catch: the manifest still says that it runs."""
    import retrieval.cell_folder as module
    from retrieval.manifest import Manifest

    suite(two, {"good": Table(GOOD, "good")}, out=tmp_path / "whole")
    monkeypatch.setattr(Manifest, "fail", lambda *_: None)
    after = {"run.parquet": (module.CellFolder, "write"), "cell.json": (Manifest, "finish")}

    def killed(*_):
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(*after.get(last, (module.CellFolder, "write_run")), killed)
        suite(two, {"good": Table(GOOD, "good")}, out=tmp_path / "out")
    suite(two, {"good": Table(GOOD, "good")}, out=tmp_path / "out")
    for task in ("one", "two"):
        whole, resumed = (tmp_path / folder / "good" / task for folder in ("whole", "out"))
        assert (whole / "run.parquet").read_bytes() == (resumed / "run.parquet").read_bytes()
        figures = [json.loads((folder / "cell.json").read_text())["values"] for folder in (whole, resumed)]
        assert figures[0] == figures[1]


def test_a_part_of_a_fusion_searches_once_on_each_task(two):
    one, other = Table(GOOD, "one"), Table(BAD, "other")
    suite(two, {"one": one, "fused": ReciprocalRank([one, other], depth=3)})
    assert one.depths == [3, 3] and other.depths == [3, 3]


def test_only_the_tasks_that_are_asked_for_are_run_and_no_average_is_made_over_fewer(two, capsys):
    results = suite(two, systems(), only=["two"])
    assert list(results["tasks"]) == ["two"] and results["averages"] == {}
    assert results["no average, for lack of tasks"] == {"all (2: one, two)": ["one"]}
    assert "no mean: all lacks one" in capsys.readouterr().out


def test_an_average_over_an_average_counts_it_as_one_set(tmp_path):
    parts = Folders([collection(tmp_path / name, judged) for name, judged in (("x", "a"), ("y", "b"), ("z", "c"))], k=3)
    inner = average_of("inner", ["x", "y"])
    nested = Tasks(parts.tasks(), {**inner, **average_of("outer", ["z", *inner])})
    results = suite(nested, {"good": Table(GOOD, "good")}, measures=["R@1"])
    assert list(results["averages"]) == ["inner (2: x, y)", "outer (2: z, inner)"]
    found = {name: systems["good"]["R@1"] for name, systems in results["averages"].items()}
    assert found == {"inner (2: x, y)": 0.5, "outer (2: z, inner)": 0.25}


def test_every_look_is_written_down_once(two, tmp_path):
    for _ in range(2):
        suite(two, systems(), out=tmp_path / "out")
    opened = two.tasks()[0].dataset.open()
    assert len(ledger(opened, "test").read_text().splitlines()) == 2


def test_results_come_back_to_the_last_digit(tmp_path):
    rng = np.random.default_rng(3)
    folder = collection(tmp_path / "one", queries=50)
    found = {f"q{n}": dict(zip("abc", rng.random(3).tolist(), strict=True)) for n in range(50)}
    for measures in (["nDCG@3"], ["AP", "nDCG@3"]):
        first, again = (
            suite(Folders([folder], k=3), {"t": Table(found)}, measures=measures, out=tmp_path / "out")
            for _ in range(2)
        )
        assert first == again


def recipe(two, tmp_path, **retrievers):
    path = tmp_path / "suite.yaml"
    about = {"suite": {"type": "folders", "paths": two.paths, "k": 3, "measures": ["RR"]}, "retrievers": retrievers}
    path.write_text(json.dumps({**about, "out": str(tmp_path / "out")}))
    return [str(path)]


def test_a_recipe_may_grow_in_its_folder(two, tmp_path, capsys):
    run(suite, recipe(two, tmp_path, BM25="bm25"), grows=True)
    both = recipe(two, tmp_path, BM25="bm25", other={"type": "bm25", "k1": 1.2})
    run(suite, [*both, "--dry-run"], grows=True)
    assert "(finished)" in capsys.readouterr().out
    results = run(suite, both, grows=True)
    assert list(results["tasks"]["one"]["systems"]) == ["BM25", "other"]
    assert "2 tasks, 2 systems, 2 cells of which are finished already" in capsys.readouterr().out
    cell = json.loads((tmp_path / "out" / "other" / "two" / "manifest.json").read_text())["recipe"]
    assert (cell["retriever"]["type"], cell["retriever"]["k1"], cell["retriever"]["b"]) == ("bm25", 1.2, 0.4)


def test_a_changed_block_of_a_recipe_is_refused(two, tmp_path, capsys):
    run(suite, recipe(two, tmp_path, BM25="bm25"), grows=True)
    with pytest.raises(SystemExit):
        run(suite, recipe(two, tmp_path, BM25={"type": "bm25", "k1": 1.2}), grows=True)
    assert "holds another experiment (retriever.k1 is 0.9 there, 1.2 here)" in capsys.readouterr().err


def test_a_retriever_in_python_does_not_pass_for_the_block_of_a_recipe_that_ended(two, tmp_path):
    run(suite, recipe(two, tmp_path, BM25="bm25"), grows=True)
    with pytest.raises(ValueError, match="holds another experiment"):
        suite(two, {"BM25": BM25(k1=1.2)}, out=tmp_path / "out")


def test_equal_blocks_search_once_on_each_task(two, tmp_path, monkeypatch):
    searched, plain = [], BM25.retrieve
    monkeypatch.setattr(BM25, "retrieve", lambda self, *asked: searched.append(self) or plain(self, *asked))
    fused = {"type": "reciprocal_rank", "retrievers": ["bm25", {"type": "bm25", "k1": 1.2}], "depth": 3}
    feedback = {"type": "feedback", "source": "bm25", "model": "rm3", "depth": 2}
    run(suite, recipe(two, tmp_path, BM25="bm25", fused=fused, feedback=feedback), grows=True)
    assert len(searched) == 2 * 3  # BM25, its other k1, and the second pass of feedback


def refused(kind, says, *arguments, **settings):
    with pytest.raises(kind, match=says):
        suite(*arguments, **settings)


def test_an_unknown_task_is_refused_with_those_there_are(two):
    refused(ValueError, re.escape("only: no task 'twoo' in this suite; it has one, two. Did you mean two?"), two,
            systems(), only=["twoo"])  # fmt: skip
    refused(ValueError, "only: name at least one of one, two", two, systems(), only=[])


def test_no_retrievers_are_refused(two):
    refused(ValueError, "retrievers: name at least one", two, {})


def test_a_suite_without_tasks_is_refused():
    refused(ValueError, "suite: it has no tasks", Tasks([]), systems())


def test_two_tasks_of_one_name_are_refused(two, tmp_path):
    paths = [two.paths[0], collection(tmp_path / "other" / "one")]
    refused(ValueError, "two of its tasks are named 'one'", Folders(paths), systems())


@pytest.mark.parametrize("name", ["a/b", "", ".", "..", "results.json", "manifest.json"])
def test_a_name_that_cannot_be_a_folder_is_refused(two, name):
    refused(ValueError, f"retrievers: {re.escape(repr(name))} cannot name a folder", two, {name: Table(GOOD)})


def test_a_task_with_a_slash_is_refused(two):
    task = Task("a/b", two.tasks()[0].dataset)
    refused(ValueError, "suite: 'a/b' cannot name a folder", Tasks([task]), systems())


def test_a_baseline_that_is_no_system_is_refused(two):
    refused(ValueError, "baseline 'best' is none of the retrievers: good, bad", two, systems(), baseline="best")


def test_absent_data_is_named_before_anything_runs(two, tmp_path):
    retrievers = systems()
    wanted = Folders([*two.paths, str(tmp_path / "gone"), str(tmp_path / "lost")])
    says = r"the data of 2 of 4 tasks is not there \(missing: skip runs the others.*gone: no collection.*lost: no coll"
    refused(FileNotFoundError, says, wanted, retrievers, out=tmp_path / "out")
    assert retrievers["good"].depths == [] and not (tmp_path / "out").exists()


def test_absent_data_that_is_skipped_is_listed_and_makes_no_average(two, tmp_path, capsys):
    wanted = Folders([*two.paths, str(tmp_path / "gone")])
    results = suite(wanted, systems(), missing="skip")
    assert list(results["tasks"]) == ["one", "two"] and list(results["not run"]) == ["gone"]
    assert results["averages"] == {} and list(results["no average, for lack of tasks"].values()) == [["gone"]]
    shown = capsys.readouterr().out
    assert (
        "not run, as their data is not there: gone (gone: no collection" in shown and "no mean: all lacks gone" in shown
    )


def test_where_no_data_is_there_at_all_skipping_does_not_help(tmp_path):
    says = "the data of 1 of 1 tasks is not there: gone"
    refused(FileNotFoundError, says, Folders([str(tmp_path / "gone")]), systems(), missing="skip")


def test_a_cell_of_another_retriever_is_refused_before_any_work(two, tmp_path):
    suite(two, {"good": Table(GOOD, "good")}, only=["two"], out=tmp_path / "out")
    other = Table(BAD, "good")
    says = r"out/good/two holds another experiment \(.*retriever.*found.*there.*here.*name another folder with out="
    refused(ValueError, says, two, {"good": other}, out=tmp_path / "out")
    assert other.depths == []


class Scorer:
    """A reranker, of which only these weights are known."""

    def __init__(self, weights):
        self.weights = weights

    def contract(self):
        return {"weights": self.weights}

    def score(self, pairs):
        return np.zeros(len(list(pairs)), np.float32)


def test_a_cell_of_a_reranker_trained_again_in_its_folder_is_refused(two, tmp_path):
    (tmp_path / "out").mkdir()
    under_way = {"status": "running", "recipe": {"retrievers": {"r": {"type": "rerank"}}}}
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(under_way))
    suite(two, {"r": Rerank(BM25(), Scorer("first"))}, out=tmp_path / "out")
    again = {"r": Rerank(BM25(), Scorer("second"))}
    refused(ValueError, r"other models.0.weights is .first. there, .second. here", two, again, out=tmp_path / "out")


def test_a_cell_of_other_data_is_refused(two, tmp_path):
    suite(two, systems(), out=tmp_path / "out")
    with open(tmp_path / "two" / "qrels" / "test.tsv", "a") as file:
        file.write("q0\tc\t1\n")
    refused(
        ValueError, r"out/good/two holds another experiment \(data.qrels.test", two, systems(), out=tmp_path / "out"
    )


def test_a_cell_of_another_depth_is_refused(two, tmp_path):
    suite(two, systems(), out=tmp_path / "out")
    refused(ValueError, r"\(k is 3 there, 2 here\)", Folders(two.paths, k=2, measures=("R@1",)), systems(),
            out=tmp_path / "out")  # fmt: skip


def test_damaged_figures_are_refused(two, tmp_path):
    suite(two, systems(), out=tmp_path / "out")
    (tmp_path / "out" / "bad" / "one" / "cell.json").write_text("{")
    refused(
        ValueError, "out/bad/one/cell.json is damaged.*; delete .*out/bad/one", two, systems(), out=tmp_path / "out"
    )


def test_a_folder_of_something_else_is_no_cell(two, tmp_path):
    (tmp_path / "out" / "good" / "one").mkdir(parents=True)
    (tmp_path / "out" / "good" / "one" / "notes.txt").write_text("mine")
    refused(ValueError, "out/good/one holds 'notes.txt' and no manifest.json", two, systems(), out=tmp_path / "out")


def test_a_split_that_is_not_there_names_its_task(two):
    refused(ValueError, "one: one has no split 'dev'", Folders(two.paths, split="dev"), systems())


def test_a_measure_deeper_than_what_is_retrieved_is_refused(two):
    refused(ValueError, "one: R@100 looks deeper than the 3 results", two, systems(), measures=["R@100"])


def test_an_unknown_measure_names_its_task(two):
    refused(ValueError, "one: unknown measure 'ndgc@10'", two, systems(), measures=["ndgc@10"])
