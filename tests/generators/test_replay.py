"""Recorded generations: as the model gave them, under its name, and nothing but them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retrieval.asking import Asker
from retrieval.generators.replay import Replay
from retrieval.locate import cache_folder
from retrieval.sampling import Request, Sampling
from retrieval.store import GenerationStore, plain
from retrieval.types import Generation


class Model:
    """A generator with a contract that answers by a rule, and counts how often it was asked."""

    def __init__(self, name="rule"):
        self.name, self.asked = name, 0

    def generate(self, requests):
        self.asked += len(requests)
        for place, one in enumerate(requests):
            text = f"{self.name} says {one.messages[0]['content']} {one.sample}"
            yield place, Generation(text, 3, 2, "stop", [-0.5, -0.25] if one.sampling.logprobs else None)

    def contract(self):
        return {"generator": "rule", "model": self.name, "version": "1"}


def chat(text):
    return [{"role": "user", "content": text}]


def ask(generator, texts, **how):
    asker = Asker(generator, Sampling(**how))
    return asker.ask([chat(text) for text in texts], lambda _, text: text, "fix it", samples=2), asker


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A file of what two models said to four prompts, exported from a store that is no longer there."""
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "first"))
    for name in ("large", "small"):
        ask(Model(name), ["a", "b", "ä\n{", "d"], temperature=0.5, logprobs=True)
    GenerationStore(cache_folder() / "generations.sqlite").export(tmp_path / "said.jsonl")
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "second"))
    return tmp_path / "said.jsonl"


def test_what_was_recorded_is_given_back_in_whole(recorded):
    how = Sampling(temperature=0.5, logprobs=True)
    requests = [Request(chat(text), sampling=how, sample=sample) for text in ("b", "ä\n{") for sample in (1, 0)]
    given = dict(Replay(str(recorded), model='"model":"small"').generate(requests))
    assert given == dict(Model("small").generate(requests))


def test_a_replayed_answer_is_that_of_the_file_and_a_cache_hit_whatever_the_store_holds(recorded):
    replay, model = Replay(str(recorded), model="large"), Model("large")
    assert replay.contract() == model.contract()
    other = GenerationStore()
    asked = Request(chat("a"), None, Sampling(temperature=0.5, logprobs=True))
    other.keep(plain(model.contract()), asked, Generation("another"), 0.0)
    texts, asker = ask(replay, ["a", "d"], temperature=0.5, logprobs=True)
    assert texts == ["large says a 0", "large says a 1", "large says d 0", "large says d 1"]
    counts = asker.counts()
    assert (counts["cache hits"], counts["model calls"]) == (4, 0)
    assert [one["answers"] for one in other.statistics()] == [1]
    other.close()


def test_a_request_is_found_however_its_numbers_are_written(recorded):
    recorded.write_text(
        recorded.read_text().replace('"max_tokens":256', '"max_tokens":256.0').replace('"top_p":1.0', '"top_p":1')
    )
    texts, _ = ask(Replay(str(recorded), model="large"), ["a"], temperature=0.5, logprobs=True)
    assert texts == ["large says a 0", "large says a 1"] and '"top_p":1.0' not in recorded.read_text()


@pytest.mark.parametrize("field", ['"seed":0,', '"logprobs":true,'])
def test_a_request_that_lacks_a_field_is_named(recorded, field):
    before, asked, after = recorded.read_text().partition('"request":')
    recorded.write_text(before + asked + after.replace(field, "", 1))
    with pytest.raises(ValueError, match="said.jsonl:1: not an exported generation .*it has .*, not "):
        Replay(str(recorded), "large").contract()


def test_a_request_that_was_not_recorded_is_a_failure_that_says_what_is_there(recorded):
    replay = Replay(str(recorded), model="large")
    how = Sampling(temperature=0.5, logprobs=True)
    other = [Request(chat("a"), sampling=Sampling(temperature=0.25, logprobs=True)), Request(chat("z"), sampling=how)]
    warmer, unknown = (one.failure for _, one in replay.generate(other))
    assert "holds an answer to this prompt with temperature 0.5, not 0.25" in warmer
    assert "holds no answer to this prompt" in unknown
    with pytest.raises(ValueError, match="Replay failed .*holds no answer to this prompt.*fix it"):
        ask(replay, ["z"], temperature=0.5, logprobs=True)


@pytest.mark.parametrize(("model", "what"), [(None, "2 models"), ("1", "2 models"), ("huge", "0 models with 'huge'")])
def test_a_model_that_is_not_told_from_others_is_an_error_that_names_them(recorded, model, what):
    with pytest.raises(ValueError) as error:
        Replay(str(recorded), model).contract()
    assert all(part in str(error.value) for part in (what, '"model":"large"', '"model":"small"'))


NO_TEXT = {"model": {}, "request": {}, "text": None, "tokens_in": 1, "tokens_out": 1, "finish_reason": "stop"}


@pytest.mark.parametrize(
    "wrong", ['{"_id": "1", "text": "x"}', '{"model": ', json.dumps({**NO_TEXT, "logprobs": None})]
)
def test_a_line_that_is_no_generation_is_named(recorded, wrong):
    recorded.write_text(f"{recorded.read_text()}{wrong}\n")
    with pytest.raises(ValueError, match="said.jsonl:17: not an exported generation"):
        Replay(str(recorded), "large").contract()


def test_an_empty_file_and_a_missing_one_say_so(tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds 0 models"):
        Replay(str(tmp_path / "none.jsonl")).contract()
    with pytest.raises(FileNotFoundError, match="lost.jsonl of recorded generations"):
        Replay(str(tmp_path / "lost.jsonl")).contract()


def test_a_file_is_found_below_the_data_folder(recorded, monkeypatch, tmp_path):
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    assert Replay(Path(recorded).name, "small").contract()["model"] == "small"
