"""Looks at a test set are counted, by all who look, and nothing is counted twice."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from retrieval.cli import run as command_line
from retrieval.collection import Collection, write_collection
from retrieval.datasets.generated_limit import GeneratedLimit
from retrieval.ids import DocIds
from retrieval.looks import choose_on, ledger, look, told
from retrieval.search import search
from retrieval.train import train
from retrieval.types import Run

QRELS = {"test": {"p": {"a": 1}, "q": {"b": 1}}, "dev": {"p": {"a": 1}}}


@pytest.fixture
def collection(tmp_path):
    write_collection(tmp_path / "c", [(d, "", d) for d in "abc"], {"p": "a", "q": "b"}, QRELS)
    return Collection(tmp_path / "c")


def run(rows, scores=(2.0, 1.0), ids="abc", queries=("p", "q"), name="run"):
    given = np.array([scores] * len(rows), np.float32)
    return Run.ordered(queries, DocIds.of(list(ids)), np.array(rows, np.int32), given, name)


ONE, OTHER = run([[0, 1], [1, 0]]), run([[1, 0], [1, 0]])


def test_each_look_has_the_next_number_and_says_who_looked(collection):
    first = look(collection, "test", "search", [ONE])
    assert (first["looks"], first["systems"], first["by verb"]) == (1, 1, {"search": 1})
    look(collection, "test", "evaluate", [ONE, OTHER])
    third = look(collection, "test", "search", [OTHER])
    assert (third["looks"], third["systems"], third["by verb"]) == (3, 2, {"search": 2, "evaluate": 1})
    assert told(third) == "look 3 at this test set, 2 systems so far (looks by search 2, evaluate 1)"


def test_the_same_ranking_is_the_same_system_whatever_its_scores_table_or_order(collection):
    look(collection, "test", "search", [ONE])
    swapped = run([[0, 1], [1, 0]], scores=(9.0, 3.0), ids="bac", queries=("q", "p"), name="other")  # rows of "bac"
    assert look(collection, "test", "evaluate", [swapped])["systems"] == 1


def test_splits_are_counted_apart_and_equal_judgements_together(collection, tmp_path):
    look(collection, "test", "search", [ONE])
    assert look(collection, "dev", "search", [ONE])["looks"] == 1
    write_collection(tmp_path / "copy", [(d, "", d) for d in "abc"], {"p": "a", "q": "b"}, {"other": QRELS["test"]})
    assert look(Collection(tmp_path / "copy"), "other", "search", [OTHER])["looks"] == 2


def test_a_choice_is_no_look_and_is_told_beside_the_next(collection):
    assert choose_on(collection, "dev", "tune", [ONE, OTHER])["looks"] == 0
    seen = look(collection, "dev", "search", [ONE])
    assert (seen["looks"], seen["systems"], seen["choices"]) == (1, 1, {"tune": 1})
    assert told(seen).endswith("; chosen on by tune 1: no test of what was chosen there")


def test_of_the_processes_of_one_job_one_looks(collection, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert look(collection, "test", "train", [ONE])["looks"] == 1
    monkeypatch.setenv("RANK", "0")
    assert look(collection, "test", "train", [ONE])["looks"] == 1


def test_deleting_the_file_is_the_way_to_count_from_nothing(collection):
    look(collection, "test", "search", [ONE])
    ledger(collection, "test").unlink()
    assert look(collection, "test", "search", [ONE])["looks"] == 1


def _look_often(folder, cache, times, results):
    os.environ["RETRIEVAL_CACHE"] = cache
    results.put([look(Collection(folder), "test", "search", [ONE])["looks"] for _ in range(times)])


def test_processes_that_look_at_once_have_each_their_own_numbers(collection, tmp_path):
    collection.corpus.fingerprint  # noqa: B018 - ingested before
    context, cache = multiprocessing.get_context("spawn"), os.environ["RETRIEVAL_CACHE"]
    results = context.Queue()
    workers = [context.Process(target=_look_often, args=(collection.folder, cache, 15, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    numbers = sorted(number for _ in workers for number in results.get(timeout=60))
    for worker in workers:
        worker.join()
    assert numbers == list(range(1, 61))
    assert len([json.loads(line) for line in ledger(collection, "test").read_text().splitlines()]) == 60


def test_a_damaged_line_is_named_with_the_fix(collection):
    look(collection, "test", "search", [ONE])
    with open(ledger(collection, "test"), "a") as file:
        file.write('{"kind": "lo\n')
    with pytest.raises(ValueError, match=r"\.jsonl:2: this line is no look; delete it, or the file"):
        look(collection, "test", "search", [ONE])


def test_a_finished_recipe_that_is_shown_again_is_no_new_look(collection, tmp_path, capsys):
    recipe, out = tmp_path / "x.yaml", tmp_path / "out"
    recipe.write_text(f"dataset: {{type: folder, path: {collection.folder}}}\nretriever: bm25\n")
    results = command_line(search, [str(recipe), f"out={out}"])
    assert "look 1 at this test set, 1 system so far (looks by search 1)" in capsys.readouterr().out
    assert command_line(search, [str(recipe), f"out={out}"])["looks"]["looks"] == 1 == results["looks"]["looks"]
    assert json.loads((out / "manifest.json").read_text())["results"]["looks"] == results["looks"]
    assert len(ledger(collection, "test").read_text().splitlines()) == 1
    assert command_line(search, [str(recipe), f"out={tmp_path / 'other'}"])["looks"]["looks"] == 2


def test_training_looks_at_test_and_chooses_on_dev_which_a_refused_recipe_does_not(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shape = {"documents": 8, "queries": 28, "distractors": 12, "items": 8, "train_queries": 28, "dev_queries": 10}
    Path("x.yaml").write_text(
        f"dataset: {json.dumps({'type': 'generated_limit', **shape})}\ngroups: {{size: 2, negatives: random}}\n"
        f"encoder: {{type: transformer, model: {tiny_model}, pooling: mean, dtype: float32}}\n"
        "dev: {split: dev, measure: R@10}\ntrainer: {loss: infonce, steps: 1, batch_size: 7, learning_rate: 0}\n"
    )
    with pytest.raises(SystemExit):
        command_line(train, ["x.yaml", "dev.split=test", "out=refused"])
    results = command_line(train, ["x.yaml", "out=out", "baselines.BM25=bm25"])["looks"]
    seen = (results["looks"], results["systems"], results["by verb"])
    assert seen == (1, 2, {"train": 1})  # BM25, and zero-shot, which learns nothing
    assert not results["choices"]
    collection = GeneratedLimit(**shape).open()
    assert look(collection, "dev", "search", [])["choices"] == {"train": 1}
