"""GenQR and GenQREnsemble: ten instructions, empty answers, feedback as context, domains."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from prf._instructed import Instructions, bare
from prf.separate import Separate
from prf.writers.genqr import GenQR
from prf.writers.genqr_ensemble import GenQREnsemble
from retrieval.types import Generation
from tests.prf.writers.rules import ONE, QUERIES, Rule, failing, found, rewritten, saying

PASSAGES = [f"passage {word}" for word in "one two three four five six".split()]


def by_instruction(request):
    """The place of the instruction in the file."""
    prompt = request.messages[-1]["content"]
    return next(f"term-{n}, more" for n, one in enumerate(Instructions().texts) if one in prompt)


def test_ten_instructions_send_ten_prompts_for_each_query():
    model = Rule(by_instruction)
    GenQREnsemble(model).write(QUERIES, None)
    assert len(model.requests) == len({*model.prompts}) == 20
    assert [prompt.split(": ")[0] for prompt in model.prompts] == Instructions().texts * 2


def test_the_query_stands_once_before_all_keywords():
    (new,) = rewritten(GenQREnsemble(Rule(by_instruction)), ONE).texts
    assert new == "tall trees " + " ".join(f"term {n} more" for n in range(10))
    assert Counter(new.split()) == Counter(["tall", "trees", *["term", "more"] * 10, *map(str, range(10))])


@pytest.mark.parametrize("empty", ["", "  \n", "...", "-, -; !"])
def test_an_empty_answer_is_the_query_again_and_no_failure(empty):
    writer = GenQREnsemble(Rule(lambda request: empty if "Suggest" in request.messages[-1]["content"] else "word"))
    (texts,) = writer.write(ONE, None)
    assert texts == ["word"] * 4 + ["tall trees"] + ["word"] * 5
    told = writer.provenance()
    assert told["empty generations"] == 1 and told["failed generations"] == 0


@pytest.mark.parametrize("gone", [Generation("", failure="gone"), "I'm sorry, but I can't help with that."])
def test_an_answer_that_could_not_be_had_is_a_failure_all_the_same(gone):
    rule = Rule(lambda request: gone if "Suggest" in request.messages[-1]["content"] else "word")
    with pytest.raises(ValueError, match="Rule failed"):
        GenQREnsemble(rule).write(ONE, None)
    writer = GenQREnsemble(rule, fallback="keep")
    assert writer.write(ONE, None) == [["word"] * 9] and writer.provenance()["failed generations"] == 1


def test_signs_become_blanks():
    assert bare("1. re-use,\n\u2022 na\u00efve_2!") == "1 re use na\u00efve 2" and bare("--") == ""


def test_the_paper_s_sampling_is_the_default():
    model = saying("x")
    GenQREnsemble(model).write(ONE, None)
    sampling = model.requests[0].sampling
    assert (sampling.top_p, sampling.top_k, sampling.repetition_penalty, sampling.max_tokens) == (0.92, 200, 1.2, 40)


def test_with_feedback_the_context_stands_before_the_instruction():
    model = Rule(by_instruction)
    writer = GenQREnsemble(model, feedback_docs=5)
    assert writer.needs == ("texts",)
    writer.write(QUERIES, found(PASSAGES, PASSAGES[::-1]))
    prompt = model.prompts[0]
    assert " ".join(PASSAGES[:5]) in prompt and "six" not in prompt
    assert prompt.index("passage one") < prompt.index(Instructions().texts[0]) < prompt.index(QUERIES.texts[0])
    assert " ".join(PASSAGES[:0:-1]) in model.prompts[10]


def test_without_feedback_documents_the_prompt_is_the_plain_one():
    plain, none, nothing = saying("x"), saying("x"), saying("x")
    GenQREnsemble(plain).write(ONE, None)
    writer = GenQREnsemble(none, feedback_docs=0)
    writer.write(ONE, found(PASSAGES))
    GenQREnsemble(nothing, feedback_docs=5).write(ONE, found([]))
    assert plain.prompts == none.prompts == nothing.prompts and writer.needs == ()


def test_no_feedback_is_fetched_where_none_is_needed():
    def refuse(rows):
        raise AssertionError("nothing was asked for")

    assert GenQR(saying("x")).write(ONE, replace(found(PASSAGES), texts=refuse)) == [["x"] * 5]


def test_feedback_texts_are_cut_and_blank_ones_left_out():
    model = saying("x")
    writer = GenQR(model, feedback_docs=3, words=2)
    writer.write(ONE, found(["a b c d", "  ", "e"]))
    assert "\na b e\n" in model.prompts[0] and writer.provenance()["truncated passages"] == 1


def test_feedback_without_texts_is_an_error_that_names_the_writer():
    with pytest.raises(ValueError, match="GenQREnsemble needs the texts of feedback documents"):
        GenQREnsemble(saying("x"), feedback_docs=5).write(ONE, None)


def test_a_domain_begins_each_instruction():
    model = saying("x")
    writer = GenQREnsemble(model, domain="The documents are court rulings.")
    writer.write(ONE, None)
    assert [prompt.split(": ")[0] for prompt in model.prompts] == [
        f"The documents are court rulings. {one}" for one in Instructions().texts
    ]
    assert writer.provenance()["domain"] == "The documents are court rulings."


def test_genqr_samples_one_instruction_five_times():
    model = Rule(lambda request: f"word {request.sample}")
    (new,) = rewritten(GenQR(model), ONE).texts
    assert new == "tall trees word 0 word 1 word 2 word 3 word 4"
    assert len({*model.prompts}) == 1 and len(model.requests) == 5


def test_searched_apart_ten_instructions_are_ten_queries():
    writer = GenQREnsemble(Rule(by_instruction))
    (variants,) = Separate().reformulate(ONE, found(*writer.write(ONE, None))).variants
    assert [text for text, _ in variants] == [f"tall trees term {n} more" for n in range(10)]


def test_instructions_may_be_the_users_own(tmp_path):
    (tmp_path / "own.txt").write_text("# mine 2\nSay more of\n\nGive words for\n")
    model = saying("x")
    writer = GenQREnsemble(model, instructions=tmp_path / "own.txt", samples=2)
    assert writer.write(ONE, None) == [["x"] * 4] and writer.provenance()["instructions"] == "mine 2"
    assert model.prompts == ["Say more of: tall trees"] * 2 + ["Give words for: tall trees"] * 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("Say more\n", "the first line is"),
        ("# mine 1\n \n", "at least 1"),
        ("# a 1\nx\nx\n", "none twice"),
        ("", "the fir"),
    ],
)
def test_a_file_of_instructions_that_is_none_is_refused(tmp_path, content, says):
    (tmp_path / "own.txt").write_text(content)
    with pytest.raises(ValueError, match=rf"own\.txt .*{says}"):
        Instructions(tmp_path / "own.txt")


def test_an_own_prompt_for_feedback_needs_the_place_of_the_context(tmp_path):
    (tmp_path / "own.txt").write_text("# mine 1\n[user]\n{instruction} {query}\n")
    with pytest.raises(ValueError, match=r"lacks \{context\}"):
        GenQREnsemble(saying("x"), feedback_docs=1, prompt=tmp_path / "own.txt")
    assert GenQR(saying("x"), prompt=tmp_path / "own.txt").provenance()["prompt"] == "mine 1"


@pytest.mark.parametrize("wrong", [{"feedback_docs": -1}, {"feedback_docs": 1, "words": 0}])
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="0 or more"):
        GenQREnsemble(saying("x"), **wrong)


def test_the_query_stays_where_all_failed():
    assert rewritten(GenQREnsemble(failing(), fallback="keep"), ONE).texts == ["tall trees"]
