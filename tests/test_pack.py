"""Bundles of results: what is in them, whether they verify, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile

import pytest

from retrieval import pack as packing
from retrieval import replay as replaying
from retrieval.bundle import read_bundle, write_bundle
from retrieval.cli import run
from retrieval.collection import write_collection
from retrieval.doctor import doctor
from retrieval.evaluate import evaluate
from retrieval.pack import pack
from retrieval.replay import replay
from retrieval.search import search
from retrieval.store import USED, GenerationStore, read_keys
from retrieval.types import Generation

DOCUMENTS = [
    ("a", "", "otter harbour"),
    ("b", "", "comet library otter"),
    ("c c", "", "violin kitchen"),
    ("d", "", "teapot"),
]
QUERIES = {"q": "otter", "r": "library", "s": "nowhere"}
JUDGED = {"test": {"q": {"a": 2, "b": 1}, "r": {"b": 1}, "s": {"c c": 1}}}
BM25 = "dataset: {type: folder, path: toy}\nretriever: bm25\nmeasures: [nDCG@10, R@1]\n"
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


def made(folder, recipe=BM25, verb=search, *overrides):
    """Run a recipe; the folder of its results."""
    (folder / "recipe.yaml").write_text(recipe)
    run(verb, ["recipe.yaml", "out=found", *overrides])
    return folder / "found"


def packed(folder, recipe=BM25, **options):
    pack([made(folder, recipe)], folder / "b.zip", **options)
    return folder / "b.zip"


def statuses(checks):
    return {one.what: one.status for one in checks}


def details(checks, status):
    return " ".join(one.detail for one in checks if one.status == status)


def names(bundle):
    with zipfile.ZipFile(bundle) as file:
        return sorted(file.namelist())


def changed(bundle, name, change):
    """The bundle with another content of one file, and the digests as they were."""
    with zipfile.ZipFile(bundle) as file:
        held = {one: file.read(one) for one in file.namelist()}
    held[name] = change(held[name])
    with zipfile.ZipFile(bundle, "w") as file:
        for one, content in held.items():
            file.writestr(one, content)


def packed_again(bundle, name, change):
    """The bundle with another content of one file, and a digest that is right."""
    with zipfile.ZipFile(bundle) as file:
        held = {one: file.read(one) for one in file.namelist()}
    about = json.loads(held.pop("bundle.json"))
    held[name] = change(held[name])
    write_bundle(bundle, about["results"], held, about["toolkit"])


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


def test_a_changed_bundle_is_refused_with_the_file(here):
    bundle = packed(here)
    changed(bundle, "results/1-found/run.trec", lambda text: text + b"\n")
    with pytest.raises(ValueError, match=r"b.zip: results/1-found/run.trec is not what was packed"):
        replay(bundle)


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "a\\evil", "c:evil", "./evil", "a//evil", "manifest.json/"]
)
def test_names_that_lead_out_of_the_folder_are_refused_and_nothing_is_written(here, name):
    bundle = packed(here)
    with zipfile.ZipFile(bundle, "a") as file:
        file.writestr(name, b"x")
    with pytest.raises(ValueError, match="do not trust where it is from"):
        read_bundle(bundle, here / "inside" / "deep")
    assert not (here / "inside").exists() and not list(here.rglob("evil*"))


def test_links_and_repeated_names_are_refused(here):
    bundle = packed(here)
    link = zipfile.ZipInfo("results/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    shutil.copy(bundle, here / "linked.zip")
    with zipfile.ZipFile(here / "linked.zip", "a") as file:
        file.writestr(link, b"/etc/passwd")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(bundle, "a") as file:
        file.writestr("bundle.json", b"{}")
    for one in (bundle, here / "linked.zip"):
        with pytest.raises(ValueError, match="which no bundle does"):
            replay(one)


def test_files_that_the_bundle_does_not_name_or_lacks_are_refused(here):
    bundle = packed(here)
    shutil.copy(bundle, here / "more.zip")
    with zipfile.ZipFile(here / "more.zip", "a") as file:
        file.writestr("extra.txt", b"x")
    with pytest.raises(ValueError, match="holds, without a digest, extra.txt"):
        replay(here / "more.zip")
    with zipfile.ZipFile(bundle) as held, zipfile.ZipFile(here / "less.zip", "w") as file:
        for name in held.namelist():
            if not name.endswith(".trec"):
                file.writestr(name, held.read(name))
    with pytest.raises(ValueError, match="lacks results/1-found/run.trec"):
        replay(here / "less.zip")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("folder", "../../elsewhere", "names '../../elsewhere/manifest.json', which is not in it"),
        ("runs", {"bm25": ["../../run.trec"]}, "names '../../run.trec', which is not in it"),
        ("runs", {"bm25": []}, "has a result without name, verb or run"),
        ("qrels", {"file": "/etc/passwd"}, "names '/etc/passwd', which is not in it"),
        ("inputs", [{"file": "/etc/passwd"}], "names '/etc/passwd', which is not in it"),
        ("collection", {"folder": "/data"}, "names '/data/queries.jsonl', which is not in it"),
        ("generators", 3, "no bundle of retrieval.pack"),
    ],
)
def test_a_bundle_that_names_files_outside_itself_is_refused(here, key, value, said):
    bundle = packed(here)

    def led(text):
        about = json.loads(text)
        about["results"][0][key] = value
        return json.dumps(about).encode()

    changed(bundle, "bundle.json", led)
    with pytest.raises(ValueError, match=said):
        replay(bundle)


def test_what_is_no_bundle_or_a_newer_one_is_refused(here):
    (here / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match="no zip file, or damaged"):
        replay(here / "text.zip")
    with zipfile.ZipFile(here / "other.zip", "w") as file:
        file.writestr("a.txt", b"x")
    with pytest.raises(ValueError, match="no bundle of retrieval.pack"):
        replay(here / "other.zip")
    bundle = packed(here)
    changed(bundle, "bundle.json", lambda text: text.replace(b'"bundle": 1', b'"bundle": 2'))
    with pytest.raises(ValueError, match="a bundle of version 2, and 1 is read here"):
        replay(bundle)


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
