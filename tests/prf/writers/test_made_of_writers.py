"""Writers made of writers: a critic, and keywords made fluent. The model is a rule."""

from __future__ import annotations

import pytest

from prf.append import Append
from prf.writers.filtered import Filtered, verdict
from prf.writers.fluent import Fluent
from prf.writers.lamer import LameR
from retrieval.protocols import Writer
from retrieval.registry import find
from tests.prf.writers.shown import asked, broken, first_pass, joined, queries, ruled


class Fixed:
    """Writes the same words for every query but the last."""

    needs = ()

    def __init__(self, *texts):
        self.texts = texts

    def write(self, queries, feedback):
        return [[*self.texts]] * (len(queries) - 1) + [[]]

    def join(self):
        return Append(repeat=3)

    def provenance(self):
        return {"generations": 7, "failed generations": 1}


def critic(request):
    return "Yes." if "good" in asked(request) else "no, it is beside the point"


def test_recipes_find_them_by_their_files():
    assert find(Writer, "filtered") is Filtered and find(Writer, "fluent") is Fluent


def test_a_critic_drops_texts_and_the_rest_joins_as_the_writers_do():
    writer, asks = Filtered(Fixed("good one", "bad", "good two"), ruled(critic)), queries("q", "empty")
    texts = writer.write(asks, None)
    assert texts == [["good one", "good two"], []] and writer.provenance()["dropped texts"] == 1
    assert joined(writer, asks, texts).texts == ["q q q good one good two", "empty"]


def test_the_critic_is_shown_query_and_text_and_what_both_asked_is_counted():
    model = ruled(critic)
    writer = Filtered(Fixed("good", "bad"), model)
    writer.write(queries("which one", "empty"), None)
    assert len(model.requests) == 2
    assert all(asked(one).count("which one") == 1 for one in model.requests)
    about = writer.provenance()
    assert (about["generations"], about["failed generations"]) == (7 + 2, 1)
    assert about["critic"]["prompt"] == "filtered 1" and about["writer"]["generations"] == 7


def test_a_query_whose_texts_are_all_dropped_stays_as_it_is():
    writer, asks = Filtered(Fixed("bad", "worse"), ruled(critic)), queries("q", "empty")
    texts = writer.write(asks, None)
    assert texts == [[], []] and joined(writer, asks, texts).texts == ["q", "empty"]
    assert writer.provenance()["dropped texts"] == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [("yes", "yes"), ("No.", "no"), ("**Yes**, since", "yes"), ("nothing", None), ("maybe", None), ("", None)],
)
def test_a_verdict_begins_an_answer(answer, said):
    assert verdict(answer) == said


@pytest.mark.parametrize("model", [broken, "", "maybe"])
def test_a_critic_that_fails_raises_and_with_a_fallback_keeps_the_text(model):
    with pytest.raises(ValueError, match="Rule failed .*fallback: keep"):
        Filtered(Fixed("one"), ruled(model)).write(queries("q", "empty"), None)
    writer = Filtered(Fixed("one"), ruled(model), fallback="keep")
    assert writer.write(queries("q", "empty"), None) == [["one"], []]
    assert writer.provenance()["dropped texts"] == 0 and writer.provenance()["failed generations"] == 1 + 1


def test_keywords_become_one_query_after_the_first():
    model = ruled("where do otters and minks swim")
    writer, asks = Fluent(Fixed("otter", "mink"), model), queries("otters", "empty")
    texts = writer.write(asks, None)
    assert joined(writer, asks, texts).texts == ["otters where do otters and minks swim", "empty"]
    assert len(model.requests) == 1 and "otter, mink" in asked(model.requests[0])
    about = writer.provenance()
    assert about["generations"] == 7 + 1 and about["fluent"]["prompt"] == "fluent 1"


def test_keywords_that_cannot_be_made_fluent_raise_or_leave_the_query():
    with pytest.raises(ValueError, match="the server is gone"):
        Fluent(Fixed("otter"), ruled(broken)).write(queries("q", "empty"), None)
    assert Fluent(Fixed("otter"), ruled(broken), fallback="keep").write(queries("q", "empty"), None) == [[], []]


@pytest.mark.parametrize("kind", [Filtered, Fluent])
def test_a_writer_that_reads_documents_is_given_them(kind):
    model = ruled(lambda request: "yes" if "Text:" in asked(request) else f"swims {request.sample}")
    writer = kind(LameR(model, samples=2), model)
    assert writer.needs == ("texts",)
    (texts,) = writer.write(queries("q"), first_pass(["an otter"], [0]))
    assert texts and writer.provenance()["generations"] == len(model.requests)
    assert "queries without passages" in writer.provenance()


def test_a_critic_of_a_writer_without_a_join_needs_one_named():
    class NoJoin:
        needs = ()

        def write(self, queries, feedback):
            return [[]]

    with pytest.raises(ValueError, match="NoJoin says no way to put its texts to the query: name a `join`"):
        Filtered(NoJoin(), ruled(critic)).join()
