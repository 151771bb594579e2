"""What holds for every writer of the folder that asks a model."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace

import pytest

from retrieval.chat_prompt import prompt_file
from retrieval.config import components
from retrieval.protocols import COUNTED, Writer
from retrieval.registry import find
from tests.prf.writers.rules import QUERIES, Rule, failing, found

ZERO_SHOT = (
    "answer",
    "cot",
    "genqr",
    "genqr_ensemble",
    "grf",
    "hyde",
    "mugi",
    "multi_query",
    "query2doc",
    "query2e",
    "reasoning_trace",
)


def needed(name):
    """The arguments that a writer cannot do without."""
    parameters = inspect.signature(find(Writer, name)).parameters
    return [key for key, one in parameters.items() if one.default is one.empty]


PLAIN = [name for name in components(Writer) if needed(name) == ["generator"]]
PASSAGES = found(["Blue light scatters. It does so the more."] * 3, ["Redwoods are tall. So are firs."] * 3)


def answering(request):
    """An answer that each writer can read, and that no two prompts share."""
    asked = re.sub(r"\W+", " ", request.messages[-1]["content"])
    return f'Relevant: [1] "a quoted sentence"\nAnswer: {asked} {request.sample}'


def test_the_zero_shot_writers_are_there():
    assert {*ZERO_SHOT} <= {*PLAIN}


@pytest.mark.parametrize("name", PLAIN)
def test_each_query_gets_texts_and_the_provenance_has_counts(name):
    writer = find(Writer, name)(Rule(answering))
    texts = writer.write(QUERIES, PASSAGES)
    assert len(texts) == 2 and all(texts) and all(text.strip() for one in texts for text in one)
    told = writer.provenance()
    assert told["generations"] and told["model calls"] and told["failed generations"] == 0
    assert all(f"'{what}': " in str(told) for what in ("generator", "max_tokens", "seed", "samples", "prompt sha256"))
    assert all(isinstance(count, int | float) for what, count in told.items() if what.startswith(COUNTED))


@pytest.mark.parametrize("name", PLAIN)
def test_a_model_that_fails_raises_without_a_fallback_and_says_what_to_do(name):
    with pytest.raises(ValueError, match="the server is gone.*fallback: keep"):
        find(Writer, name)(failing()).write(QUERIES, PASSAGES)


@pytest.mark.parametrize("name", PLAIN)
def test_with_the_fallback_the_query_stays_as_it_is(name):
    writer = find(Writer, name)(failing(), fallback="keep")
    assert writer.write(QUERIES, PASSAGES) == [[], []]
    told = writer.provenance()
    assert told["failed generations"] == told["generations"] > 0


@pytest.mark.parametrize("name", PLAIN)
def test_no_queries_ask_nothing(name):
    model = Rule(answering)
    assert find(Writer, name)(model).write(QUERIES.take([]), found()) == [] and not model.requests


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_a_zero_shot_prompt_holds_the_query_once_and_no_first_pass_is_needed(name):
    model = Rule(answering)
    writer = find(Writer, name)(model)
    assert writer.needs == ()
    odd = replace(QUERIES, texts=["why is {query} {context} so", "tall trees"])
    writer.write(odd, None)
    for query in odd.texts:
        asked = [one.messages for one in model.requests if query in one.messages[-1]["content"]]
        assert asked and all(sum(turn["content"].count(query) for turn in chat) == 1 for chat in asked)


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_the_join_of_the_paper_is_named_and_keeps_the_query(name):
    writer = find(Writer, name)(Rule(answering))
    join, texts = writer.join(), writer.write(QUERIES, None)
    if join.writes != "texts":
        assert join.writes in ("terms", "variants", "representations")
        return
    new = join.reformulate(replace(QUERIES, representations=None), found(*texts)).texts
    assert all(one.startswith(query) and one != query for query, one in zip(QUERIES.texts, new, strict=True))


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_a_second_run_asks_nothing_and_gives_the_same(name):
    class Known(Rule):
        def contract(self):
            return {"model": "rule"}

    model = Known(answering)
    first = find(Writer, name)(model).write(QUERIES, None)
    asked = len(model.requests)
    writer = find(Writer, name)(model)
    assert writer.write(QUERIES, None) == first and len(model.requests) == asked
    assert writer.provenance()["cache hits"] == writer.provenance()["generations"]


def test_every_prompt_file_can_be_read():
    folder = prompt_file("prf.writers", "cot", None).parent
    for path in folder.glob("*.txt"):
        assert re.match(rf"# {path.stem} \d+\n", path.read_text()), path
