"""What is read of a server's answer, beside its text."""

from __future__ import annotations

import pytest

from retrieval.asking import answer_of
from retrieval.generators.openai import read
from retrieval.types import Generation


def given(**change):
    return {"finish_reason": "stop", "message": {"content": "a"}, **change}


@pytest.mark.parametrize(
    "choice",
    [
        given(logprobs={"content": [{"logprob": None}]}),
        given(message=None, text="a", logprobs={"token_logprobs": [None]}),
    ],
)
def test_a_log_probability_of_nothing_matters_only_where_it_was_asked_for(choice):
    asked, unasked = (read({"choices": [choice]}, logprobs) for logprobs in (True, False))
    assert asked.failure.startswith("the server gives no log-probabilities") and asked.logprobs is None
    assert unasked == Generation("a", 0, 0, "stop")


@pytest.mark.parametrize(
    ("apart", "text"),
    [
        ({"reasoning_content": "so"}, "<think>so</think>a"),
        ({"reasoning": "so"}, "<think>so</think>a"),
        ({"reasoning": "so", "reasoning_content": "so"}, "<think>so</think>a"),
        ({"reasoning": None, "reasoning_content": ""}, "a"),
        ({"reasoning": {"effort": "low"}}, "a"),
    ],
)
def test_thoughts_that_stand_apart_come_before_the_answer(apart, text):
    assert read({"choices": [given(message={"content": "a", **apart})]}, False).text == text and answer_of(text) == "a"
