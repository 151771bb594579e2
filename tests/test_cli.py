"""The command line of a recipe: what it prints, where results go, what is run again and what is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from retrieval import protocols
from retrieval.cli import out_folder, run
from retrieval.config import load

CALLS: list[dict] = []  # of the recipe
BUILT: list[str] = []  # components


class Collection:
    """Three documents."""

    corpus = ("a", "b", "c")

    def splits(self):
        return ["dev", "test"]

    def counts(self, split):
        return {"queries": 2, "judgements": len(split)}

    def provenance(self):
        return {"documents": 3}


class Documents:
    """A dataset in memory."""

    def __init__(self, name: str = "three", broken: bool = False):
        BUILT.append(f"dataset {name}")
        self.name, self.broken = name, broken

    def open(self):
        if self.broken:
            raise FileNotFoundError(f"no {self.name}\nanywhere")
        return Collection()


class Planned:
    """An encoder that says what it would do."""

    def __init__(self, dim: int = 2):
        BUILT.append(f"encoder {dim}")
        self.dim = dim

    encode_queries = encode_docs = contract = lambda self, *texts: None

    def plan(self) -> str:
        return f"{self.dim} dimensions"

    def provenance(self):
        return {"dim": self.dim}


class Silent:
    """An encoder without a plan."""

    def __init__(self):
        raise AssertionError("built")

    encode_queries = encode_docs = contract = lambda self, *texts: None


def search(
    dataset: protocols.Dataset,
    encoder: protocols.Encoder | None = None,
    k: int = 10,
    fail: str = "",
    out: Path | None = None,
):
    """Search a dataset."""
    CALLS.append({"k": k, "out": out, "encoder": encoder})
    errors: dict[str, BaseException] = {
        "value": ValueError("bad\nvalue"),
        "file": FileNotFoundError(2, "No such file", "x"),
        "package": ImportError("pip install it"),
        "interrupt": KeyboardInterrupt(),
        "bug": KeyError("x"),
    }
    if fail in errors:
        raise errors[fail]
    return {"nDCG@10": k / 10}


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    """An empty working folder with configs/bm25/tiny.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RETRIEVAL_DEBUG", raising=False)
    Path("configs/bm25").mkdir(parents=True)
    Path("configs/bm25/tiny.yaml").write_text(f"dataset: {__name__}:Documents\n")
    CALLS.clear()
    BUILT.clear()


TINY = "configs/bm25/tiny.yaml"
ENCODER = f"encoder.type={__name__}:Planned"


def manifest(folder="runs/search/bm25/tiny"):
    return json.loads(Path(folder, "manifest.json").read_text())


def fails(code, *arguments):
    with pytest.raises(SystemExit) as stopped:
        run(search, list(arguments))
    assert stopped.value.code == code


# ---- running -----------------------------------------------------------------------------------------------------


def test_results_go_to_a_folder_named_after_the_recipe(capsys):
    assert run(search, [TINY, "k=5", ENCODER]) == {"nDCG@10": 0.5}
    assert CALLS[0]["out"] == Path("runs/search/bm25/tiny")
    assert manifest()["results"] == {"nDCG@10": 0.5}
    assert manifest()["made_of"] == {"dataset": {"documents": 3}, "encoder": {"dim": 2}}
    assert "runs/search/bm25/tiny: finished in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "overrides", "folder"),
    [
        ("configs/bm25/tiny.yaml", [], "runs/search/bm25/tiny"),
        ("a/configs/b/configs/c/x.yaml", [], "runs/search/c/x"),
        ("elsewhere/x.v2.yaml", [], "runs/search/x.v2"),
        ("elsewhere/x.yaml", ["out=here"], "here"),
        ("elsewhere/x.yaml", ["grid.k=[3]", "out=here"], "here/k=3"),
        ("x.yaml", ["grid.dataset.name=['a/b c']", "grid.k=[3]"], "runs/search/x/dataset.name=a%2Fb%20c,k=3"),
        ("x.yaml", ["grid.out=[there]"], "there"),
    ],
)
def test_the_folder_of_a_recipe(path, overrides, folder):
    (recipe,) = load(search, TINY, overrides)
    assert out_folder(recipe, path) == Path(folder)


def test_a_folder_name_never_gets_too_long():
    names = [f"grid.dataset.name=['{'x' * 300}', '{'x' * 301}']"]
    folders = {out_folder(recipe, TINY).name for recipe in load(search, TINY, names)}
    assert len(folders) == 2 and all(len(name) <= 200 for name in folders)


def test_a_grid_gives_a_list_and_shares_its_components():
    assert run(search, [TINY, ENCODER, "grid.k=[1, 2]", "grid.encoder.dim=[3, 4]"]) == [
        {"nDCG@10": 0.1}, {"nDCG@10": 0.1}, {"nDCG@10": 0.2}, {"nDCG@10": 0.2},
    ]  # fmt: skip
    assert BUILT == ["dataset three", "encoder 3", "encoder 4"]
    assert manifest("runs/search/bm25/tiny/k=2,encoder.dim=3")["point"] == {"k": 2, "encoder.dim": 3}


def test_a_grid_of_one_still_gives_a_list():
    assert run(search, [TINY, "grid.k=[1]"]) == [{"nDCG@10": 0.1}]


# ---- running again -----------------------------------------------------------------------------------------------


def test_a_finished_experiment_is_shown_and_not_run_again(capsys):
    first = run(search, [TINY])
    capsys.readouterr()
    assert run(search, [TINY]) == first and len(CALLS) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out) == first
    assert "finished already" in shown.err and "changed since" not in shown.err


def test_code_that_has_changed_since_is_mentioned(capsys):
    run(search, [TINY])
    changed = manifest() | {"git": {"commit": "a" * 40, "dirty": True, "diff": "ffff"}}
    Path("runs/search/bm25/tiny/manifest.json").write_text(json.dumps(changed))
    run(search, [TINY])
    assert "the code has changed since: aaaaaaaaaaaa with changes ffff then" in capsys.readouterr().err


def test_a_failed_experiment_is_run_again(capsys):
    fails(1, TINY, "fail=value")
    fails(1, TINY, "fail=value")
    assert len(CALLS) == 2
    assert manifest()["status"] == "failed" and len(manifest()["attempts"]) == 1
    assert "resuming what started" in capsys.readouterr().err


def test_another_experiment_in_the_folder_is_refused_before_anything_runs(capsys):
    run(search, [TINY, "out=runs/search/bm25/tiny/k=2"])
    fails(1, TINY, "grid.k=[1, 2]")
    assert len(CALLS) == 1
    assert "holds another experiment (k is 10 there, 2 here); name another folder with out=" in capsys.readouterr().err


def test_a_killed_run_is_resumed_by_the_same_command(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\nfrom pathlib import Path\nfrom retrieval.cli import run\n\n\n"
        "def slow(out: Path | None = None):\n    (out / 'begun').touch()\n    time.sleep(60)\n\n\n"
        "if __name__ == '__main__':\n    run(slow)\n"
    )
    Path("x.yaml").write_text("{}")
    begun = Path("runs/slow/x/begun")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    }
    for interruption, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        process = subprocess.Popen([sys.executable, "slow.py", "x.yaml"], env=environment, stderr=subprocess.PIPE)
        while not begun.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(interruption)
        said = process.communicate()[1].decode()
        begun.unlink()
        assert process.returncode == code, said
    assert "interrupted; the same command resumes:" in said and "slow.py x.yaml" in said
    assert "Traceback" not in said
    assert [attempt["status"] for attempt in manifest("runs/slow/x")["attempts"]] == ["running"]
    assert manifest("runs/slow/x")["error"] == "KeyboardInterrupt: KeyboardInterrupt"


def test_an_interrupted_run_exits_with_130(capsys):
    fails(130, TINY, "fail=interrupt")
    assert "interrupted; the same command resumes:" in capsys.readouterr().err


# ---- errors ------------------------------------------------------------------------------------------------------


def test_mistakes_in_a_recipe_are_printed_and_exit_with_2(capsys):
    fails(2, TINY, "k=x", "kk=1")
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert not Path("runs").exists()


@pytest.mark.parametrize(("fail", "said"), [("value", "bad value"), ("file", "'x'"), ("package", "pip install it")])
def test_what_the_user_can_mend_is_a_line(fail, said, capsys, monkeypatch):
    fails(1, TINY, f"fail={fail}")
    shown = capsys.readouterr().err
    assert said in shown and "Traceback" not in shown and len(shown.splitlines()) == 1
    monkeypatch.setenv("RETRIEVAL_DEBUG", "1")
    with pytest.raises((ValueError, OSError, ImportError)):
        run(search, [TINY, f"fail={fail}"])


def test_a_bug_keeps_its_traceback_and_is_recorded():
    with pytest.raises(KeyError):
        run(search, [TINY, "fail=bug"])
    assert manifest()["error"] == "KeyError: 'x'"


@pytest.mark.parametrize("arguments", [[], ["--dry-run"], [TINY, "--dry"], ["-x", TINY]])
def test_a_wrong_command_line_shows_the_usage(arguments, capsys):
    fails(2, *arguments)
    assert "RECIPE.yaml [key=value ...] [--dry-run]" in capsys.readouterr().err


def test_a_recipe_without_out_is_a_bug():
    with pytest.raises(TypeError, match="out: Path"):
        run(lambda k=1: k, [TINY])


# ---- help and plan -----------------------------------------------------------------------------------------------


def test_help_shows_docstring_parameters_and_components(capsys):
    assert run(search, ["--help"]) is None
    shown = capsys.readouterr().out
    assert "Search a dataset." in shown
    assert "  dataset: protocols.Dataset  (required)" in shown
    assert "  k: int = 10" in shown
    assert "Dataset, in retrieval/datasets/:" in shown


def test_a_dry_run_shows_recipe_data_and_order_and_runs_nothing(capsys):
    assert run(search, [TINY, ENCODER, "--dry-run"]) is None
    shown = capsys.readouterr().out
    assert not CALLS and not Path("runs").exists()
    assert yaml.safe_load(shown) == {
        "dataset": {"type": f"{__name__}:Documents", "name": "three", "broken": False},
        "encoder": {"type": f"{__name__}:Planned", "dim": 2},
        "k": 10,
        "fail": "",
        "out": "runs/search/bm25/tiny",
    }
    assert [line for line in shown.splitlines() if line.startswith("#")] == [
        "# search, out: runs/search/bm25/tiny (new)",
        f"# builds dataset: {__name__}:Documents",
        "# data dataset: 3 documents",
        "# data dataset dev: 2 queries, 3 judgements",
        "# data dataset test: 2 queries, 4 judgements",
        f"# builds encoder: {__name__}:Planned: 2 dimensions",
    ]


def test_a_dry_run_shows_data_errors_grids_and_what_is_there(capsys):
    run(search, [TINY, "k=1", "out=o/k=1"])
    run(search, [TINY, "k=1", "out=o/k=2"])
    Path("o/k=3").mkdir()
    capsys.readouterr()
    run(search, [TINY, "out=o", "grid.k=[1, 2, 3]", "--dry-run"])
    shown = capsys.readouterr().out
    assert [document["k"] for document in yaml.safe_load_all(shown)] == [1, 2, 3]
    assert "out: o/k=1 (finished)" in shown and "out: o/k=2 (refused: o/k=2 holds another" in shown
    assert "out: o/k=3 (new)" in shown
    run(search, [TINY, "dataset.broken=true", "--dry-run"])
    assert "# data dataset: error: no three anywhere" in capsys.readouterr().out


def test_a_dry_run_builds_only_what_has_a_plan(capsys):
    run(search, [TINY, f"encoder={__name__}:Silent", "--dry-run"])
    assert f"# builds encoder: {__name__}:Silent" in capsys.readouterr().out.splitlines()
