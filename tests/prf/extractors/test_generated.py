"""Features that a model writes: one question a document, no query in it, failures counted. The model is a rule."""

from __future__ import annotations

import pytest

from prf.extractors.generated import FEATURES, Generated
from retrieval.types import Generation


class Rule:
    """A generator that answers by a rule and remembers the passages that it was shown."""

    def __init__(self, rule=lambda text: f"words of {text}"):
        self.rule, self.shown = rule, []

    def generate(self, requests):
        found = [one.messages[-1]["content"].splitlines()[0].removeprefix("Passage: ") for one in requests]
        self.shown += found
        answers = [self.rule(text) for text in found]
        return enumerate(one if isinstance(one, Generation) else Generation(one, 10, 2) for one in answers)

    def contract(self):
        return {"model": "rule"}


def test_each_text_has_what_the_model_said_of_it():
    assert Generated(Rule()).extract(["b", "a", "b"]) == ["words of b", "words of a", "words of b"]


def test_a_document_is_asked_about_once_whoever_asks():
    rule = Rule()
    Generated(rule).extract(["a", "b", "a"])
    Generated(rule).extract(["b", "c"])
    assert sorted(rule.shown) == ["a", "b", "c"]
    Generated(rule, feature="summary").extract(["b"])
    assert len(rule.shown) == 4  # another question


@pytest.mark.parametrize("feature", FEATURES)
def test_each_feature_has_a_prompt_and_its_own_contract(feature):
    rule = Rule(lambda text: "Because.\nKeywords: one,\ntwo" if feature == "cot_keywords" else "one,\n two")
    made = Generated(rule, feature)
    assert made.extract(["text {query}"]) == ["one, two"] and rule.shown == ["text {query}"]
    about = made.contract()
    assert about["prompt"].startswith(f"{feature} ") and about["max_tokens"] == FEATURES[feature]
    assert about["temperature"] == 0 and about["generator"] == {"model": "rule"}


def test_of_thoughts_only_the_last_keywords_are_read():
    said = "Keywords: are wanted. It is about otters.\nKeywords: otter, river"
    assert Generated(Rule(lambda _: said), "cot_keywords").extract(["x"]) == ["otter, river"]


@pytest.mark.parametrize("said", ["**Keywords:** a, b", "keywords: a, b", "**Keywords**: a, b", "KEYWORDS : a, b"])
def test_a_label_before_keywords_is_no_keyword(said):
    assert Generated(Rule(lambda _: said)).extract(["x"]) == ["a, b"]
    assert Generated(Rule(lambda _: f"It is of b.\n{said}"), "cot_keywords").extract(["x"]) == ["a, b"]


def test_a_fallback_is_no_part_of_the_contract_and_stands_in_the_provenance():
    one, other = Generated(Rule()), Generated(Rule(), fallback="keep")
    assert one.contract() == other.contract() and other.provenance()["fallback"] == "keep"


def test_a_long_passage_is_cut_and_counted():
    made = Generated(rule := Rule(), words=2)
    made.extract(["one two three", "one two"])
    assert rule.shown == ["one two"] and made.provenance()["truncated passages"] == 1


def test_a_blank_text_has_no_feature_and_is_not_asked_about():
    made = Generated(rule := Rule())
    assert made.extract([" ", "a", ""]) == ["", "words of a", ""] and rule.shown == ["a"]
    assert made.extract([]) == []


@pytest.mark.parametrize(
    "answer",
    [Generation("", failure="the server is gone"), "", " \n", "I'm sorry, but I can't help with that."],
    ids=["failed", "empty", "blank", "refused"],
)
def test_a_failed_empty_or_refused_answer_is_a_failure(answer):
    rule = Rule(lambda text: answer if text == "bad" else "good words")
    with pytest.raises(ValueError, match="Rule failed .*fallback: keep"):
        Generated(rule).extract(["a", "bad"])
    made = Generated(rule, fallback="keep")
    assert made.extract(["a", "bad"]) == ["good words", None]
    assert made.provenance()["failed generations"] == 1


def test_keywords_without_their_line_are_a_failure():
    with pytest.raises(ValueError, match="cannot be read"):
        Generated(Rule(lambda _: "It is about otters."), "cot_keywords").extract(["x"])


def test_your_own_prompt_gives_a_feature_of_your_own_name(tmp_path):
    (tmp_path / "own.txt").write_text("# own 7\n[user]\nPassage: {passage}\nColours?\n")
    made = Generated(Rule(lambda _: "red"), "colours", prompt=tmp_path / "own.txt")
    assert made.extract(["x"]) == ["red"] and made.contract()["prompt"] == "own 7"
    (tmp_path / "own.txt").write_text("# own 8\n[user]\n{passage} for {query}\n")
    with pytest.raises(ValueError, match=r"has \{query\}, of which nothing is known"):
        Generated(Rule(), "colours", prompt=tmp_path / "own.txt")


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="feature 'colours' is none of keywords, cot_keywords"):
        Generated(Rule(), "colours")
    with pytest.raises(ValueError, match="max_tokens .* at least 1, not 0"):
        Generated(Rule(), max_tokens=0)
    with pytest.raises(ValueError, match="words is 0"):
        Generated(Rule(), words=0)
    with pytest.raises(ValueError, match="fallback"):
        Generated(Rule(), fallback="skip")
