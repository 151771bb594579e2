"""Queries that carry an instruction, from the file to the encoder."""

from __future__ import annotations

import json

import pytest

from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.datasets.typos import Typos
from retrieval.datasets.untitled import Untitled

QUERIES = {"q": "cats", "r": "dogs"}
JUDGED = {"test": {"q": {"a": 1}, "r": {"a": 1}}}


def written(folder, **more):
    write_collection(folder, [("a", "", "text")], QUERIES, JUDGED, **more)
    return Folder(str(folder)).open()


def test_instructions_are_written_and_read_with_their_queries(tmp_path):
    queries = written(tmp_path / "toy", instructions={"r": "Find animals."}).queries("test")
    assert (queries.texts, queries.instructions) == (["cats", "dogs"], ["", "Find animals."])


def test_without_any_the_queries_carry_none(tmp_path):
    assert written(tmp_path / "toy").queries("test").instructions is None


def test_an_instruction_that_is_no_text_is_refused_with_its_line(tmp_path):
    collection = written(tmp_path / "toy")
    lines = [{"_id": "q", "text": "cats"}, {"_id": "r", "text": "dogs", "instruction": ["find"]}]
    (tmp_path / "toy" / "queries.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(ValueError, match="queries.jsonl:2: query 'r' has an \"instruction\" that is no text"):
        collection.queries("test")


@pytest.mark.parametrize("made", [Untitled, Typos])
def test_a_dataset_made_of_another_keeps_the_instructions(tmp_path, monkeypatch, made):
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "cache"))
    written(tmp_path / "toy", instructions={"r": "Find animals."})
    assert made(Folder(str(tmp_path / "toy"))).open().queries("test").instructions == ["", "Find animals."]
