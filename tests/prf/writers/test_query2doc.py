"""Query2doc: one passage after five times the query; with examples, with reasons."""

from __future__ import annotations

import json

import pytest

from prf.writers.query2doc import Query2Doc
from tests.prf.writers.rules import QUERIES, Rule, failing, rewritten, saying


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps({"query": f"ask {n}", "text": f"tell {n} {{x}}"}) + "\n" for n in range(6)))
    return path


def test_one_passage_follows_five_times_the_query():
    model = Rule(lambda request: f"about\n{request.messages[-1]['content'].split('Query: ')[1]}")
    sky, trees = QUERIES.texts
    assert rewritten(Query2Doc(model)).texts == [
        " ".join([sky] * 5 + ["about", sky]),
        f"{(trees + ' ') * 5}about {trees}",
    ]
    assert len(model.requests) == 2


def test_the_paper_s_sampling_is_the_default():
    model = saying("x")
    Query2Doc(model).write(QUERIES, None)
    sampling = model.requests[0].sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (128, 1.0, 1.0)


def test_the_first_four_examples_stand_before_the_query(examples):
    model = saying("x")
    Query2Doc(model, examples=examples).write(QUERIES, None)
    prompt = model.prompts[0]
    shown = [prompt.index(f"Query: ask {n}\nPassage: tell {n} {{x}}") for n in range(4)]
    assert shown == sorted(shown) and shown[-1] < prompt.index(QUERIES.texts[0]) and "ask 4" not in prompt


def test_the_chain_of_thought_is_part_of_the_text():
    model, plain = saying("First, light scatters. The sky is blue."), saying("x")
    assert Query2Doc(model, chain_of_thought=True).write(QUERIES, None)[0] == [
        "First, light scatters. The sky is blue."
    ]
    Query2Doc(plain).write(QUERIES, None)
    assert "reason" in model.prompts[0] and "reason" not in plain.prompts[0]


def test_examples_and_chain_of_thought_are_not_had_together(examples):
    with pytest.raises(ValueError, match="choose either"):
        Query2Doc(saying("x"), examples=examples, chain_of_thought=True)


def test_an_own_prompt_for_examples_needs_their_place(examples, tmp_path):
    (tmp_path / "own.txt").write_text("# mine 1\n[user]\n{query}\n")
    with pytest.raises(ValueError, match=r"lacks \{examples\}"):
        Query2Doc(saying("x"), examples=examples, prompt=tmp_path / "own.txt")
    assert Query2Doc(saying("x"), prompt=tmp_path / "own.txt").provenance()["prompt"] == "mine 1"


def test_other_examples_are_told_of(examples):
    assert "tell 3" in Query2Doc(saying("x"), examples=examples).provenance()["examples"]


def test_a_query_whose_text_failed_stays_and_the_other_is_rewritten():
    writer = Query2Doc(failing("trees"), fallback="keep")
    assert rewritten(writer).texts == [f"{(QUERIES.texts[0] + ' ') * 5}some text", "tall trees"]
