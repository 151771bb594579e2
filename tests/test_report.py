"""The verb that makes a page of run files and result folders: figures, costs, training curves, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from eval import evaluate
from retrieval.cli import run
from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.expected import head, read_expected
from retrieval.report import report
from retrieval.run_file import read_run, write_run
from retrieval.search import search
from retrieval.verbs import verb_of
from tests.tables import Table

DOCUMENTS = [(name, "", f"text of {name}") for name in "abcd"]
JUDGED = {"test": {"q1": {"a": 2, "b": 1}, "q2": {"c": 1}}}
GOOD, BAD = {"q1": {"a": 2, "b": 1}, "q2": {"c": 1}}, {"q1": {"d": 3, "a": 2, "b": 1}}


@pytest.fixture
def dataset(tmp_path):
    write_collection(tmp_path / "toy", DOCUMENTS, [("q1", "who is a"), ("q2", "who is c")], JUDGED)
    return Folder(str(tmp_path / "toy"))


@pytest.fixture
def runs(dataset, tmp_path):
    """Files of a search for good and bad."""
    search(dataset, Table(GOOD, "good"), k=3, baseline=Table(BAD, "bad"), out=tmp_path / "searched")
    return {"good": tmp_path / "searched" / "run.trec", "bad": tmp_path / "searched" / "baseline.parquet"}


def held(out: Path):
    page = (out / "report.html").read_text("utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_the_pictures_and_the_results_hold_the_figures_of_the_runs(dataset, runs, tmp_path, capsys):
    found = report(dataset, runs, measures=["nDCG@10", "R@1"], baseline="bad", out=tmp_path / "out")
    systems = held(tmp_path / "out")["tasks"][0]["systems"]
    for name, shown in zip(runs, systems, strict=True):
        mean = evaluate(read_run(runs[name]), dataset.open().qrels("test"), ["nDCG@10", "R@1"]).mean
        assert found[name]["mean"] == mean and shown["mean"] == list(mean.values()) and shown["name"] == name
    assert found["good"]["paired t-test"]["R@1"]["wins"] == 2
    assert (tmp_path / "out" / "plots" / "differences.svg").is_file() and "report.html" in capsys.readouterr().out


def test_texts_of_queries_and_documents_come_from_the_collection(dataset, runs, tmp_path):
    report(dataset, runs, out=tmp_path / "out")
    kept = held(tmp_path / "out")["tasks"][0]["embedded"]
    assert {one["text"] for one in kept["queries"]} == {"who is a", "who is c"}
    assert set(zip(kept["documents"]["ids"], kept["documents"]["texts"], strict=True)) == {
        (name, text) for name, _, text in DOCUMENTS
    }


def test_a_document_that_the_corpus_lacks_has_no_text(dataset, tmp_path):
    (tmp_path / "other.trec").write_text("q1 Q0 elsewhere 1 2.0 other\n")
    report(dataset, {"other": tmp_path / "other.trec"}, out=tmp_path / "out")
    documents = held(tmp_path / "out")["tasks"][0]["embedded"]["documents"]
    assert documents["texts"][documents["ids"].index("elsewhere")] == ""


def test_cost_and_making_come_from_the_manifest_beside_a_run(dataset, runs, tmp_path):
    results = {"good": {"cost": {"seconds per query": 0.25}, "index": {"bytes per vector": 96.0, "type": "flat"}}}
    about = {
        "verb": "search",
        "recipe": {"k": 3},
        "results": results | {"baseline": {"cost": {"seconds per query": 0.5}}},
    }
    (tmp_path / "searched" / "manifest.json").write_text(json.dumps(about))
    report(dataset, runs, out=tmp_path / "out")
    data = held(tmp_path / "out")
    costs = [system["cost"] for system in data["tasks"][0]["systems"]]
    assert costs == [{"seconds per query": 0.25, "bytes per vector": 96.0}, {"seconds per query": 0.5}]
    assert [one["verb"] for one in data["manifests"]] == ["search", "search"]


@pytest.mark.parametrize(
    "about", ["[1]", "no JSON", '{"recipe": {}, "results": [2]}', '{"recipe": {}, "results": {"good": 1}}']
)
def test_a_file_that_is_no_manifest_or_an_older_one_tells_no_cost(dataset, runs, tmp_path, about):
    (tmp_path / "searched" / "manifest.json").write_text(about)
    report(dataset, runs, out=tmp_path / "out")
    data = held(tmp_path / "out")
    assert [system["cost"] for system in data["tasks"][0]["systems"]] == [{}, {}]
    assert len(data["manifests"]) == (2 if "recipe" in about else 0)


def test_a_folder_stands_for_the_run_it_holds_and_gives_the_training_curves_of_a_trained_one(dataset, runs, tmp_path):
    trained = tmp_path / "made"
    write_run(read_run(runs["good"]), trained / "trained.parquet")
    (trained / "training.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    report(dataset, {"searched": tmp_path / "searched", "trained": trained}, out=tmp_path / "out")
    data = held(tmp_path / "out")
    assert data["training"][0]["series"] == {"trained": [[1, 2]]}
    assert [one["name"] for one in data["tasks"][0]["systems"]] == ["searched", "trained"]


def test_a_run_may_lie_below_the_folder_of_data(dataset, runs, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    assert report(dataset, {"good": Path("searched/run.trec")})["good"]["counts"]["judged queries"] == 2


def test_what_cannot_be_reported_is_refused(dataset, runs, tmp_path):
    with pytest.raises(ValueError, match="runs: name at least one run file"):
        report(dataset, {})
    with pytest.raises(ValueError, match="baseline 'best' is none of the runs: good, bad"):
        report(dataset, runs, baseline="best")
    with pytest.raises(FileNotFoundError, match=r"no run at .*absent\.trec"):
        report(dataset, {"absent": tmp_path / "absent.trec"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty has none of run\.parquet.*it holds no run"):
        report(dataset, {"empty": tmp_path / "empty"})


def test_every_look_at_the_test_set_is_counted(dataset, runs, capsys):
    looks = [report(dataset, runs)["looks"]["looks"] for _ in range(2)]
    assert looks[1] == looks[0] + 1 and f"look {looks[1]} at this test set" in capsys.readouterr().out
    with pytest.raises(ValueError, match="runs: name another so, looks is taken"):
        report(dataset, {"looks": runs["good"]})


@pytest.mark.parametrize("year", ["19", "20"])
def test_the_recipes_of_trec_dl_give_the_figures_their_first_lines_name(data, tmp_path, year):
    config = Path(__file__).parent.parent / "configs" / "report" / f"trec-dl-pool-dl{year}.yaml"
    assert verb_of(config) is report
    expected = read_expected(head(config))
    found = run(report, [str(config), f"out={tmp_path / 'out'}"])
    means = {name: one["mean"] for name, one in found.items() if name != "looks"}
    assert len(expected) == 3
    for one in expected:
        (own,) = [mean for name, mean in means.items() if name.casefold() in one.whose]
        assert one.agrees(own[one.measure])
    data_of_page = held(tmp_path / "out")
    shown = {one["name"]: one["mean"][0] for one in data_of_page["tasks"][0]["systems"]}
    assert shown == {name: mean["nDCG@10"] for name, mean in means.items()}
    assert data_of_page["title"] == f"TREC DL 20{year}, six systems on all of MS MARCO"
