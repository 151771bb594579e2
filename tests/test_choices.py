"""A grid below a component: each combination is that component with the values in place, checked like the rest."""

from __future__ import annotations

import re
from typing import Annotated

import pytest

from retrieval.config import ConfigError, VariantsOf, load
from retrieval.protocols import Retriever
from retrieval.yaml_lines import dotted, dump

BM25 = "retriever: {type: bm25, k1: 2.0}\n"


def pick(retriever: Retriever, choices: Annotated[dict[str, Retriever], VariantsOf("retriever")]):
    return retriever, choices


@pytest.fixture
def recipe(tmp_path):
    def recipe(text, *overrides):
        (tmp_path / "x.yaml").write_text(text)
        return load(pick, tmp_path / "x.yaml", overrides)[0]

    return recipe


def test_every_combination_is_the_component_with_these_values(recipe):
    retriever, choices = recipe(BM25 + "choices: {k1: [0.6, 0.9], b: [0.3, 0.75]}")()
    assert (retriever.weights.k1, retriever.weights.b) == (2.0, 0.4)
    assert {name: (one.weights.k1, one.weights.b) for name, one in choices.items()} == {
        "k1=0.6,b=0.3": (0.6, 0.3),
        "k1=0.6,b=0.75": (0.6, 0.75),
        "k1=0.9,b=0.3": (0.9, 0.3),
        "k1=0.9,b=0.75": (0.9, 0.75),
    }


def test_equal_blocks_are_one_object_and_parts_are_shared(recipe):
    text = "retriever: {type: feedback, source: bm25, model: rm3}\nchoices: {model.fb_docs: [5, 10]}"
    retriever, choices = recipe(text)()
    assert choices["model.fb_docs=10"] is retriever and choices["model.fb_docs=5"].model.fb_docs == 5
    assert choices["model.fb_docs=5"].source is retriever.source


def test_values_may_be_lists_and_components(recipe):
    text = "retriever: {type: feedback, source: bm25, model: rm3}\nchoices:\n  model: [rm3, {type: rocchio, beta: 1.0}]"
    assert [*recipe(text)()[1]] == ["model=rm3", 'model={"type": "rocchio", "beta": 1.0}']
    text = "retriever: {type: weighted_sum, retrievers: [bm25, bm25]}\nchoices: {weights: [[1, 2], [2, 1]]}"
    assert [one.weights for one in recipe(text)()[1].values()] == [[1.0, 2.0], [2.0, 1.0]]


def test_whole_components_may_be_named_instead(recipe):
    _, choices = recipe(BM25 + "choices: {plain: bm25, sharp: {type: bm25, b: 0.9}}")()
    assert {name: one.weights.b for name, one in choices.items()} == {"plain": 0.4, "sharp": 0.9}


def test_the_command_line_sets_values_of_a_choice_and_of_what_is_varied(recipe):
    text = "retriever: {type: feedback, source: bm25, model: rm3}\nchoices: {model.fb_docs: [5, 10]}"
    made = recipe(text, "choices.model.fb_docs=[7]", "retriever.source.k1=1.5")()[1]
    assert [*made] == ["model.fb_docs=7"] and made["model.fb_docs=7"].source.weights.k1 == 1.5
    assert recipe(BM25 + "choices: {k1: [0.6]}", "retriever.k1=3.0")()[1]["k1=0.6"].weights.k1 == 0.6


def test_the_command_line_sets_arguments_of_a_choice_that_is_named(recipe):
    made = recipe(BM25 + "choices: {plain: bm25, sharp: {type: bm25, b: 0.9}}", "choices.plain.k1=1.5")()[1]
    assert (made["plain"].weights.k1, made["sharp"].weights.b) == (1.5, 0.9)


def test_what_was_resolved_reads_back_as_the_same_and_each_part_has_a_place_of_its_own(recipe):
    made = recipe("retriever: {type: feedback, source: bm25, model: rm3}\nchoices: {model.fb_docs: [5, 10]}")
    assert recipe(dump(made.to_dict())).key() == made.key()
    places = [dotted(part.place) for part in made.parts()]
    assert "choices.model.fb_docs=5.model" in places and len({*places}) == len(places)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ("{k1: [0.6, 0.9], q: [1, 2, 3]}", r"x.yaml:2: retriever.q: bm25 takes k1, b, .*"),
        ("{k1: []}", r"x.yaml:2: choices.k1: a dotted key takes a list of values, not \[\]"),
        ("{k1: 0.6}", "x.yaml:2: choices.k1: a dotted key takes a list of values, not 0.6"),
        ("{k1: [0.6, 0.6]}", "x.yaml:2: choices.k1: has the same value twice"),
        ("{k1: [low, 0.6]}", "x.yaml:2: retriever.k1: input should be a valid number, .*'low'"),
        ("{index.tie: [lucene]}", "x.yaml:2: retriever.index.tie: Inverted takes ties, .* Did you mean ties[?]"),
    ],
)
def test_each_mistake_is_told_once_with_its_line(recipe, choices, message):
    with pytest.raises(ConfigError) as error:
        recipe(BM25 + f"choices: {choices}")
    assert re.fullmatch(f"[^\n]*{message}", str(error.value)), str(error.value)


def test_mistakes_of_both_are_told_together(recipe):
    with pytest.raises(
        ConfigError, match=r"(?s)x.yaml:1: retriever.kk: .*x.yaml:2: choices.b: a dotted key takes a list"
    ):
        recipe("retriever: {type: bm25, kk: 1}\nchoices: {b: []}")


def test_without_the_component_only_that_is_told(recipe):
    with pytest.raises(ConfigError, match=r"^[^\n]*retriever: missing[^\n]*$"):
        recipe("choices: {b: [0.1, 0.2]}")
