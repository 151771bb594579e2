"""Writers that read a first pass: LameR, ThinkQE, CSQE. The model is a rule."""

from __future__ import annotations

import pytest

from prf._passages import Passages, numbered
from prf.writers.csqe import CSQE, quotes
from prf.writers.lamer import LameR
from prf.writers.thinkqe import ThinkQE, concluded
from retrieval.corpus import Corpus, Document
from retrieval.protocols import Writer
from retrieval.registry import find
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.rewrite import Rewrite
from retrieval.sampling import Sampling
from retrieval.types import Feedback, Generation, Queries
from tests.prf.writers.shown import PASSAGE, asked, broken, first_pass, joined, queries, ruled

TEXTS = ["an otter swims", "a comet\nflies far away", "  ", "a teapot stands"]


def sampled(request):
    return f"answer {request.sample}"


def csqe(request):
    return '[1] "Key Sentence."' if PASSAGE.search(asked(request)) else f"Knowledge {request.sample}"


@pytest.mark.parametrize(("name", "kind"), [("lamer", LameR), ("thinkqe", ThinkQE), ("csqe", CSQE)])
def test_recipes_find_them_by_their_files(name, kind):
    assert find(Writer, name) is kind


def test_lamer_interleaves_five_answers_with_the_query():
    model = ruled(sampled)
    writer = LameR(model)
    asks = queries("what swims")
    texts = writer.write(asks, first_pass(TEXTS, [0, 1]))
    assert texts == [[f"answer {i}" for i in range(5)]]
    woven = " ".join(f"what swims answer {i}" for i in range(5))
    assert joined(writer, asks, texts).texts == [woven]
    assert [request.sample for request in model.requests] == [0, 1, 2, 3, 4]
    assert {(request.sampling.temperature, request.sampling.max_tokens) for request in model.requests} == {(1.0, 128)}


@pytest.mark.parametrize("kind", [LameR, ThinkQE, CSQE])
def test_a_prompt_shows_the_first_passages_by_rank_and_says_that_they_may_be_wrong(kind):
    model = ruled(csqe)
    kind(model, passages=2).write(queries("what flies"), first_pass(TEXTS, [3, 1, 0]))
    prompt = next(asked(request) for request in model.requests if PASSAGE.search(asked(request)))
    assert PASSAGE.findall(prompt) == [("1", "a teapot stands"), ("2", "a comet flies far away")]
    assert "what flies" in prompt and any(word in prompt for word in ("wrong", "may not be", "Which passages"))


@pytest.mark.parametrize("kind", [LameR, ThinkQE, CSQE])
def test_passages_without_text_are_skipped_and_long_ones_cut_and_both_counted(kind):
    model = ruled(csqe)
    writer = kind(model, words=2)
    writer.write(queries("q", "r"), first_pass(TEXTS, [2, 1], [2]))
    prompts = {asked(request) for request in model.requests if PASSAGE.search(asked(request))}
    assert [PASSAGE.findall(prompt) for prompt in prompts] == [[("1", "a comet")]]
    about = writer.provenance()
    assert (about["empty passages"], about["truncated passages"], about["queries without passages"]) == (2, 1, 1)


@pytest.mark.parametrize("kind", [LameR, ThinkQE])
def test_a_query_whose_first_pass_finds_nothing_is_not_asked_about_and_stays_as_it_is(kind):
    model = ruled(sampled)
    writer, asks = kind(model), queries("found", "lost")
    texts = writer.write(asks, first_pass(TEXTS, [0], []))
    assert texts[1] == [] and len(texts[0]) == writer.texts.samples == len(model.requests)
    assert joined(writer, asks, texts).texts[1] == "lost"
    assert writer.provenance()["queries without passages"] == 1


@pytest.mark.parametrize("kind", [LameR, ThinkQE])
def test_no_passages_ask_nothing(kind):
    model = ruled(sampled)
    assert kind(model, passages=0).write(queries("q"), first_pass(TEXTS, [0])) == [[]]
    assert model.requests == []


def test_csqe_without_a_first_pass_has_what_the_model_knows():
    writer = CSQE(ruled(csqe))
    assert writer.write(queries("q"), first_pass(TEXTS, [])) == [["knowledge 0", "knowledge 1"]]


@pytest.mark.parametrize("kind", [LameR, ThinkQE, CSQE])
def test_a_failure_raises_and_with_a_fallback_leaves_the_query_as_it_is(kind):
    with pytest.raises(ValueError, match="Rule failed .the server is gone.; .*fallback: keep"):
        kind(ruled(broken)).write(queries("q"), first_pass(TEXTS, [0]))
    writer, asks = kind(ruled(broken), fallback="keep"), queries("q")
    texts = writer.write(asks, first_pass(TEXTS, [0]))
    assert texts == [[]] and joined(writer, asks, texts).texts == ["q"]
    about = writer.provenance()
    assert about["failed generations"] == about["generations"] > 0


@pytest.mark.parametrize("answer", ["", "  ", "I'm sorry, but I cannot help with that."])
def test_an_empty_or_refused_answer_is_a_failure_and_the_others_stay(answer):
    writer = LameR(
        ruled(lambda request: answer if request.sample == 1 else sampled(request)), samples=3, fallback="keep"
    )
    assert writer.write(queries("q"), first_pass(TEXTS, [0])) == [["answer 0", "answer 2"]]
    assert writer.provenance()["failed generations"] == 1


@pytest.mark.parametrize("kind", [LameR, ThinkQE, CSQE])
def test_feedback_without_texts_or_of_other_queries_is_refused(kind):
    shown = first_pass(TEXTS, [0])
    with pytest.raises(ValueError, match=f"{kind.__name__} needs the texts of feedback documents"):
        kind(ruled(sampled)).write(queries("q"), Feedback(shown.run))
    with pytest.raises(ValueError, match=f"{kind.__name__} needs the texts"):
        kind(ruled(sampled)).write(queries("q"), None)
    with pytest.raises(ValueError, match="was given 2 queries and the feedback of others"):
        kind(ruled(sampled)).write(queries("q", "r"), shown)


def test_thinkqe_keeps_what_follows_the_thoughts():
    model = ruled(lambda request: f"<think>which\nanimal</think>\n\nThe otter\nswims {request.sample}.")
    writer, asks = ThinkQE(model), queries("what swims")
    texts = writer.write(asks, first_pass(TEXTS, [0]))
    assert texts == [["The otter swims 0.", "The otter swims 1."]]
    assert joined(writer, asks, texts).texts == ["what swims The otter swims 0. The otter swims 1."]
    assert {request.sampling.temperature for request in model.requests} == {0.7}


def test_thoughts_that_do_not_end_are_no_text():
    assert concluded("<think>the otter, or the") is None and concluded("the otter") == "the otter"
    with pytest.raises(ValueError, match="cannot be read"):
        ThinkQE(ruled("<think>the otter, or the")).write(queries("q"), first_pass(TEXTS, [0]))


@pytest.mark.parametrize(("words", "query", "times"), [(300, "a b c d e f", 16), (10, "a b c d e f", 1)])
def test_thinkqe_repeats_the_query_by_the_words_of_its_texts(words, query, times):
    written = [["w " * (words // 2 - 1) + "w"] * 2]
    (text,) = joined(ThinkQE(ruled("x")), queries(query), written).texts
    assert text == " ".join([query] * times + ["w"] * words)


def test_csqe_puts_knowledge_then_quotes_after_the_query_twice():
    model = ruled(csqe)
    writer, asks = CSQE(model), queries("What")
    texts = writer.write(asks, first_pass(TEXTS, [0]))
    assert texts == [["knowledge 0", "knowledge 1", "key sentence.", "key sentence."]]
    assert joined(writer, asks, texts).texts == ["What\nWhat\nknowledge 0\nknowledge 1\nkey sentence.\nkey sentence."]
    assert len(model.requests) == 4 and writer.provenance()["generations"] == 4


def test_csqe_shows_a_worked_example_as_earlier_turns():
    model = ruled(csqe)
    CSQE(model).write(queries("q"), first_pass(TEXTS, [0]))
    chat = next(request.messages for request in model.requests if PASSAGE.search(asked(request)))
    assert [turn["role"] for turn in chat] == ["system", "user", "assistant", "user"]
    assert quotes(chat[2]["content"])[0]


@pytest.mark.parametrize(
    ("answer", "found", "unbalanced"),
    [
        ('[1] "One here." and "two"', ["One here.", "two"], 0),
        ("[1] “One here.” then “two”", ["One here.", "two"], 0),
        ('“He said "swim" to me.” "And \'left\'"', ['He said "swim" to me.', "And 'left'"], 0),
        ('"over two\nlines"', ["over two lines"], 0),
        ("no quote at all", [], 0),
        ('"" "  "', [], 0),
        ('[1] "One here.', [], 1),
        ('"one"\n[2] "two\n[3] "three"', ["one", "three"], 1),
        ('a 5" pipe and "two"', [], 1),
        ("“never closed", [], 1),
        ("never opened”", [], 1),
        ('“mixed"', [], 1),
    ],
)
def test_every_string_in_straight_or_curly_quotes_and_none_that_does_not_pair_up(answer, found, unbalanced):
    assert quotes(answer) == (found, unbalanced)


def test_answers_without_quotes_and_unbalanced_ones_are_counted_and_knowledge_remains():
    def rule(request):
        if not PASSAGE.search(asked(request)):
            return csqe(request)
        return "none is relevant" if request.sample else '[1] "One'

    writer = CSQE(ruled(rule))
    assert writer.write(queries("q"), first_pass(TEXTS, [0])) == [["knowledge 0", "knowledge 1"]]
    about = writer.provenance()
    assert (about["answers without quotes"], about["unbalanced quotes"], about["failed generations"]) == (2, 1, 0)


def test_equal_settings_of_several_queries_go_into_one_call():
    model = ruled(sampled)
    LameR(model, samples=2).write(queries("q", "r"), first_pass(TEXTS, [0], [1]))
    assert [len(call) for call in model.calls] == [4]


def test_ones_own_prompt_and_sampling_are_used_and_named(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("# mine 2\n[user]\n{query}:\n{passages}\n")
    model = ruled(sampled)
    writer = LameR(model, prompt=path, samples=1, sampling=Sampling(9, 0.5, seed=3))
    writer.write(queries("{passages}"), first_pass(TEXTS, [0]))
    assert asked(model.requests[0]) == "{passages}:\n[1] an otter swims"
    about = writer.provenance()
    assert (about["prompt"], about["seed"], about["max_tokens"]) == ("mine 2", 3, 9)


def test_a_prompt_with_an_unknown_place_is_refused(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("# mine 2\n[user]\n{query} {passages} {passage}\n")
    with pytest.raises(
        ValueError, match="has {passage}, of which nothing is known: the places are {query}, {passages}"
    ):
        LameR(ruled(sampled), prompt=path)


@pytest.mark.parametrize(("count", "words"), [(-1, None), (3, 0)])
def test_passages_that_cannot_be_are_refused(count, words):
    with pytest.raises(
        ValueError, match=f"passages is 0 or more and words at least 1 or None, not {count} and {words}"
    ):
        Passages(count, words)


def test_passages_are_numbered_from_one():
    assert numbered(["a", "b"]) == "[1] a\n[2] b" and numbered([]) == ""


def test_an_answer_cut_at_its_length_is_kept_and_counted():
    writer = LameR(ruled(Generation("half an ans", 5, 128, "length")), samples=1)
    assert writer.write(queries("q"), first_pass(TEXTS, [0])) == [["half an ans"]]
    assert writer.provenance()["cut generations"] == 1


@pytest.fixture
def bm25(tmp_path):
    texts = ["otter thing", "comet thing", "violin spruce", "harbour sea"]
    corpus = Corpus.build([Document(f"d{i}", "", text) for i, text in enumerate(texts)], tmp_path / "corpus")

    def opened(retriever):
        retriever.open(corpus, tmp_path)
        return retriever

    return opened


@pytest.mark.parametrize("kind", [LameR, ThinkQE, CSQE])
def test_before_bm25_the_written_texts_are_searched_with(bm25, kind):
    def rule(request):
        return csqe(request) if kind is CSQE else "violin"

    model, asks = ruled(rule), queries("otter thing", "the of", "unheard")
    writer = kind(model, passages=2)
    run = bm25(Rewrite(writer, BM25(), depth=2)).retrieve(asks, 4)
    found = [Queries(["q0"], ["otter thing"]), first_pass(["otter thing", "comet thing"], [0, 1])]
    by_hand = joined(kind(ruled(rule)), found[0], kind(ruled(rule), passages=2).write(*found))
    plain = bm25(BM25())
    assert run.to_dict()["q0"] == plain.retrieve(by_hand, 4).to_dict()["q0"]
    assert run.to_dict()["q1"] == run.to_dict()["q2"] == {}
    assert writer.provenance()["queries without passages"] == 2


@pytest.mark.parametrize("kind", [LameR, ThinkQE, CSQE])
def test_a_first_pass_of_depth_0_is_exactly_the_plain_retriever_and_asks_nothing(bm25, kind):
    model, asks = ruled(csqe), queries("otter thing", "unheard")
    run = bm25(Rewrite(kind(model), BM25(), depth=0)).retrieve(asks, 4)
    assert run.to_dict() == bm25(BM25()).retrieve(asks, 4).to_dict() and model.requests == []
