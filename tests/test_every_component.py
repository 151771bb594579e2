"""Components of the registry, each built of the plainest parts: what they were made with can be told at any time."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from prf.clarify import Clarify
from prf.extractors.lead import Lead
from prf.predictors.nqc import NQC
from prf.rm3 import RM3
from prf.writers.answer import Answer
from retrieval import protocols
from retrieval.composed import settings
from retrieval.encoders.transformer import Transformer
from retrieval.generators.openai import OpenAI
from retrieval.indexes.flat import Flat
from retrieval.registry import FOLDERS, components, find, hint, kinds
from retrieval.rerankers.cross_encoder import CrossEncoder
from retrieval.retrievers.bm25 import BM25
from training.losses.kl import KL

# What no run is kept by: only the settings of what retrieves, reads, writes or learns are asked for.
OTHERS = (protocols.Dataset, protocols.Suite, protocols.Source, protocols.Synthesizer)


def classes() -> dict[str, Any]:
    """The classes of the registry without a contract(), by folder and name."""
    found: dict[str, Any] = {}
    for protocol, folder in FOLDERS.items():
        if protocol in OTHERS or protocol is protocols.FeedbackSource:
            continue
        for name in components(protocol) if folder != "retrieval.rerankers" else ():
            made = find(protocol, name)
            found |= {} if hasattr(made, "contract") else {f"{folder}.{name}": made}
    return found


def one_of(name: str) -> dict[str, Any]:
    """Arguments of which a component takes one or another, so that none is needed by itself."""
    chosen = {"promptprf": {"extractor": Lead()}, "selective": {"share": 0.5}}
    return chosen.get(name.rpartition(".")[2], {})


@pytest.fixture
def build(tiny_model, tmp_path):
    """A function that makes a component of the plainest parts and its defaults."""
    file = tmp_path / "file.tsv"
    file.write_text("query-id\tcorpus-id\tscore\nq\ta\t1\n")
    model = OpenAI("model", "http://127.0.0.1:1/v1")
    plain: dict[Any, Any] = {
        protocols.Retriever: BM25(),
        protocols.Encoder: Transformer(str(tiny_model), pooling="mean", dtype="float32"),
        protocols.Index: Flat(),
        protocols.Reranker: CrossEncoder(str(tiny_model), seed=0),
        protocols.Generator: model,
        protocols.Reformulator: RM3(),
        protocols.Writer: Answer(model),
        protocols.Predictor: NQC(),
        protocols.Loss: KL(),
        Path: file,
        float: 0.5,
    }
    listed = {list[protocols.Retriever]: [BM25()], Sequence[int]: [2, 1]}

    def built(kind: Any, name: str) -> Any:
        needed = [one.name for one in inspect.signature(kind).parameters.values() if one.default is one.empty]
        hints = {key: hint(kind, key) for key in needed}
        parts = {key: listed[one] if one in listed else plain[kinds(one)[0]] for key, one in hints.items()}
        return kind(**parts, **one_of(name))

    return built


@pytest.mark.parametrize("name", classes())
def test_what_a_component_was_made_with_is_kept_under_the_names_of_its_arguments(name, build):
    kind = classes()[name]
    told = settings(build(kind, name))
    assert list(told) == ["type", *inspect.signature(kind).parameters] and json.dumps(told)


@pytest.mark.parametrize("name", components(protocols.Retriever))
def test_a_retriever_that_was_never_opened_tells_what_it_was_made_with(name, build):
    retriever = build(find(protocols.Retriever, name), name)
    assert not hasattr(retriever, "provenance") or json.dumps(retriever.provenance())


def test_a_file_is_told_by_its_content_as_well_as_its_name(tmp_path, monkeypatch):
    class Reads:
        def __init__(self, file):
            self.file = file

    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    told = []
    for text in ("one", "two"):
        (tmp_path / "own.txt").write_text(text)
        told.append([settings(Reads(path))["file"] for path in (tmp_path / "own.txt", Path("own.txt"))])
    (before, below_data), (after, _) = told
    assert before["sha256"] == below_data["sha256"] != after["sha256"]
    assert below_data["file"] == "own.txt"
    assert settings(Reads(tmp_path / "absent"))["file"] == str(tmp_path / "absent")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "own.txt").write_text("another")
    assert settings(Reads(Path("own.txt")))["file"]["sha256"] == after["sha256"]  # below RETRIEVAL_DATA comes first


def test_a_file_that_a_component_writes_is_no_part_of_what_it_is_made_of(tmp_path):
    made = Clarify(OpenAI("model", "http://127.0.0.1:1/v1"), transcript=tmp_path / "turns.jsonl")
    before = settings(made)
    (tmp_path / "turns.jsonl").write_text("a turn")
    assert settings(made) == before and before["transcript"] == str(tmp_path / "turns.jsonl")
