"""Bundles of results: what is in them, whether they verify, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import zipfile

import pytest

from retrieval import pack as packing
from retrieval import replay as replaying
from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.doctor import doctor
from retrieval.evaluate import evaluate
from retrieval.judgements import Judgement, Judgements, write_judgements
from retrieval.pack import pack
from retrieval.replay import replay
from retrieval.store import USED, GenerationStore, read_keys
from retrieval.tune import tune
from retrieval.types import Generation
from tests.bundles import BM25, DOCUMENTS, JUDGED, QUERIES, details, made, names, packed, packed_again, statuses

WRITTEN = """dataset: {type: folder, path: toy}
retriever:
  type: rewrite
  writer: {type: query2doc, generator: {type: "tests.test_pack:Model"}}
  retriever: bm25
baseline: bm25
"""


class Model:
    """Answers at once with a word that helps; where NO_MODEL is set it may not be asked."""

    def contract(self):
        return {"model": "m"}

    def generate(self, requests):
        if os.environ.get("NO_MODEL"):
            raise AssertionError("the model was asked")
        for place, _ in enumerate(requests):
            yield place, Generation("kitchen teapot", 5, 2)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a collection."""
    monkeypatch.chdir(tmp_path)
    write_collection(tmp_path / "toy", DOCUMENTS, QUERIES, JUDGED)
    return tmp_path


def test_a_bundle_verifies_to_the_digit_and_has_the_same_bytes_each_time(here):
    bundle = packed(here)
    assert names(bundle) == [
        "bundle.json",
        *(f"results/1-found/{one}" for one in ("manifest.json", "run.parquet", "run.trec")),
    ]
    checks = replay(bundle)
    assert statuses(checks) == {"run.trec is the run of bm25": "same", "bm25: mean": "same", "bm25: counts": "same"}
    first = bundle.read_bytes()
    os.utime(here / "found" / "run.trec", (1, 1))
    pack([here / "found"], bundle)
    assert bundle.read_bytes() == first


def test_baselines_and_their_tests_are_compared_too(here):
    checks = statuses(replay(packed(here, BM25 + "baseline: {type: bm25, k1: 2.0}\n")))
    assert {"baseline: mean", "bm25: paired t-test"} <= {*checks} and set(checks.values()) == {"same"}


def test_a_figure_that_the_run_does_not_give_differs_with_both(here):
    bundle = packed(here)

    def better(text):
        manifest = json.loads(text)
        manifest["results"]["bm25"]["mean"]["R@1"] = 0.99
        return json.dumps(manifest).encode()

    packed_again(bundle, "results/1-found/manifest.json", better)
    checks = replay(bundle)
    assert statuses(checks)["bm25: mean"] == "differs" and "R@1 0.99 there, 0.5 here" in details(checks, "differs")


def test_a_run_that_was_changed_differs_from_its_figures(here):
    bundle = packed(here)
    packed_again(bundle, "results/1-found/run.trec", lambda text: text.replace(b"q Q0 b", b"q Q0 d"))
    checks = replay(bundle)
    assert statuses(checks)["run.trec is the run of bm25"] == "differs"
    assert "1 of 3 queries, 1 in documents or order" in details(checks, "differs")


def test_folders_without_finished_results_are_refused(here):
    with pytest.raises(ValueError, match="toy has no manifest.json, nor has a folder in it"):
        pack([here / "toy"], here / "b.zip")
    folder = made(here)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    with pytest.raises(ValueError, match=r"is not finished \(running\): run its recipe again"):
        pack([folder], here / "b.zip")
    del manifest["results"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="has no results: it is of an older version"):
        pack([folder], here / "b.zip")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="manifest.json is damaged"):
        pack([folder], here / "b.zip")
    assert not (here / "b.zip").exists()


def test_a_manifest_of_an_older_version_verifies_as_far_as_it_tells(here):
    folder = made(here)
    manifest = json.loads((folder / "manifest.json").read_text())
    kept = {key: manifest[key] for key in ("status", "verb", "recipe", "results")}
    del kept["results"]["bm25"]["counts"], kept["recipe"]["explain"]
    (folder / "manifest.json").write_text(json.dumps(kept))
    pack([folder], here / "b.zip")
    assert statuses(replay(here / "b.zip")) == {"run.trec is the run of bm25": "same", "bm25: mean": "same"}


def test_results_without_runs_are_refused(here):
    folder = made(here, "dataset: {type: folder, path: toy}\n", doctor)
    with pytest.raises(ValueError, match=r"holds no figures of a run \(doctor\)"):
        pack([folder], here / "b.zip")


def test_an_unknown_collection_is_not_verified_unless_its_judgements_are_packed(here):
    bundle = packed(here)
    pack([here / "found"], here / "judged.zip", qrels=True)
    assert "results/1-found/qrels.trec" in names(here / "judged.zip")
    shutil.rmtree(here / "toy")
    checks = replay(bundle)
    assert statuses(checks) == {"figures": "not verified"}
    assert "no judgements in the bundle nor here: no collection" in details(checks, "not verified")
    assert {*statuses(replay(here / "judged.zip")).values()} == {"same"}
    with pytest.raises(FileNotFoundError, match="no collection"):
        pack([here / "found"], bundle)


def test_other_judgements_are_told_when_packing_and_when_replaying(here):
    bundle = packed(here)
    (here / "toy" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\n")
    assert "other judgements here" in details(replay(bundle), "not verified")
    with pytest.raises(ValueError, match=r"was measured on other judgements than .*test.tsv holds now"):
        pack([here / "found"], bundle)


def test_choices_are_packed_with_the_judgements_that_they_are_tested_on(here):
    judged = {"test": JUDGED["test"], "dev": {"t": {"d": 1}, "u": {"a": 1}}}
    write_collection(here / "more", DOCUMENTS, QUERIES | {"t": "teapot", "u": "harbour"}, judged)
    recipe = (
        "dataset: {type: folder, path: more}\nretriever: bm25\nchoices: {k1: [0.9, 2.0]}\nsplit: dev\nbound: true\n"
    )
    results = pack([made(here, recipe, tune)], here / "b.zip")
    assert results[0]["qrels"]["split"] == "test" and [*results[0]["runs"]] == ["defaults", "tuned"]
    checks = statuses(replay(here / "b.zip"))
    assert {"defaults: mean", "tuned: mean", "tuned: paired t-test"} <= {*checks} and {*checks.values()} == {"same"}


def test_names_with_colons_are_packed_as_a_bundle_may_have_them(here):
    made(here)
    (here / "found").rename(here / "searched")
    (here / "searched" / "run.trec").rename(here / "searched" / "BM25:k1.trec")
    recipe = 'dataset: {type: folder, path: toy}\nruns: {one: "searched/BM25:k1.trec"}\n'
    (results,) = pack([made(here, recipe, evaluate)], here / "b.zip")
    assert results["runs"]["one"] == ["results/1-found/inputs/1-BM25%3Ak1.trec"]
    assert {*statuses(replay(here / "b.zip")).values()} == {"same"}


def test_texts_do_not_go_with_judgements_that_are_not_in_their_folder(here):
    collection = Folder("toy").open()
    about = {"corpus": collection.corpus.fingerprint, "split": "test"}
    write_judgements(Judgements("M", about, [Judgement("q", "a", 3, "3")]), here / "j.jsonl")
    recipe = BM25.replace("{type", "{type: model_judged, judgements: j.jsonl, dataset: {type", 1).replace(
        "toy}", "toy}}"
    )
    folder = made(here, recipe)
    pack([folder], here / "b.zip")
    assert {*statuses(replay(here / "b.zip", rerun=True)).values()} == {"same"}
    with pytest.raises(ValueError, match="the judgements of toy, judged by M are not those in its folder"):
        pack([folder], here / "b.zip", texts=True)


def test_files_are_packed_that_arguments_are_paths_of_and_none_that_is_called_like_a_value(here):
    (here / "test").write_text("of the user")  # like the split
    (here / "own.txt").write_text("# own 1\n[user]\nSay {query}.\n")
    folder = made(here, WRITTEN.replace("{type: query2doc,", "{type: query2doc, prompt: own.txt,"))
    (one,) = pack([folder], here / "b.zip")
    assert [tuple(given["place"]) for given in one["inputs"]] == [("retriever", "writer", "prompt")]
    assert {*statuses(replay(here / "b.zip", rerun=True)).values()} == {"same"}


def test_every_point_of_a_grid_is_packed(here):
    folder = made(here, BM25 + "grid:\n  retriever.k1: [0.9, 2.0]\n")
    results = pack([folder], here / "b.zip")
    assert [one["folder"] for one in results] == ["results/1-retriever.k1=0.9", "results/2-retriever.k1=2.0"]
    assert {*statuses(replay(here / "b.zip")).values()} == {"same"}


def test_run_files_that_an_evaluation_names_are_packed_and_must_be_what_they_were(here):
    made(here)
    (here / "found").rename(here / "searched")
    recipe = "dataset: {type: folder, path: toy}\nruns: {one: searched/run.trec}\nmeasures: [AP]\n"
    folder = made(here, recipe, evaluate)
    results = pack([folder], here / "b.zip")
    assert results[0]["runs"]["one"] == ["results/1-found/inputs/1-run.trec"]
    assert statuses(replay(here / "b.zip")) == {"one: mean": "same", "one: counts": "same"}
    (here / "searched" / "run.trec").write_text("q Q0 a 1 1 x\n")
    with pytest.raises(ValueError, match="is not what .* was made with"):
        pack([folder], here / "b.zip")


def test_answers_that_were_used_are_written_down_and_no_others_are_packed(here):
    GenerationStore().keep("{}", _request("another question"), Generation("x", 1, 1), 0.1)
    folder = made(here, WRITTEN)
    assert len(read_keys(folder / USED)) == 3
    results = pack([folder], here / "b.zip")
    (answers,) = results[0]["generators"]
    assert answers["place"] == ["retriever", "writer", "generator"]
    with zipfile.ZipFile(here / "b.zip") as file:
        records = [json.loads(line) for line in file.read(answers["file"]).splitlines()]
    assert [one["text"] for one in records] == ["kitchen teapot"] * 3
    assert {json.dumps(one["model"]) for one in records} == {'{"model": "m"}'}


def _request(text):
    from retrieval.sampling import Request

    return Request(prompt=text)


def test_answers_that_are_gone_are_told_and_may_be_left_out(here, monkeypatch):
    folder = made(here, WRITTEN)
    monkeypatch.setenv("RETRIEVAL_CACHE", str(here / "another"))
    with pytest.raises(ValueError, match=r"3 of 3 answers that .* was made with are not in .*generations.sqlite"):
        pack([folder], here / "b.zip")
    (one,) = pack([folder], here / "b.zip", generations=False)
    assert one["left out"] == ["answers of language models: as asked; a rerun asks the model"]
    (folder / USED).unlink()
    (one,) = pack([folder], here / "b.zip")
    assert "results name no answers" in one["left out"][0]


def test_a_rerun_gives_the_same_without_the_model_and_without_the_collection(here, monkeypatch):
    (here / "found" / "more").mkdir(parents=True)
    shutil.rmtree(here / "found")
    folder = made(here, WRITTEN)
    (folder / "notes.txt").write_text("mine")
    (one,) = pack([folder], here / "b.zip", texts=True)
    assert one["left out"] == ["notes.txt, 4 bytes"]
    shutil.rmtree(here / "toy")
    monkeypatch.setenv("NO_MODEL", "1")
    checks = replay(here / "b.zip", rerun=True)
    again = {one.what: one.status for one in checks if one.what.startswith("rerun")}
    assert {*again.values()} == {"same"}, [one for one in checks if one.status != "same"]
    assert {"rerun: run of bm25", "rerun: bm25: mean"} <= {*again} and len(again) >= 5


def test_a_rerun_on_another_corpus_or_without_data_is_not_verified(here):
    bundle = packed(here, qrels=True)
    with open(here / "toy" / "corpus.jsonl", "a") as file:
        file.write('{"_id": "e", "title": "", "text": "new"}\n')
    assert "another corpus here" in details(replay(bundle, rerun=True), "not verified")
    shutil.rmtree(here / "toy")
    checks = replay(bundle, rerun=True)
    assert statuses(checks)["rerun"] == "not verified" and statuses(checks)["bm25: mean"] == "same"


def test_the_commands_print_and_exit_by_what_came_out(here, capsys):
    made(here)
    packing.main(["found", "out=b.zip", "qrels=true"])
    assert "licences of their own" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        replaying.main(["b.zip"])
    assert "3 same, 0 differs, 0 not verified" in capsys.readouterr().out
    packing.main(["found", "out=b.zip"])
    shutil.rmtree(here / "toy")
    with pytest.raises(SystemExit, match="1"):
        replaying.main(["b.zip"])


@pytest.mark.parametrize(
    ("main", "arguments", "said"),
    [
        (packing.main, ["found"], "usage: python -m retrieval.pack"),
        (packing.main, ["out=b.zip"], "usage: python -m retrieval.pack"),
        (packing.main, ["found", "out=b.zip", "qrel=true"], "qrel=true: no such option"),
        (packing.main, ["found", "out=b.zip", "qrels=yes"], "qrels=yes: no such option"),
        (replaying.main, [], "usage: python -m retrieval.replay"),
        (replaying.main, ["b.zip", "--rerun"], "usage: python -m retrieval.replay"),
        (replaying.main, ["missing.zip"], "missing.zip"),
    ],
)
def test_wrong_calls_are_a_line_and_exit_1(here, capsys, main, arguments, said):
    with pytest.raises(SystemExit, match="1"):
        main(arguments)
    assert said in capsys.readouterr().err
