"""The verb: it answers, draws, keeps every problem that ended, and goes on from there."""

from __future__ import annotations

import json

import pytest

import eval.limit_search
from eval.limit import Descent
from retrieval.cli import run
from retrieval.critical_n import critical_n

QUICK = Descent(steps=400)


def test_it_answers_and_draws(tmp_path, capsys):
    found = critical_n([2, 3], [0, 1], device="cpu", descent=QUICK, out=tmp_path)
    assert found["critical n"] == {"2": 3, "3": 4}
    assert found["fit to the paper"]["r2"] == pytest.approx(0.999, abs=5e-4)
    assert found["seeds that solve n"]["3"]["5"] == 0
    assert (tmp_path / "critical_n.png").read_bytes().startswith(b"\x89PNG")
    drawn = (tmp_path / "critical_n.svg").read_text()
    assert "<svg" in drawn
    assert "critical n, k = 2, dense pattern, best of 2 seeds: 0, 1" in capsys.readouterr().out


def test_a_killed_search_goes_on_with_what_ended(tmp_path, monkeypatch):
    whole = critical_n([2, 3], [0, 1], device="cpu", descent=QUICK, out=tmp_path / "whole")
    lines = (tmp_path / "whole" / "problems.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "problems.jsonl").write_bytes(b"".join(lines[:-3]) + lines[-3][:20])
    solved = []
    solve = eval.limit_search.solve
    monkeypatch.setattr(
        eval.limit_search, "solve", lambda problems, *a, **b: solved.extend(problems) or solve(problems, *a, **b)
    )
    assert critical_n([2, 3], [0, 1], device="cpu", descent=QUICK, out=tmp_path / "cut") == whole
    assert len(solved) == 3
    again = [json.loads(line)["problem"] for line in (tmp_path / "cut" / "problems.jsonl").read_text().splitlines()]
    assert len(again) == len(lines)


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert critical_n([2], [0], pattern="cycle", largest=5, device="cpu", descent=QUICK)["critical n"].keys() == {"2"}
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("dimensions: [2]\nseeds: []\n", "seeds is an empty list: give at least one"),
        ("dimensions: [0]\nseeds: [0]\n", "dimensions=0; it must be 1 or more"),
        ("dimensions: [2]\nseeds: [0]\nlargest: 1\n", "largest=1; n starts above k=2"),
        ("dimensions: [2]\nseeds: [0]\ndevice: gpu\n", "device 'gpu' is none that torch knows"),
        ("dimensions: [2]\nseeds: [0]\ndescent: {steps: 0}\n", "steps"),
    ],
)
def test_a_wrong_recipe_is_an_error_in_a_line(tmp_path, capsys, recipe, message):
    (tmp_path / "x.yaml").write_text(recipe)
    with pytest.raises(SystemExit):
        run(critical_n, [str(tmp_path / "x.yaml"), f"out={tmp_path / 'out'}"])
    assert message in capsys.readouterr().err
