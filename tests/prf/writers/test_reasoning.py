"""Writers that reason: what of the reasoning is text."""

from __future__ import annotations

import pytest

from prf.writers.answer import Answer, concluded
from prf.writers.cot import CoT
from prf.writers.reasoning_trace import ReasoningTrace
from retrieval.types import Generation
from tests.prf.writers.rules import ONE, Rule, rewritten, saying


def test_the_rationale_and_the_answer_follow_five_times_the_query():
    (new,) = rewritten(CoT(saying("They seek light.\nSo they grow tall.")), ONE).texts
    assert new == "tall trees " * 5 + "They seek light. So they grow tall."


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("They seek light.\nAnswer: Redwoods.", "Redwoods."),
        ("reasons\n**Answer:** Redwoods.", "Redwoods."),
        ("reasons\n### Final answer: Redwoods\nand firs", "Redwoods and firs"),
        ("answer: wrong, so\nANSWER: Redwoods", "Redwoods"),
        ("The answer: none of its own line", None),
        ("They seek light, and", None),
        ("Answer:", None),
        ("Answer: ...", None),
    ],
)
def test_the_answer_is_what_its_line_says(answer, text):
    assert concluded(answer) == text


def test_the_answer_follows_the_query_and_its_reasons_do_not():
    assert rewritten(Answer(saying("Light.\nAnswer: Redwoods")), ONE).texts == ["tall trees Redwoods"]


def test_reasons_that_come_to_no_answer_are_a_failure():
    cut = Rule(lambda request: Generation("They seek light, and", 9, 5, "length"))
    with pytest.raises(ValueError, match="cannot be read"):
        Answer(cut).write(ONE, None)
    writer = Answer(cut, fallback="keep")
    assert rewritten(writer, ONE).texts == ["tall trees"]
    assert writer.provenance()["failed generations"] == writer.provenance()["cut generations"] == 1


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("<think>Tall, so\nredwoods.</think>\n\nRedwoods it is.", "Tall, so redwoods. Redwoods it is."),
        ("Tall, so redwoods.</think> Redwoods it is.", "Tall, so redwoods. Redwoods it is."),
        ("<think>Tall, so", "Tall, so"),
        ("Tall, so redwoods.", "Tall, so redwoods."),
    ],
)
def test_thoughts_are_the_text_of_a_reasoning_trace(answer, text):
    assert rewritten(ReasoningTrace(saying(answer)), ONE).texts == [f"tall trees {text}"]


def test_a_trace_without_thoughts_is_a_failure():
    with pytest.raises(ValueError, match="cannot be read"):
        ReasoningTrace(saying("<think>\n</think>")).write(ONE, None)
