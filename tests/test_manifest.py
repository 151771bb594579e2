"""A run folder belongs to one experiment, and its manifest says what the result was made of."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from retrieval import environment
from retrieval.environment import git_state, packages
from retrieval.manifest import Manifest, earlier, one_line

RECIPE = {"k": 3, "retriever": {"type": "bm25", "k1": 0.9, "seed": 7}, "out": "a"}


def start(folder, recipe=RECIPE, **more):
    return Manifest.start(folder, "search", recipe, "python -m retrieval.search r.yaml", **more)


def read(folder):
    return json.loads((folder / "manifest.json").read_text())


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_a_run_is_recorded_when_it_starts_and_when_it_has_ended(tmp_path):
    manifest = start(tmp_path / "run", point={"k": 3})
    running = read(tmp_path / "run")
    assert running["status"] == "running"
    manifest.finish({"nDCG@10": np.float32(0.5), "folder": tmp_path}, {"dataset": {"corpus": "abc"}})
    finished = read(tmp_path / "run")
    assert finished["status"] == "finished"
    assert finished["results"] == {"nDCG@10": 0.5, "folder": tmp_path.as_posix()}
    assert finished["made_of"] == {"dataset": {"corpus": "abc"}}
    assert finished["started"] == running["started"] and finished["started"].endswith("+00:00")
    assert finished["wall_seconds"] >= 0 and finished["ended"] >= finished["started"]
    assert finished["seeds"] == {"retriever.seed": 7}
    assert finished["point"] == {"k": 3}
    assert finished["recipe"] == RECIPE and finished["verb"] == "search"
    assert {"command", "git", "packages", "python", "platform", "hardware", "environment"} <= {*finished}
    assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / "manifest.json"]


def test_a_failure_is_recorded_on_one_line(tmp_path):
    start(tmp_path).fail(ValueError("two\nlines"))
    assert (read(tmp_path)["status"], read(tmp_path)["error"]) == ("failed", "ValueError: two lines")
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_results_that_json_cannot_hold_are_refused_and_the_run_can_still_fail(tmp_path):
    manifest = start(tmp_path)
    with pytest.raises(TypeError, match="object .* cannot be written to manifest.json") as error:
        manifest.finish({"a": object()}, {})
    manifest.fail(error.value)
    assert read(tmp_path)["status"] == "failed"


def test_an_attempt_that_did_not_finish_is_kept_in_the_next(tmp_path):
    start(tmp_path).fail(ValueError("first"))
    start(tmp_path, before=earlier(tmp_path, "search", RECIPE)).fail(ValueError("second"))
    start(tmp_path, before=earlier(tmp_path, "search", RECIPE)).finish({}, {})
    assert [attempt["error"] for attempt in read(tmp_path)["attempts"]] == ["ValueError: first", "ValueError: second"]


def test_an_empty_folder_is_free_and_a_killed_writer_leaves_it_so(tmp_path):
    assert earlier(tmp_path / "none", "search", RECIPE) is None
    (tmp_path / ".manifest.json.123.part").touch()
    assert earlier(tmp_path, "search", RECIPE) is None


def test_the_same_experiment_is_found_wherever_its_results_are(tmp_path):
    start(tmp_path)
    found = earlier(tmp_path, "search", RECIPE | {"out": "b"})
    assert found is not None and found["status"] == "running"


def test_another_experiment_is_refused_with_what_differs(tmp_path):
    start(tmp_path)
    with pytest.raises(ValueError) as error:
        earlier(tmp_path, "search", {"k": 5, "retriever": {"type": "dense"}, "depth": [1]})
    assert str(error.value) == (
        f"{tmp_path} holds another experiment (k is 3 there, 5 here; "
        'retriever.type is "bm25" there, "dense" here; depth.0 is absent there, 1 here; '
        "retriever.k1 is 0.9 there, absent here; retriever.seed is 7 there, absent here); "
        f"name another folder with out=..., or delete {tmp_path}"
    )
    with pytest.raises(ValueError, match='verb is "search" there, "train" here'):
        earlier(tmp_path, "train", RECIPE)
    with pytest.raises(ValueError, match="and 15 more"):
        earlier(tmp_path, "search", RECIPE | {f"x{i}": i for i in range(20)})


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds 'thesis.tex' and no manifest.json.* out="):
        earlier(tmp_path, "search", RECIPE)
    with pytest.raises(ValueError, match="is a file"):
        earlier(tmp_path / "thesis.tex", "search", RECIPE)


@pytest.mark.parametrize("text", ['{"status": ', "[]", '{"status": "finished"}', '\xff{"'])
def test_a_damaged_manifest_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=rf"{tmp_path}/manifest\.json is (damaged|no manifest) .* out="):
        earlier(tmp_path, "search", RECIPE)


def test_only_the_first_process_of_a_job_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    start(tmp_path / "run").finish({}, {})
    assert not (tmp_path / "run").exists()


def test_the_code_is_its_commit_and_what_is_not_committed(tmp_path):
    git(tmp_path, "init")
    assert git_state(tmp_path) is None  # nothing is committed yet
    (tmp_path / "a.py").write_text("a = 1\n")
    (tmp_path / ".gitignore").write_text("venv/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "a")
    clean = git_state(tmp_path)
    assert clean is not None and len(clean["commit"]) == 40 and (clean["dirty"], clean["diff"]) == (False, None)
    (tmp_path / "result.json").touch()  # not code
    assert git_state(tmp_path) == clean
    (tmp_path / "new.py").write_text("b = 1\n")
    new = git_state(tmp_path)
    (tmp_path / "a.py").write_text("a = 2\n")
    changed = git_state(tmp_path)
    assert new is not None and changed is not None and new["dirty"] and changed["dirty"]
    assert len({clean["diff"], new["diff"], changed["diff"]}) == 3
    (tmp_path / "venv").mkdir()
    assert git_state(tmp_path / "venv") is None


def test_no_git_is_no_commit(tmp_path, monkeypatch):
    assert git_state(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(Path(__file__).parent) is None


def test_versions_and_variables_are_recorded_but_no_secrets(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("RETRIEVAL_DATA", "/secret/place")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert packages()["numpy"] == np.__version__
    found = environment.environment()
    assert (found["OMP_NUM_THREADS"], found["RETRIEVAL_DATA"]) == ("2", "set")
    assert "secret" not in json.dumps(found)
    assert environment.hardware()["memory_bytes"] > 0
