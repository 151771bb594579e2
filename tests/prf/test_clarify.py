"""A question and the answer of a simulated user: who sees what, what joins the query, and what is written down."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from prf.clarify import Clarify, first_line
from retrieval.corpus import Corpus, Document
from retrieval.protocols import Reformulator
from retrieval.registry import find
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.multi_round import MultiRound
from retrieval.types import Feedback, Generation, Queries
from tests.prf.toy import run

TEXTS = ["the river is deep", "rivers of salt", "a comet"]
ASKED = Queries(["q0", "q1"], ["river", "comet"], terms=[{"river": 1}, {"comet": 1}])
FOUND = Feedback(run(3, [(0, 2.0), (1, 1.0)], []), texts=lambda rows: [TEXTS[row] for row in rows.tolist()])


class Rule:
    """A generator that answers by a rule, and remembers the chats."""

    def __init__(self, rule):
        self.rule, self.seen = rule, []

    def generate(self, requests):
        chats = [request.messages[-1]["content"] for request in requests]
        self.seen += chats
        answers = [self.rule(chat) for chat in chats]
        return enumerate(one if isinstance(one, Generation) else Generation(one, 10, 2) for one in answers)


def asking(chat):
    return f"Which {re.search('Search query: (.*)', chat)[1].split()[0]}?\nA second line."


def answering(chat):
    return f"The {re.search('What you want to find out: (.*)', chat)[1]}"


@pytest.fixture
def information(tmp_path):
    lines = [{"_id": "q0", "need": "elbe"}, {"_id": "q1", "need": "halley"}, {"_id": "other", "need": "x"}]
    (tmp_path / "needs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "needs.jsonl"


def clarify(information, asks=asking, answers=answering, **settings):
    return Clarify(Rule(asks), Rule(answers), information, **settings)


def test_a_recipe_finds_it_by_its_file():
    assert find(Reformulator, "clarify") is Clarify


def test_question_and_answer_follow_the_query_and_nothing_else_is_searched_with(information):
    moved = clarify(information).reformulate(ASKED, FOUND)
    assert moved.texts == ["river Which river? The elbe", "comet Which comet? The halley"]
    assert moved.terms is None and ASKED.texts == ["river", "comet"]


def test_who_asks_sees_what_was_found_and_only_the_user_knows_the_need(information):
    model = Rule(asking), Rule(answering)
    Clarify(*model, information, passages=1).reformulate(ASKED, FOUND)
    asked, answered = (one.seen for one in model)
    assert "[1] the river is deep" in asked[0] and "salt" not in asked[0] and "(nothing)" in asked[1]
    assert not any("elbe" in chat or "halley" in chat for chat in asked)
    assert "elbe" in answered[0] and "Which river?" in answered[0] and "second line" not in answered[0]


def test_without_passages_no_first_pass_is_needed(information):
    model = clarify(information, passages=0)
    assert model.needs == () and model.reformulate(ASKED, None).texts[0] == "river Which river? The elbe"


def test_instructions_are_the_needs_where_no_file_is_named():
    model = Clarify(Rule(asking), Rule(answering))
    told = replace(ASKED, instructions=["rhine", "encke"])
    assert model.reformulate(told, FOUND).texts == ["river Which river? The rhine", "comet Which comet? The encke"]
    with pytest.raises(ValueError, match="Clarify plays a user who knows what is wanted: name a file"):
        model.reformulate(ASKED, FOUND)


def test_one_model_may_play_both(information):
    both = Rule(lambda chat: asking(chat) if "Search query:" in chat else answering(chat))
    assert Clarify(both, information=information).reformulate(ASKED, FOUND).texts[0] == "river Which river? The elbe"


@pytest.mark.parametrize(
    "wrong", ["", "  \n ", "I'm sorry, but I cannot help with that.", Generation("", failure="the server is gone")]
)
def test_a_generation_that_failed_raises_or_leaves_the_query_and_is_counted(information, wrong):
    for rules in ({"asks": lambda chat: wrong}, {"answers": lambda chat: wrong}):
        with pytest.raises(ValueError, match="fallback: keep"):
            clarify(information, **rules).reformulate(ASKED, FOUND)
        model = clarify(information, **rules, fallback="keep")
        assert model.reformulate(ASKED, FOUND).texts == ASKED.texts
        assert [(line["_id"], line["answer"]) for line in model.lines] == [("q0", None), ("q1", None)]
        assert [line["question"] for line in model.lines] == (
            [None] * 2 if "asks" in rules else ["Which river?", "Which comet?"]
        )
        assert model.provenance()["failed generations"] == 2


def test_the_turns_of_each_query_are_written_down(information, tmp_path):
    corpus = Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(TEXTS)), tmp_path / "corpus")
    transcript = tmp_path / "made" / "transcript.jsonl"
    retriever = MultiRound(BM25(), clarify(information, transcript=transcript), 1, 3, exclude_seen=False)
    retriever.open(corpus, tmp_path)
    retriever.retrieve(Queries(["q0", "q1"], ["river", "comet"]), 5)
    lines = [json.loads(line) for line in transcript.read_text().splitlines()]
    assert [(line["_id"], line["turn"]) for line in lines] == [("q0", 1), ("q1", 1), ("q0", 2), ("q1", 2)]
    assert lines[0] == {"_id": "q0", "turn": 1, "query": "river", "question": "Which river?", "answer": "The elbe"}
    assert lines[2]["query"] == "river Which river? The elbe"
    about = retriever.provenance()
    assert about["update"]["simulated user"] is True and about["generations"] == 8


def test_turns_are_counted_anew_where_a_query_is_asked_afresh(information):
    model = clarify(information)
    later = model.reformulate(ASKED, FOUND)
    model.reformulate(later, FOUND)
    model.reformulate(ASKED, FOUND)
    assert [line["turn"] for line in model.lines if line["_id"] == "q0"] == [1, 2, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"_id": "q0", "need": "a"}'], "has no need for 1 queries, such as 'q1'"),
        (['{"_id": "q0"}'], "needs.jsonl:1: each line is"),
        (['{"_id": "q0", "need": " "}'], "needs.jsonl:1: each line is"),
        (['{"_id": "q0", "need": "a"}'] * 2, "needs.jsonl:2: the need of query 'q0' is given twice"),
        (["no json"], "needs.jsonl:1: not JSON"),
    ],
)
def test_a_file_of_needs_that_cannot_be_is_refused(information, lines, message):
    information.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        clarify(information).reformulate(ASKED, FOUND)


def test_a_prompt_with_an_unknown_place_is_refused(information, tmp_path):
    (tmp_path / "clarify-question.txt").write_text("# mine 1\n[user]\n{query} {documents}")
    with pytest.raises(ValueError, match="has {documents}, of which nothing is known"):
        clarify(information, prompts=tmp_path)


def test_the_prompts_of_the_user_are_taken(information, tmp_path):
    (tmp_path / "clarify-question.txt").write_text("# mine 1\n[user]\nSearch query: {query}")
    (tmp_path / "clarify-answer.txt").write_text("# mine 2\n[user]\nWhat you want to find out: {need}\n{question}")
    model = clarify(information, prompts=tmp_path)
    assert model.reformulate(ASKED, FOUND).texts[0] == "river Which river? The elbe"
    assert model.provenance()["answer"]["prompt"] == "mine 2"


def test_feedback_without_texts_is_refused(information):
    with pytest.raises(ValueError, match="Clarify needs the texts of feedback documents"):
        clarify(information).reformulate(ASKED, replace(FOUND, texts=None))


def test_a_setting_that_cannot_be_is_refused(information):
    with pytest.raises(ValueError, match="passages is -1"):
        clarify(information, passages=-1)


def test_the_first_line_that_says_anything_is_the_answer():
    assert first_line("\n ... \n  The   Elbe.\nMore") == "The Elbe." and first_line("?!") is None
