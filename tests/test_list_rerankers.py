"""Reranking by a language model: windows, pairs, prompts, and answers that are not as asked. The model is a rule."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.asking import answer_of
from retrieval.chat_prompt import MessagePrompt
from retrieval.protocols import ListReranker
from retrieval.registry import find
from retrieval.rerankers.duo import REQUESTS, Duo, chosen
from retrieval.rerankers.listwise import Listwise, numbers, windows
from retrieval.types import Generation

PASSAGE = re.compile(r"^\[(\d+)\] (.*)$", re.MULTILINE)


def value(text):
    """What the rule thinks of a text: the number it ends in."""
    return int(text.split()[-1])


def ordering(request):
    """Orders the passages of a listwise prompt by value."""
    shown = PASSAGE.findall(request.messages[-1]["content"])
    return " > ".join(f"[{number}]" for number, text in sorted(shown, key=lambda one: -value(one[1])))


def comparing(request):
    """Names the passage of a duo prompt that has the higher value."""
    content = request.messages[-1]["content"]
    a, b = (value(re.search(f"Passage {letter}: (.*)", content)[1]) for letter in "AB")
    return "A" if a > b else "B"


class Rule:
    """A generator that answers by a rule, and remembers what it was asked."""

    def __init__(self, rule):
        self.rule, self.calls = rule, []

    def generate(self, requests):
        self.calls.append(list(requests))
        answers = [self.rule(request) for request in requests]
        return enumerate(one if isinstance(one, Generation) else Generation(one, 10, 2) for one in answers)


def texts(*values):
    return [f"text number {one}" for one in values]


def failing(request):
    return Generation("", failure="the server is gone")


def test_recipes_find_them_by_their_files():
    assert find(ListReranker, "listwise") is Listwise and find(ListReranker, "duo") is Duo


def test_one_window_is_ordered_as_the_model_says():
    (order,) = Listwise(Rule(ordering)).orders(["q"], [texts(3, 9, 1, 7)])
    assert order == [1, 3, 0, 2]


@given(st.permutations(range(23)))
@settings(deadline=None, max_examples=20)
def test_windows_from_the_end_bring_the_best_to_the_front(values):
    (order,) = Listwise(Rule(ordering), window=6, stride=3).orders(["q"], [texts(*values)])
    assert sorted(order) == list(range(23))
    assert [values[i] for i in order[:3]] == [22, 21, 20]  # as many as a window hands on


def test_windows_slide_from_the_end_and_reach_the_start():
    assert windows(100, 20, 10)[:2] == [(80, 100), (70, 90)] and windows(100, 20, 10)[-1] == (0, 20)
    assert windows(25, 20, 10) == [(5, 25), (0, 15)]
    assert windows(20, 20, 10) == windows(20, 30, 10) == [(0, 20)]
    assert windows(1, 20, 10) == windows(0, 20, 10) == []


@given(st.integers(2, 60), st.integers(2, 20), st.integers(1, 19))
def test_windows_overlap_and_hold_every_place(count, window, stride):
    spans = windows(count, window, min(stride, window - 1))
    assert {i for start, stop in spans for i in range(start, stop)} == set(range(count))
    assert all(2 <= stop - start <= window for start, stop in spans)
    assert all(later[1] > earlier[0] for earlier, later in zip(spans, spans[1:], strict=False))


def test_windows_that_are_due_of_all_lists_go_into_one_call():
    model = Rule(ordering)
    lists = [texts(*range(9)), texts(2, 1), texts(5), [], texts(*range(5))]
    orders = Listwise(model, window=4, stride=2).orders(["a", "b", "c", "d", "e"], lists)
    assert orders[1:4] == [[0, 1], [0], []]
    assert [len(call) for call in model.calls] == [3, 2, 1, 1]
    single = [Listwise(Rule(ordering), window=4, stride=2).orders(["q"], [one])[0] for one in lists]
    assert orders == single


def test_a_request_carries_messages_and_how_to_sample():
    model = Rule(ordering)
    Listwise(model, max_tokens=99, seed=5).orders(["which one"], [texts(1, 2)])
    ((request,),) = model.calls
    assert {key: getattr(request.sampling, key) for key in ("max_tokens", "temperature", "seed")} == {
        "max_tokens": 99,
        "temperature": 0.0,
        "seed": 5,
    }
    assert [one["role"] for one in request.messages] == ["system", "user"]
    assert request.messages[1]["content"].count("which one") == 2


@pytest.mark.parametrize(
    ("answer", "order", "malformed"),
    [
        ("[2] > [3] > [1]", [1, 2, 0], 0),
        ("The order is: [2] > [3] > [1].", [1, 2, 0], 0),
        ("2 > 3 > 1", [1, 2, 0], 0),
        ("[2] > [2] > [3] > [1]", [1, 2, 0], 1),
        ("[3]", [2, 0, 1], 1),
        ("[7] > [2] > [0]", [1, 0, 2], 1),
        ("<think>[1] is good, [3] better</think>[2] > [3] > [1]", [1, 2, 0], 0),
    ],
)
def test_an_answer_is_read_as_far_as_it_goes_and_what_is_wrong_is_counted(answer, order, malformed):
    reranker = Listwise(Rule(lambda request: answer))
    assert reranker.orders(["q"], [texts(1, 2, 3)]) == [order]
    assert reranker.provenance()["malformed orders"] == malformed


@pytest.mark.parametrize("answer", ["", "I cannot rank 3 passages.", "[0] > [9]", Generation("[1]", failure="cut")])
def test_a_failure_raises_unless_a_fallback_is_named_and_is_then_counted(answer):
    with pytest.raises(ValueError, match="Rule failed .*fallback: keep leaves such a window as it was, and counts it"):
        Listwise(Rule(lambda request: answer)).orders(["q"], [texts(1, 2, 3)])
    reranker = Listwise(Rule(lambda request: answer), fallback="keep")
    assert reranker.orders(["q", "r"], [texts(1, 2, 3)] * 2) == [[0, 1, 2]] * 2
    about = reranker.provenance()
    assert (about["generations"], about["failed generations"], about["malformed orders"]) == (2, 2, 0)


def test_a_failed_window_stays_and_the_others_are_ordered():
    def rule(request):
        return failing(request) if "number 9" in request.messages[-1]["content"] else ordering(request)

    reranker = Listwise(Rule(rule), window=2, stride=1, fallback="keep")
    assert reranker.orders(["q", "q"], [texts(9, 1, 2), texts(3, 4)]) == [[0, 2, 1], [1, 0]]


def test_texts_are_cut_to_words_and_counted():
    model = Rule(lambda request: "[1] > [2]")
    reranker = Listwise(model, words=3)
    reranker.orders(["q"], [["one two\nthree four", "five six seven"]])
    ((request,),) = model.calls
    assert PASSAGE.findall(request.messages[-1]["content"]) == [("1", "one two three"), ("2", "five six seven")]
    assert reranker.provenance()["truncated passages"] == 1


@given(st.permutations(range(7)))
@settings(deadline=None, max_examples=20)
def test_pairs_give_the_order_of_a_model_that_contradicts_itself_nowhere(values):
    (order,) = Duo(Rule(comparing)).orders(["q"], [texts(*values)])
    assert [values[i] for i in order] == list(range(6, -1, -1))


def test_a_model_that_always_prefers_one_place_changes_nothing():
    for letter in "AB":
        assert Duo(Rule(lambda request, letter=letter: letter)).orders(["q"], [texts(3, 1, 2)]) == [[0, 1, 2]]


def test_pairs_of_several_lists_go_into_one_call_as_far_as_it_is_not_too_large():
    model = Rule(comparing)
    lists = [texts(1, 2, 3), texts(5), [], texts(7, 8)]
    assert Duo(model).orders(list("abcd"), lists) == [[2, 1, 0], [0], [], [1, 0]]
    assert [len(call) for call in model.calls] == [6 + 2]
    big, model = texts(*range(50)), Rule(comparing)
    Duo(model).orders(list("abc"), [big, big, texts(1, 2)])
    assert [len(call) for call in model.calls] == [2450, 2452] and 2 * 2450 > REQUESTS


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("A", "A"),
        ("**B**.", "B"),
        ("Passage A", "A"),
        ("Answer: B", "B"),
        ("B is better", "B"),
        ("I prefer Passage B", "B"),
        ("A passage should answer the query", None),
        ("Passage A or Passage B", None),
        ("", None),
        ("neither", None),
    ],
)
def test_an_answer_names_one_passage_or_is_none(answer, letter):
    assert chosen(answer) == letter


def test_a_comparison_that_failed_raises_unless_it_may_be_a_draw():
    with pytest.raises(ValueError, match="Rule failed .the server is gone.; take another model; or fallback: draw"):
        Duo(Rule(failing)).orders(["q"], [texts(1, 2)])

    def rule(request):
        asked = request.messages[-1]["content"]
        return failing(request) if asked.index("number 1") < asked.index("number 2") else comparing(request)

    reranker = Duo(Rule(rule), fallback="draw")
    assert reranker.orders(["q"], [texts(1, 2)]) == [[1, 0]]  # 1.5 wins to 0.5
    assert reranker.provenance()["failed generations"] == 1 and reranker.provenance()["generations"] == 2


def test_another_number_of_answers_is_refused():
    class Mute:
        def generate(self, requests):
            return []

    with pytest.raises(ValueError, match="Mute gives 0 answers to 2 requests"):
        Duo(Mute()).orders(["q"], [texts(1, 2)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Listwise(Rule(ordering), window=5, stride=5), "window 5 and stride 5: a stride is at least 1 and bel"),
        (lambda: Listwise(Rule(ordering), words=0), "words is 0; a text has at least 1 word"),
        (lambda: Listwise(Rule(ordering), fallback="draw"), "fallback is \"keep\" or None, not 'draw'"),
        (lambda: Duo(Rule(comparing), words=0), "words is 0; a text has at least 1 word"),
        (lambda: Duo(Rule(comparing), fallback="keep"), "fallback is \"draw\" or None, not 'keep'"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_prompt_of_ones_own_is_asked_and_named(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("# mine 3\n[user]\nFor {query}, sort:\n{passages}\n")
    model = Rule(ordering)
    reranker = Listwise(model, prompt=path)
    assert reranker.orders(["q {passages}"], [texts(1, 2)]) == [[1, 0]]
    ((request,),) = model.calls
    assert request.messages[0]["content"] == "For q {passages}, sort:\n[1] text number 1\n[2] text number 2"
    assert reranker.contract()["prompt"] == "mine 3"
    assert reranker.contract()["prompt sha256"] != Listwise(model).contract()["prompt sha256"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[user]\n{query} {passages}", "begins with .*: the first line is `# id version`"),
        ("# a 1\n[user]\n{query}", r"lacks \{passages\}: the places are \{query\}, \{passages\}, \{count\}"),
        ("# a 1\n[user]\n{query} {passages} {hint}", r"has \{hint\}, of which nothing is known"),
        ("# a 1\n{query} {passages}", "is turns under"),
        ("# a 1\n[user]\n{query} {passages}\n[assistant]\nSure", "the last of them .user."),
        ("# a 1\n[boss]\n{query} {passages}\n[user]\nGo", "is turns under"),
    ],
)
def test_a_prompt_that_lacks_something_says_what(tmp_path, text, message):
    (tmp_path / "p.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        MessagePrompt.read(Path(tmp_path / "p.txt"), ("query", "passages"), ("count",))


def test_the_contract_holds_all_that_determines_an_order():
    class Known(Rule):
        def contract(self):
            return {"model": "rule"}

    contract = Duo(Known(comparing)).contract()
    assert contract["generator"] == {"model": "rule"} and contract["prompt"] == "duo 1"
    assert Listwise(Rule(ordering)).contract()["generator"] == "Rule"


def test_thoughts_are_no_part_of_an_answer():
    assert answer_of("<think>A is good</think>\n\nB") == "B" and answer_of(" A ") == "A"
    assert numbers("12 passages", 3) is None
