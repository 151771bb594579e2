"""SyCL's four training sets are what their recipes give, on a miniature of its files."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from retrieval.collection import write_collection
from retrieval.config import load
from retrieval.train import train
from training.collections import Groups

CONFIGS = Path(__file__).parents[2] / "configs" / "sycl"
QUERIES = {f"q{n}": f"query {n}" for n in range(3)}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two or three queries with 1 or 2 judged passages, 10 of BM25's, and 4 synthetic levels each."""
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "cache"))
    real = {"q0": {"d0": 1}, "q1": {"d1": 1, "d2": 1}, "q2": {"d3": 1}}
    documents = [(f"d{n}", "", f"real {n}") for n in range(20)]
    write_collection(tmp_path / "msmarco", documents, QUERIES, {"train": real})
    synthetic = {name: {f"{name}-{level}": level for level in (3, 2, 1, 0)} for name in QUERIES}
    made = [(name, "", f"synthetic {name}") for levels in synthetic.values() for name in levels]
    write_collection(tmp_path / "sycl" / "llama33_70b", made, QUERIES, {"train": synthetic})
    found = tmp_path / "sycl" / "real_data" / "bm25_top_docs" / "train_qrels.jsonl"
    found.parent.mkdir(parents=True)
    lines = [{"qid": q, "docid": [f"d{n}" for n in range(5, 15)], "score": list(range(1, 11))} for q in QUERIES]
    found.write_text("\n".join(map(json.dumps, lines)))


def groups(name: str) -> Groups:
    arguments = load(train, CONFIGS / f"{name}.yaml")[0].arguments
    return Groups(arguments["data"].build({}).lists(), **asdict(arguments["groups"]))


def shown(groups: Groups, epochs: int = 1) -> list[dict[str, float]]:
    """Text -> label of each group."""
    texts, all_groups = groups.lists.passages.texts, [groups.group(n, e) for e in range(epochs) for n in range(3)]
    return [dict(zip(texts(group["rows"]), group["labels"].tolist(), strict=True)) for group in all_groups]


def test_real_binary_has_a_judged_positive_and_two_of_bm25s(files):
    positives = set()
    for group in shown(groups("real-binary"), epochs=4):
        assert sorted(group.values()) == [0, 0, 1]
        positives |= {text for text, label in group.items() if label}
        assert all(5 <= int(text.split()[1]) < 15 for text, label in group.items() if not label)
    assert positives == {f"real {n}" for n in range(4)}


def test_synth_binary_has_a_level_of_2_or_3_and_both_others(files):
    for group in shown(groups("synth-binary"), epochs=4):
        levels = {int(text[-1]): label for text, label in group.items()}
        assert levels in ({3: 1, 1: 0, 0: 0}, {2: 1, 1: 0, 0: 0})


def test_synth_multi_level_has_the_four_levels(files):
    found = shown(groups("synth-multi-level"))
    assert found == [{f"synthetic q{n}-{level}": level for level in (3, 2, 1, 0)} for n in range(3)] and len(found) == 3


def test_synth_real_puts_judged_positives_at_3_and_two_of_bm25s_at_1(files):
    made = groups("synth-real")
    lists = made.lists
    for place, positives in enumerate((1, 2, 1)):
        own = slice(lists.offsets[place], lists.offsets[place + 1])
        texts, labels = lists.passages.texts(lists.rows[own]), lists.labels[own]
        real = [(text, label) for text, label in zip(texts, labels.tolist(), strict=True) if text.startswith("real")]
        assert len(texts) == 4 + 2 + positives
        assert sorted(label for _, label in real) == [1, 1, *[3] * positives]
        assert all((int(text.split()[1]) < 5) == (label == 3) for text, label in real)
    assert [len(group) for group in shown(made)] == [7, 7, 7]
    assert made.counts["groups that repeat passages"] == 0
    np.testing.assert_array_equal(np.unique(lists.labels), [0, 1, 2, 3])
