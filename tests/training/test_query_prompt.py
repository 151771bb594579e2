"""Prompts of pairs, as text."""

from __future__ import annotations

import pytest

from training.query_prompt import Pair, QueryPrompt, read_pairs, write_pairs


def test_pairs_stand_before_the_document_and_the_model_goes_on_with_its_query():
    text = QueryPrompt(words=2).text("a b c", [Pair("q {document}", "d e f")])
    assert text == "Document: d e\nRelevant query: q {document}\n\nDocument: a b\nRelevant query:"
    assert QueryPrompt().text("a") == "Document: a\nRelevant query:"


@pytest.mark.parametrize(("style", "end"), [("inpars", "\nSearch query 4:"), ("good-bad", "\nGood question 4:")])
def test_hard_prompts_say_what_is_wanted_and_show_three_pairs(style, end):
    text = QueryPrompt(style).text("the document")
    assert text.endswith(f"Text 4: the document{end}") and text.count("\n\n") == 4
    assert text.count("Bad question") == (3 if style == "good-bad" else 0)


def test_pairs_of_a_file_take_the_place_of_ours_the_first_shots_of_them(tmp_path):
    pairs = [Pair(f"query {n}", f"é {n}") for n in range(3)]
    write_pairs(pairs, tmp_path / "pairs.jsonl")
    assert read_pairs(tmp_path / "pairs.jsonl") == pairs
    assert QueryPrompt(examples=tmp_path / "pairs.jsonl", shots=2).shown == pairs[:2]
    with pytest.raises(ValueError, match="3 examples, and shots is 4"):
        QueryPrompt(examples=tmp_path / "pairs.jsonl", shots=4).text("a")


@pytest.mark.parametrize("line", ["{}", '{"query": "", "document": "d"}', "[]", "no", '{"query": "q", "document": 1}'])
def test_a_line_that_is_no_pair_is_named(tmp_path, line):
    (tmp_path / "pairs.jsonl").write_text(f'{{"query": "q", "document": "d"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"pairs.jsonl:2: each line is"):
        read_pairs(tmp_path / "pairs.jsonl")


def test_a_pair_without_the_worse_query_that_a_prompt_shows_is_named(tmp_path):
    pairs = [Pair("q", "d", "w"), Pair("query", "d")]
    write_pairs(pairs, tmp_path / "pairs.jsonl")
    with pytest.raises(ValueError, match=r'pairs.jsonl:2: each line is .* "worse" as this prompt does'):
        QueryPrompt("good-bad", examples=tmp_path / "pairs.jsonl").text("a")
    with pytest.raises(ValueError, match="good-bad shows a worse query beside 'query', which has none"):
        QueryPrompt("good-bad").text("a", pairs)
    assert QueryPrompt("inpars", examples=tmp_path / "pairs.jsonl").shown == pairs


@pytest.mark.parametrize(
    "pair", ["{document}", "{query} {document}", "{document} {query} {other}", "{worse}{document}{query}"]
)
def test_a_file_that_is_no_prompt_is_refused(tmp_path, pair):
    (tmp_path / "own.txt").write_text(f"# own 1\n[pair]\n{pair}\n")
    with pytest.raises(ValueError, match=r"own.txt is \[instruction\], if wanted, and \[pair\]"):
        QueryPrompt(file=tmp_path / "own.txt").text("a")


def test_prompts_that_cannot_be_are_refused():
    for wrong in ({"style": "soft"}, {"words": 0}, {"shots": -1}):
        with pytest.raises(ValueError):
            QueryPrompt(**wrong)
