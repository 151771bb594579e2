"""What writers share: clean texts, failures, examples, prompts of several kinds."""

from __future__ import annotations

import json

import pytest

from prf._writing import Kinds, Texts, examples_in, joined, passage, prompt_of
from retrieval.sampling import Sampling
from retrieval.types import Generation, Queries
from tests.prf.writers.rules import Rule, failing, saying

CHATS = [[{"role": "user", "content": one}] for one in ("first", "second")]
REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request.",
    "Sorry, I am unable to provide medical advice.",
    "As an AI language model, I cannot answer that.",
    "I\u2019m not able to write about this.",
]


def texts(generator, samples=1, **more):
    return Texts(generator, Sampling(temperature=1.0), samples, **more)


def test_each_chat_gets_its_samples_in_order():
    model = Rule(lambda request: f"{request.messages[-1]['content']} {request.sample}")
    assert texts(model, 3).write(CHATS) == [["first 0", "first 1", "first 2"], ["second 0", "second 1", "second 2"]]
    assert len(model.requests) == 6 and len(model.calls) == 1
    assert texts(saying("x")).write([]) == []


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("  one\n\ntwo\t three ", "one two three"),
        ('"a passage"', "a passage"),
        ("\u201ca passage\u201d", "a passage"),
        ('"a" and "b"', '"a" and "b"'),
        ('"', None),
        ("", None),
        (" \n", None),
        ("... !?", None),
        ('"..."', None),
        ("\u00fc", "\u00fc"),
    ],
)
def test_an_answer_becomes_one_line_without_quotes_around_it(answer, text):
    assert passage(answer) == text


@pytest.mark.parametrize("answer", ["", "?!", Generation("", failure="gone"), *REFUSALS])
def test_an_empty_or_refused_answer_is_a_failure(answer):
    with pytest.raises(ValueError, match="Rule failed .*fallback: keep leaves such a text out"):
        texts(saying(answer)).write(CHATS)
    kept = texts(saying(answer), fallback="keep")
    assert kept.write(CHATS) == [[], []]
    counts = kept.provenance()
    assert counts["generations"] == counts["failed generations"] == 2


@pytest.mark.parametrize(
    "answer", ["I cannot help but notice the sky.", "We cannot answer why.", "Sorry sights abound"]
)
def test_what_only_begins_like_a_refusal_is_a_text(answer):
    assert texts(saying(answer)).write(CHATS) == [[answer], [answer]]


def test_samples_that_failed_are_left_out_and_the_others_stay():
    model = Rule(lambda request: "" if request.sample == 1 else f"text {request.sample}")
    kept = texts(model, 3, fallback="keep")
    assert kept.slots(CHATS) == [["text 0", None, "text 2"]] * 2
    assert kept.write(CHATS) == [["text 0", "text 2"]] * 2
    assert kept.provenance()["failed generations"] == 4


def test_an_answer_that_max_tokens_ended_is_kept_and_counted():
    kept = texts(Rule(lambda request: Generation("half a", 5, 2, "length")))
    assert kept.write(CHATS) == [["half a"], ["half a"]]
    assert kept.provenance()["cut generations"] == 2 and kept.provenance()["failed generations"] == 0


def test_thoughts_are_no_text_and_unfinished_ones_are_a_failure():
    assert texts(saying("<think>hm</think> the text")).write(CHATS) == [["the text"]] * 2
    assert texts(saying("<think>hm, so"), fallback="keep").write(CHATS) == [[], []]


def test_several_samples_of_temperature_0_are_refused():
    with pytest.raises(ValueError, match="3 samples at temperature 0 are all the same"):
        Texts(saying("x"), Sampling(), 3)


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"fallback": "skip"}])
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        texts(saying("x"), **wrong)


def test_what_determines_a_text_is_told():
    told = texts(saying("x"), 2, fallback="keep").provenance()
    assert told["generator"] == "Rule" and told["samples"] == 2 and told["fallback"] == "keep"
    assert told["temperature"] == 1.0 and told["max_tokens"] == 256


def written(path, *lines):
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return path


def test_examples_are_the_first_lines_of_a_file(tmp_path):
    lines = [{"query": "a", "text": "A"}, {"query": "b", "passages": ["B", "no"]}, {"query": "c", "text": "C"}]
    assert examples_in(written(tmp_path / "x.jsonl", *lines), 2) == [("a", "A"), ("b", "B")]


@pytest.mark.parametrize(
    "line", ["not JSON", "[]", {"query": "a"}, {"query": 1, "text": "A"}, {"query": "a", "passages": []}, {"text": "A"}]
)
def test_an_example_that_is_none_is_named_by_its_line(tmp_path, line):
    path = written(tmp_path / "x.jsonl", {"query": "a", "text": "A"}, line)
    with pytest.raises(ValueError, match=r"x\.jsonl:2: each line is"):
        examples_in(path, 2)


def test_too_few_examples_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has 1 examples, and 4 are wanted: add some, or lower shots"):
        examples_in(written(tmp_path / "x.jsonl", {"query": "a", "text": "A"}), 4)
    with pytest.raises(ValueError, match="shots is 0"):
        examples_in(tmp_path / "x.jsonl", 0)


def test_kinds_are_asked_for_in_one_call_and_stand_in_their_order():
    model = Rule(lambda request: request.messages[-1]["content"].split()[0])
    kinds = Kinds("grf", ["news", "facts"], ["facts", "news"], None, Texts(model, Sampling(), 1, None))
    asked = Queries(["a", "b"], ["sky", "sea"])
    assert kinds.write(asked) == [["Write", "List"], ["Write", "List"]] and len(model.calls) == 1
    assert [*kinds.provenance()["prompts"]] == ["news", "facts"]


def test_a_kind_that_failed_leaves_the_others():
    kinds = Kinds("grf", ["news", "facts"], ["facts", "news"], None, Texts(failing("report"), Sampling(), 1, "keep"))
    assert kinds.write(Queries(["a"], ["sky"])) == [["some text"]]


@pytest.mark.parametrize(("wrong", "says"), [(["fact"], "no 'fact'"), ([], "name some"), (["news"] * 2, "each once")])
def test_kinds_that_are_not_there_or_named_twice_are_refused(wrong, says):
    with pytest.raises(ValueError, match=f"grf has the kinds facts, news: .*{says}"):
        Kinds("grf", wrong, ["facts", "news"], None, Texts(saying("x"), Sampling(), 1, None))


def test_kinds_may_have_prompts_of_the_users_own(tmp_path):
    (tmp_path / "grf_news.txt").write_text("# mine 7\n[user]\nnews of {query}\n")
    model = saying("x")
    kinds = Kinds("grf", ["news"], ["news"], tmp_path, Texts(model, Sampling(), 1, None))
    kinds.write(Queries(["a"], ["sky"]))
    assert model.prompts == ["news of sky"] and kinds.provenance()["prompts"]["news"]["prompt"] == "mine 7"


def test_a_prompt_with_an_unknown_field_says_which(tmp_path):
    (tmp_path / "own.txt").write_text("# mine 1\n[user]\n{query} {topic}\n")
    with pytest.raises(
        ValueError, match=r"own\.txt has \{topic\}, of which nothing is known: the places are \{query\}"
    ):
        prompt_of("hyde", tmp_path / "own.txt", ("query",))


def test_lists_are_joined_so_many_at_a_time():
    assert joined([[1], [2, 3], [], [4]], 2) == [[1, 2, 3], [4]] and joined([], 3) == []
