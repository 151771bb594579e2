"""Why two results differ: what their manifests do not share, the likeliest cause first."""

from __future__ import annotations

import copy
import io
import json

import pytest
from rich.console import Console

from retrieval.cli import run
from retrieval.collection import write_collection
from retrieval.compare import compare, run_or_why
from retrieval.search import search
from retrieval.why import ABSENT, why
from retrieval.why_report import print_why

WHOLE = {
    "status": "finished",
    "verb": "search",
    "recipe": {
        "dataset": {"type": "beir", "name": "scifact"},
        "retriever": {"type": "dense", "encoder": {"type": "transformer", "query_prompt": "query: "}, "depth": 100},
        "split": "test",
        "seed": 0,
        "out": "a",
    },
    "git": {"commit": "c0ffee", "dirty": False, "diff": None},
    "python": "3.11.7",
    "platform": "Linux-6",
    "packages": {"torch": "2.9.0+cpu", "numpy": "2.4.6", "transformers": "5.17.0"},
    "hardware": {"cpu": "AMD", "gpus": [], "memory_bytes": 1},
    "environment": {"OMP_NUM_THREADS": "1"},
    "made_of": {"dataset": {"corpus": "5b" * 32, "folder": "/data/scifact"}, "retriever": {"depth": 100}},
    "results": {"dense": {"mean": {"nDCG@10": 0.5, "R@100": 0.25}, "cost": {"seconds per query": 0.1}}, "seconds": 3.5},
}


@pytest.fixture
def beside(tmp_path):
    """Compare WHOLE with what a function makes of a copy of it."""

    def write(change):
        other = copy.deepcopy(WHOLE)
        change(other)
        for name, manifest in (("a", WHOLE), ("b", other)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
        return why(tmp_path / "a", tmp_path / "b")

    return write


def put(path, value):
    """A change of the value at a dotted path."""

    def change(manifest):
        *places, last = path.split("/")
        for place in places:
            manifest = manifest[place]
        manifest[last] = value

    return change


def changed(**values):
    def change(manifest):
        for path, value in values.items():
            put(path, value)(manifest)

    return change


def listed(found):
    return {group: [one.key for one in facts] for group, facts in found.causes.items()}


def shown(found, width=120):
    written = io.StringIO()
    print_why(found, Console(file=written, width=width, highlight=False))
    return written.getvalue()


@pytest.mark.parametrize(
    ("path", "value", "group", "key"),
    [
        ("recipe/dataset/name", "nfcorpus", "data", "dataset.name"),
        ("recipe/split", "dev", "data", "split"),
        ("made_of/dataset/corpus", "77" * 32, "data", "dataset.corpus"),
        ("recipe/retriever/encoder/query_prompt", "", "prompt", "retriever.encoder.query_prompt"),
        ("recipe/retriever/encoder/type", "promptreps", "model", "retriever.encoder.type"),
        ("recipe/retriever/depth", 10, "model", "retriever.depth"),
        ("recipe/seed", 1, "model", "seed"),
        ("git/commit", "decaf", "code", "commit"),
        ("git/diff", "0123", "code", "uncommitted changes"),
        ("verb", "train", "code", "verb"),
        ("packages/torch", "2.9.1+cpu", "packages", "torch"),
        ("python", "3.12.1", "packages", "python"),
        ("hardware/gpus", ["H200"], "hardware", "gpus"),
        ("platform", "Linux-7", "hardware", "platform"),
        ("environment/OMP_NUM_THREADS", "8", "hardware", "OMP_NUM_THREADS"),
    ],
)
def test_every_difference_stands_in_its_group_with_both_values(beside, path, value, group, key):
    found = beside(put(path, value))
    assert listed(found) == {group: [key]}
    one = found.causes[group][0]
    before = WHOLE
    for place in path.split("/"):
        before = before[place]
    assert (one.a, one.b) == (before, value)


def test_a_prompt_or_data_come_before_a_model_and_a_model_before_versions(beside):
    found = beside(
        changed(
            **{
                "hardware/cpu": "Intel",
                "packages/numpy": "2.4.7",
                "packages/torch": "3.0.0",
                "git/commit": "decaf",
                "recipe/retriever/depth": 10,
                "recipe/retriever/encoder/type": "api",
                "recipe/retriever/encoder/query_prompt": "",
                "made_of/dataset/corpus": "77" * 32,
            }
        )
    )
    assert list(found.causes) == ["data", "prompt", "model", "code", "packages", "hardware"]
    assert listed(found)["model"] == ["retriever.encoder.type", "retriever.depth"]
    assert listed(found)["packages"] == ["torch", "numpy"]  # a major version before a patch


def test_another_gpu_comes_before_a_patch_version(beside):
    found = beside(changed(**{"packages/numpy": "2.4.7", "hardware/gpus": ["H200"]}))
    assert list(found.causes) == ["hardware", "packages"]


def test_a_build_of_the_same_version_is_a_patch_and_a_package_that_one_lacks_is_not(beside):
    def change(manifest):
        manifest["packages"]["torch"] = "2.9.0+cu128"
        del manifest["packages"]["transformers"]

    found = beside(change)
    assert listed(found) == {"packages": ["transformers", "torch"]}
    assert found.causes["packages"][0].b == ABSENT


def test_what_a_component_repeats_of_the_recipe_is_listed_once(beside):
    found = beside(changed(**{"recipe/retriever/depth": 10, "made_of/retriever/depth": 10}))
    assert listed(found) == {"model": ["retriever.depth"]}


def test_where_files_lie_and_when_is_no_cause(beside):
    moved = {"recipe/out": "b", "made_of/dataset/folder": "/other", "started": "now", "made_of/retriever/index": "/new"}
    found = beside(changed(**moved))
    assert found.causes == {} and found.results == []


def test_a_setting_that_came_later_and_is_off_is_no_difference(beside):
    assert beside(put("recipe/retriever/new", None)).causes == {}


def test_counts_of_what_happened_are_no_cause(beside):
    assert beside(put("made_of/retriever/truncated documents", 3)).causes == {}


def test_figures_that_differ_are_listed_and_times_are_not(beside):
    found = beside(changed(**{"results/dense/mean/R@100": 0.5, "results/seconds": 9, "git/commit": "decaf"}))
    assert [(one.key, one.a, one.b) for one in found.results] == [("mean.R@100", 0.25, 0.5)] and found.figures == 2
    assert "mean.R@100" in shown(found) and "+0.25" in shown(found)


def test_the_only_system_of_each_is_compared_whatever_its_name(beside):
    def rename(manifest):
        manifest["results"]["MiniLM"] = manifest["results"].pop("dense")
        manifest["results"]["MiniLM"]["mean"]["R@100"] = 0.75

    assert [one.key for one in beside(rename).results] == ["mean.R@100"]


def test_several_systems_are_compared_by_name(beside):
    def add(manifest):
        manifest["results"]["bm25"] = {"mean": {"nDCG@10": 0.1}}

    found = beside(add)
    assert found.figures == 0 and "no figure in common" in shown(found)


def test_two_equal_results_are_said_to_be_equal(beside):
    found = beside(lambda manifest: None)
    assert "the results are the same in all 2 figures" in shown(found) and "what is not" not in shown(found)


def test_causes_that_moved_nothing_are_said_to(beside):
    assert "the same in all 2 figures; none of this moved them" in shown(beside(put("git/commit", "decaf")))


def test_a_figure_that_moved_without_a_cause_is_said_to(beside):
    assert "nothing that the manifests hold differs" in shown(beside(put("results/dense/mean/R@100", 0.5)))


@pytest.mark.parametrize("section", ["git", "packages", "hardware", "environment", "made_of", "verb", "results"])
def test_a_manifest_of_an_older_version_is_read_and_what_it_lacks_is_stated(beside, section):
    def older(manifest):
        del manifest[section]
        manifest["recipe"]["split"] = "dev"

    found = beside(older)
    assert listed(found) == {"data": ["split"]}
    (line,) = found.unknown
    assert line.endswith(f"b has no {section}, as a manifest of an older version may: not compared")
    assert line in shown(found)


def test_a_run_that_did_not_finish_says_so(beside):
    def failed(manifest):
        del manifest["results"], manifest["made_of"]
        manifest["status"] = "failed"

    (line,) = beside(failed).unknown
    assert line.endswith("b has no made_of, results, as a manifest of a run that is failed may: not compared")


def test_sections_of_another_form_are_compared_all_the_same(beside):
    found = beside(changed(git=None, packages=["torch 2.9"], results=[0.5]))
    assert found.figures == 0 and {"code", "packages"} <= {*found.causes} and shown(found)


def test_digests_are_cut_and_long_values_are_folded(beside):
    text = shown(beside(changed(**{"made_of/dataset/corpus": "77" * 32, "recipe/split": "word " * 60})))
    assert "777777777777 " in text and "7" * 13 not in text and text.count("word") == 60
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "manifest.json is no manifest: it is not JSON"),
        ("[1]", "manifest.json is no manifest: it holds no recipe"),
        ('{"status": "finished"}', "manifest.json is no manifest: it holds no recipe"),
    ],
)
def test_what_is_no_manifest_is_refused_in_a_line(tmp_path, capsys, content, says):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(SystemExit) as stopped:
        run_or_why(compare, ["--why", str(tmp_path), str(tmp_path / "manifest.json")])
    error = capsys.readouterr().err
    assert stopped.value.code == 1 and says in error and len(error.splitlines()) == 1


def test_a_folder_without_a_manifest_is_refused_in_a_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_or_why(compare, ["--why", str(tmp_path), str(tmp_path)])
    assert f"no manifest.json at {tmp_path}: name a folder of results" in capsys.readouterr().err


@pytest.mark.parametrize("given", [[], ["a"], ["a", "b", "c"]])
def test_why_takes_two_results(given, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_or_why(compare, ["--why", *given])
    assert stopped.value.code == 1
    assert (
        f"--why takes two folders of results, or their manifests, and was given {len(given)}" in capsys.readouterr().err
    )


def test_two_searches_differ_by_what_was_changed_and_by_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    documents = [(name, "", f"{name} " * (n + 1) + "word") for n, name in enumerate(("cat", "dog", "bird"))]
    qrels = {"test": {"q": {"cat": 1}, "r": {"dog": 1}}}
    write_collection(tmp_path / "toy", documents, {"q": "cat word", "r": "bird word"}, qrels)
    (tmp_path / "recipe.yaml").write_text("dataset: {type: folder, path: toy}\nretriever: bm25\nmeasures: [RR]\n")
    run(search, ["recipe.yaml", "out=a"])
    run(search, ["recipe.yaml", "out=b", "retriever.b=0", "k=1"])
    capsys.readouterr()
    run_or_why(compare, ["--why", "a", "b/manifest.json"])
    text = capsys.readouterr().out
    assert "retriever.b" in text and "│   k " in text and "mean.RR" in text
    assert not any(group in text for group in ("data ", "prompt", "packages", "hardware"))
