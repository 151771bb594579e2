"""Asking through the store: what was answered once is not asked again, whatever happened in between."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from retrieval.asking import Asker, answer_of, cut_words
from retrieval.sampling import Sampling
from retrieval.store import GenerationStore
from retrieval.types import Generation


class Model:
    """Answers by a rule, and remembers what it was asked."""

    def __init__(self, rule=None, model="m"):
        self.rule, self.model, self.asked = rule or (lambda request: content(request).upper()), model, []

    def contract(self):
        return {"model": self.model}

    def generate(self, requests):
        for place, request in enumerate(requests):
            self.asked.append(content(request))
            one = self.rule(request)
            yield place, one if isinstance(one, Generation) else Generation(one, 10, 3, "stop")


class Unnamed:
    """One without a contract."""

    def __init__(self):
        self.asked = []

    def generate(self, requests):
        self.asked += map(content, requests)
        return enumerate([Generation(content(one)) for one in requests])


def content(request):
    return request.messages[-1]["content"]


def chats(*texts):
    return [[{"role": "user", "content": text}] for text in texts]


def same(place, text):
    return text


def test_a_second_run_asks_nothing_and_reads_the_same():
    first = Asker(Model(), Sampling())
    answers = first.ask(chats("a", "b", "c"), same, "fix")
    model = Model()
    second = Asker(model, Sampling())
    assert second.ask(chats("c", "a", "b"), same, "fix") == [answers[2], *answers[:2]] == ["C", "A", "B"]
    assert model.asked == []
    assert {what: count for what, count in second.counts().items() if "seconds" not in what} == {
        "generations": 3,
        "failed generations": 0,
        "cut generations": 0,
        "model calls": 0,
        "cache hits": 3,
        "tokens in": 0,
        "tokens out": 0,
        "cached tokens in": 30,
        "cached tokens out": 9,
    }
    assert first.counts()["tokens out"] == 9 and first.counts()["cached tokens out"] == 0


def test_only_what_is_missing_is_asked():
    Asker(Model(), Sampling()).ask(chats("a", "c"), same, "fix")
    model = Model()
    asker = Asker(model, Sampling())
    assert asker.ask(chats("a", "b", "c"), same, "fix") == ["A", "B", "C"]
    assert model.asked == ["b"] and (asker.calls, asker.hits) == (1, 2)


def test_another_model_or_sampling_shares_no_answer():
    Asker(Model(), Sampling()).ask(chats("a"), same, "fix")
    for model, sampling in ((Model(model="n"), Sampling()), (Model(), Sampling(seed=1)), (Model(), Sampling(top_k=3))):
        Asker(model, sampling).ask(chats("a"), same, "fix")
        assert model.asked == ["a"]


@pytest.mark.parametrize("make", [Model, Unnamed])
def test_equal_requests_are_asked_once(make):
    model = make()
    asker = Asker(model, Sampling())
    assert asker.ask(chats("a", "b", "a", "a"), lambda place, text: (place, text.lower()), "fix") == [
        (0, "a"),
        (1, "b"),
        (2, "a"),
        (3, "a"),
    ]
    assert model.asked == ["a", "b"]
    assert (asker.generations, asker.calls, asker.hits) == (4, 2, 2)


def test_samples_of_a_chat_stand_together_and_are_asked_apart():
    def rule(request):
        return f"{content(request)}{request.sample}"

    asker = Asker(Model(rule), Sampling(temperature=1.0))
    assert asker.ask(chats("a", "b"), same, "fix", samples=2) == ["a0", "a1", "b0", "b1"]
    more = Model(rule)
    assert Asker(more, Sampling(temperature=1.0)).ask(chats("a"), same, "fix", samples=3) == ["a0", "a1", "a2"]
    assert more.asked == ["a"]


def test_a_question_asked_again_has_the_number_of_another_sample():
    model = Model(lambda request: f"{content(request)}{request.sample}")
    asker = Asker(model, Sampling(temperature=1.0))
    assert [asker.ask(chats("a"), same, "fix", first=number) for number in (0, 2, 0)] == [["a0"], ["a2"], ["a0"]]
    assert model.asked == ["a", "a"]


def test_answers_may_come_in_any_order():
    class Backwards(Model):
        def generate(self, requests):
            return reversed(list(super().generate(requests)))

    assert Asker(Backwards(), Sampling()).ask(chats("a", "b", "c"), same, "fix") == ["A", "B", "C"]


def test_answers_of_a_model_without_a_contract_are_not_kept():
    for _ in range(2):
        model = Unnamed()
        Asker(model, Sampling()).ask(chats("a"), same, "fix")
        assert model.asked == ["a"]
    assert not GenerationStore().path.exists()


def test_no_questions_touch_nothing():
    model = Model()
    assert Asker(model, Sampling()).ask([], same, "fix") == [] and not GenerationStore().path.exists()


def failing(request):
    return Generation("", failure="HTTP 500") if content(request) == "b" else "fine"


def test_a_failure_raises_after_the_others_were_kept_and_is_asked_again():
    with pytest.raises(ValueError, match=r"Model failed \(HTTP 500\); take another"):
        Asker(Model(failing), Sampling()).ask(chats("a", "b", "c"), same, "take another")
    model = Model()
    assert Asker(model, Sampling()).ask(chats("a", "b", "c"), same, "fix") == ["fine", "B", "fine"]
    assert model.asked == ["b"]


def test_a_failure_is_counted_where_there_is_a_fallback():
    asker = Asker(Model(failing), Sampling(), fallback="keep")
    assert asker.ask(chats("a", "b"), same, "fix") == ["fine", None]
    assert asker.counts()["failed generations"] == 1 and asker.counts()["model calls"] == 2


def test_an_answer_that_cannot_be_read_is_kept_and_fails_each_time():
    def read(place, text):
        return None if text == "A" else text

    with pytest.raises(ValueError, match="its answer 'A' cannot be read"):
        Asker(Model(), Sampling()).ask(chats("a"), read, "fix")
    model = Model()
    asker = Asker(model, Sampling(), fallback="keep")
    assert asker.ask(chats("a"), read, "fix") == [None]
    assert model.asked == [] and asker.counts()["failed generations"] == 1


def test_what_was_answered_before_a_model_broke_is_kept():
    def breaking(request):
        if content(request) == "c":
            raise RuntimeError("out of memory")
        return "fine"

    asker = Asker(Model(breaking), Sampling())
    with pytest.raises(RuntimeError):
        asker.ask(chats("a", "b", "c", "d"), same, "fix")
    assert asker.calls == 2 and asker.tokens_out == 6
    model = Model()
    Asker(model, Sampling()).ask(chats("a", "b", "c", "d"), same, "fix")
    assert model.asked == ["c", "d"]


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([0], "Model gives 1 answers to 2 requests"),
        ([0, 0], "Model answers request 0 of 2 twice; generate.. gives each place once"),
        ([0, 2], "Model answers request 2 of 2; generate"),
        ([-1], "Model answers request -1 of 2; generate"),
    ],
)
def test_a_place_that_is_lost_doubled_or_made_up_is_refused(places, message):
    class Odd(Model):
        def generate(self, requests):
            return [(place, Generation("x")) for place in places]

    Odd.__name__ = "Model"
    with pytest.raises(ValueError, match=message):
        Asker(Odd(), Sampling()).ask(chats("a", "b"), same, "fix")


def test_the_seconds_of_answers_add_up_to_the_time_of_generating(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class Batches(Model):
        """Two answers every 4 seconds, as a batch brings them."""

        def generate(self, requests):
            for place, request in enumerate(requests):
                now[0] += 4.0 if place % 2 == 0 else 0.0
                yield place, self.rule(request)

    asker = Asker(Batches(lambda request: Generation("x", 1, 1)), Sampling())
    asker.ask(chats("a", "b", "c", "d"), same, "fix")
    assert asker.counts()["generation seconds"] == 8.0
    assert GenerationStore().statistics()[0]["seconds"] == 8.0
    again = Asker(Batches(), Sampling())
    again.ask(chats("a", "b", "c", "d"), same, "fix")
    assert (again.counts()["generation seconds"], again.counts()["cached seconds"]) == (0.0, 8.0)


def test_hits_are_in_the_statistics_of_the_store():
    for _ in range(3):
        Asker(Model(), Sampling()).ask(chats("a", "b"), same, "fix")
    store = GenerationStore()
    (about,) = store.statistics()
    assert (about["answers"], about["hits"]) == (2, 4)
    store.close()


KILLED = """
import os, signal, sys
from retrieval.asking import Asker
from retrieval.sampling import Sampling
from retrieval.types import Generation

class Model:
    def contract(self):
        return {"model": "m"}
    def generate(self, requests):
        for place, request in enumerate(requests):
            with open(sys.argv[1], "a") as calls:
                calls.write(request.messages[0]["content"] + "\\n")
            if sys.argv[2] == request.messages[0]["content"]:
                os.kill(os.getpid(), signal.SIGKILL)
            yield place, Generation(f"answer {request.messages[0]['content']}", 1, 1)

chats = [[{"role": "user", "content": str(number)}] for number in range(50)]
print(Asker(Model(), Sampling()).ask(chats, lambda place, text: text, "fix"))
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    calls = tmp_path / "calls"
    for stop in ("20", "33", "none"):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(calls), stop], capture_output=True, text=True, check=False
        )
        assert done.returncode == (0 if stop == "none" else -9), done.stderr
    assert done.stdout.strip() == str([f"answer {number}" for number in range(50)])
    asked = calls.read_text().split()
    assert sorted(asked, key=int) == sorted([*map(str, range(50)), "20", "33"], key=int)  # the two under way, again


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" A ", "A"),
        ("<think>B?</think>\nA", "A"),
        ("B?</think>A", "A"),
        ("<think>it never ends", ""),
        ("", ""),
    ],
)
def test_an_answer_is_what_follows_the_thoughts(text, answer):
    assert answer_of(text) == answer


def test_words_are_cut_and_said_to_be():
    assert cut_words("a  b\nc", 2) == ("a b", True) and cut_words("a b", 2) == ("a b", False)
    assert cut_words("a b", None) == ("a b", False)


def test_what_determines_an_answer_is_named():
    about = Asker(Model(), Sampling(temperature=0.5), fallback="keep").about()
    assert about["generator"] == {"model": "m"} and about["temperature"] == 0.5 and about["fallback"] == "keep"
    assert "prompt" not in about and Asker(Unnamed(), Sampling()).about()["generator"] == "Unnamed"


def test_thoughts_without_an_answer_are_a_failure_whatever_would_be_read():
    model = Model(lambda request: "<think> so, the user wants", "thinking")
    with pytest.raises(ValueError, match="cannot be read"):
        Asker(model, Sampling()).ask(chats("a"), lambda place, text: text or "the query", "fix")
    kept = Asker(model, Sampling(), fallback="keep")
    assert kept.ask(chats("a"), lambda place, text: text or "the query", "fix") == [None] and kept.failed == 1
    assert kept.ask(chats("a"), same, "fix", thoughts=True) == ["<think> so, the user wants"]


def test_a_file_of_answers_is_read_even_where_the_store_has_others():
    class Recorded(Model):
        recorded = True

    old, new = Recorded(lambda request: "old"), Recorded(lambda request: "new")
    found = [Asker(one, Sampling()).ask(chats("a"), same, "fix") for one in (old, new)]
    assert found == [["old"], ["new"]] and not GenerationStore().path.exists()
    asker = Asker(new, Sampling())
    asker.ask(chats("a"), same, "fix")
    assert (asker.calls, asker.hits) == (0, 1)
