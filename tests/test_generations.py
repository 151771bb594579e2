"""The command line of the store: statistics as a table, answers to a file and back."""

from __future__ import annotations

import pytest

from retrieval.generations import main
from retrieval.sampling import Request
from retrieval.store import GenerationStore, plain
from retrieval.types import Generation


def fill(model, count, **contract):
    store = GenerationStore()
    for number in range(count):
        store.keep(plain({"model": model, **contract}), Request(None, str(number)), Generation("x", 1000, 20), 0.5)
    store.close()


def test_statistics_are_a_line_a_model_and_their_sum(capsys):
    fill("little-model", 3, revision="abc", generator="transformers", stop=None)
    fill("[bold]other", 2)
    main([])
    shown = capsys.readouterr().out
    lines = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in shown.split("\n")
        if "│" in line
    }
    assert lines["little-model, revision abc, generator transformers"] == ["3", "0", "0", "3,000", "60", "1.5"]
    assert lines["[bold]other"] == ["2", "0", "0", "2,000", "40", "1.0"]
    assert lines["all"] == ["5", "0", "0", "5,000", "100", "2.5"]


def test_answers_go_to_a_file_and_into_another_store(tmp_path, monkeypatch, capsys):
    fill("m", 3)
    main(["export", str(tmp_path / "all.jsonl")])
    assert "3 answers of" in capsys.readouterr().out
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "elsewhere"))
    main(["load", str(tmp_path / "all.jsonl")])
    assert f"{tmp_path / 'elsewhere' / 'generations.sqlite'}: 3 new answers from" in capsys.readouterr().out
    main(["statistics"])
    assert "3,000" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["statistics"], ["export", "all.jsonl"]])
def test_nothing_kept_yet_is_said_and_makes_no_file(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and "generations.sqlite is not there: nothing was kept yet" in said
    assert not GenerationStore().path.exists() and not list(tmp_path.iterdir())


def test_what_is_wrong_is_one_line(tmp_path, capsys):
    (tmp_path / "bad.jsonl").write_text("{}\n")
    with pytest.raises(SystemExit) as stopped:
        main(["load", str(tmp_path / "bad.jsonl")])
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and "bad.jsonl:1: no exported generation" in said and said.count("\n") == 1
