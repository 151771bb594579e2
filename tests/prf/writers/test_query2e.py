"""Query2E: lists of keywords however they are written, each once, at most twenty."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prf.writers.query2e import Query2E, keywords_in
from tests.prf.writers.rules import QUERIES, rewritten, saying

WORDS = st.text("abcdefgh ", min_size=1, max_size=12).map(str.strip).filter(bool)


@pytest.mark.parametrize(
    "answer",
    [
        "red sun, dust, Rayleigh scattering",
        "red sun; dust; Rayleigh scattering.",
        "red sun\ndust\nRayleigh scattering",
        "- red sun\n- dust\n* Rayleigh scattering",
        "\u2022 red sun \u2022 dust \u2022 Rayleigh scattering",
        "1. red sun\n2. dust\n3) Rayleigh scattering",
        '"red sun", "dust", "Rayleigh scattering"',
        "**red sun**, **dust**, **Rayleigh scattering**",
        "Keywords: red sun, dust, Rayleigh scattering",
        "Here are some keywords:\n\n1. red sun\n2. dust\n3. Rayleigh scattering\n",
        "red sun, dust, Red Sun, , ..., Rayleigh scattering, dust",
    ],
)
def test_a_list_is_read_however_it_is_written(answer):
    assert keywords_in(answer) == ["red sun", "dust", "Rayleigh scattering"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("3 d printing, 1984", ["3 d printing", "1984"]),
        ("covid-19, e-mail", ["covid-19", "e-mail"]),
        ("ratio 3:4, http://x.org", ["ratio 3:4", "http://x.org"]),
        ("one keyword", ["one keyword"]),
        ("", []),
        (", ;\n-", []),
        ("Keywords:", []),
    ],
)
def test_signs_within_a_keyword_stay(answer, words):
    assert keywords_in(answer) == words


@given(st.lists(WORDS, unique_by=str.lower, max_size=8), st.sampled_from([", ", "\n", "\n- ", "; "]))
def test_a_list_comes_back_in_its_order(words, between):
    expected = [" ".join(word.split()) for word in words]
    assert keywords_in(between.join(expected)) == list(dict.fromkeys(expected))


def test_at_most_twenty_follow_five_times_the_query():
    new = rewritten(Query2E(saying(", ".join(f"w{n}" for n in range(30)))))
    assert new.texts[1] == " ".join(["tall trees"] * 5 + [f"w{n}" for n in range(20)])
    assert Query2E(saying("a, b, c"), keywords=2).write(QUERIES, None) == [["a b"], ["a b"]]


def test_an_answer_without_a_keyword_is_a_failure():
    with pytest.raises(ValueError, match="cannot be read"):
        Query2E(saying(", ,")).write(QUERIES, None)


def test_examples_are_shown_with_their_keywords(tmp_path):
    path, model = tmp_path / "examples.jsonl", saying("x")
    path.write_text(json.dumps({"query": "rain", "text": "cloud, drop"}) + "\n")
    Query2E(model, examples=path, shots=1).write(QUERIES, None)
    assert "Query: rain\nKeywords: cloud, drop" in model.prompts[0] and model.prompts[0].count("tall") == 0


def test_no_keywords_at_all_are_refused():
    with pytest.raises(ValueError, match="keywords is 0"):
        Query2E(saying("x"), keywords=0)
