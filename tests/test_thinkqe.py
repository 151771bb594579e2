"""Rounds of ThinkQE: what is shown in each, how texts add up, and the last search."""

from __future__ import annotations

import numpy as np
import pytest

from prf.adaptive_repeat import AdaptiveRepeat
from prf.append import Append
from prf.writers.thinkqe import ThinkQE as Writing
from retrieval.corpus import Corpus, Document
from retrieval.protocols import Retriever
from retrieval.registry import find
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.thinkqe import ThinkQE, _Seen
from retrieval.types import Queries
from tests.prf.writers.shown import broken, ruled
from tests.tables import lists

KINDS = ["otter", "comet", "violin", "teapot", "harbour"]
TEXTS = [f"{kind} thing {'long ' * n}".strip() for kind in KINDS for n in range(3)]


class Scripted:
    """Writes what the script says for each round, and remembers what it was shown."""

    needs = ("texts",)

    def __init__(self, *script):
        self.script, self.shown = script, []

    def write(self, queries, feedback):
        self.shown.append([feedback.texts(rows[rows >= 0]) for rows in feedback.run.rows])
        return [list(self.script[len(self.shown) - 1]) for _ in queries.ids]

    def join(self):
        return AdaptiveRepeat(ratio=3, unit="words")

    def provenance(self):
        return {"generations": len(self.shown)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    documents = [Document(f"d{i:02}", "", text) for i, text in enumerate(TEXTS)]
    return Corpus.build(documents, tmp_path_factory.mktemp("thinkqe") / "corpus")


@pytest.fixture
def opened(corpus, tmp_path):
    def opened(retriever):
        retriever.open(corpus, tmp_path)
        return retriever

    return opened


def test_recipes_find_it_by_its_file():
    assert find(Retriever, "thinkqe") is ThinkQE


def test_what_was_among_the_first_two_rounds_ago_is_not_shown_again():
    """Lists of four searches, two shown each: worked by hand."""
    seen = _Seen(2)
    found = [[1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 5, 6], [3, 2, 4, 1, 5, 6], [3, 2, 1, 5, 4, 6]]
    shown = [[rows[place] for place in seen.next(np.array(rows))] for rows in found]
    assert shown == [[1, 2], [3, 4], [3, 4], [5, 4]]


def test_short_lists_show_what_there_is():
    seen = _Seen(2)
    assert [seen.next(np.array(rows)) for rows in ([1, -1], [1, -1], [], [1, -1])] == [[0], [], [], []]


def test_texts_add_up_and_the_last_query_repeats_by_their_words(opened):
    writer = Scripted(["comet " * 20], ["violin", "comet"], ["harbour " * 10])
    run = opened(ThinkQE(writer, BM25(), passages=2)).retrieve(Queries(["q"], ["otter thing"]), 5)
    added = 20 + 2 + 10
    text = " ".join(["otter thing"] * (added // (3 * 2)) + ["comet"] * 20 + ["violin", "comet"] + ["harbour"] * 10)
    by_hand = opened(BM25()).retrieve(Queries(["q"], [text]), 5)
    np.testing.assert_array_equal(run.rows, by_hand.rows)
    np.testing.assert_array_equal(run.scores, by_hand.scores)
    assert run.name == "bm25+scripted"


def test_each_round_reads_what_the_texts_so_far_find_without_those_shown_before(opened):
    writer = Scripted([], ["comet " * 30], ["violin"])
    opened(ThinkQE(writer, BM25(), passages=2)).retrieve(Queries(["q"], ["otter"]), 5)
    first, second, third = (shown[0] for shown in writer.shown)
    assert [text.split()[0] for text in first] == ["otter"] * 2
    assert second == [text for text in TEXTS if text.startswith("otter") and text not in first]
    assert [text.split()[0] for text in third] == ["comet"] * 2


def test_no_rounds_are_the_plain_retriever(opened):
    queries = Queries(["q", "r"], ["otter thing", "comet"])
    run = opened(ThinkQE(Scripted(), BM25(), rounds=0)).retrieve(queries, 5)
    plain = opened(BM25()).retrieve(queries, 5)
    assert run.to_dict() == plain.to_dict()


def test_a_query_that_finds_nothing_is_written_for_without_documents_and_its_neighbours_are_their_own(opened):
    writer = Writing(ruled(lambda request: f"comet {request.sample}"))
    retriever = opened(ThinkQE(writer, BM25()))
    run = retriever.retrieve(Queries(["lost", "q"], ["unheard", "otter"]), 20)
    assert lists(run)["lost"] == [] and len(lists(run)["q"]) == 6
    about = retriever.provenance()
    assert (about["queries without texts"], about["queries without passages"]) == (
        1,
        3 + 1,
    )  # in the last round q was shown all
    assert about["generations"] == 2 * 2


def test_a_failing_model_raises_and_with_a_fallback_leaves_the_plain_query(opened):
    queries = Queries(["q"], ["otter thing"])
    with pytest.raises(ValueError, match="the server is gone"):
        opened(ThinkQE(Writing(ruled(broken)), BM25())).retrieve(queries, 5)
    retriever = opened(ThinkQE(Writing(ruled(broken), fallback="keep"), BM25()))
    plain = opened(BM25()).retrieve(queries, 5)
    np.testing.assert_array_equal(retriever.retrieve(queries, 5).rows, plain.rows)
    assert retriever.provenance()["failed generations"] == 2 * 3


def test_another_join_may_be_named(opened):
    run = opened(ThinkQE(Scripted(["comet"]), BM25(), join=Append(), rounds=1)).retrieve(Queries(["q"], ["otter"]), 15)
    by_hand = opened(BM25()).retrieve(Queries(["q"], ["otter comet"]), 15)
    np.testing.assert_array_equal(run.rows, by_hand.rows)


def test_a_second_search_starts_anew(opened):
    retriever = opened(ThinkQE(Writing(ruled("comet")), BM25()))
    queries = Queries(["q"], ["otter"])
    assert retriever.retrieve(queries, 5).to_dict() == retriever.retrieve(queries, 5).to_dict()


@pytest.mark.parametrize("wrong", [{"rounds": -1}, {"passages": 0}])
def test_numbers_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="rounds is 0 or more and passages at least 1"):
        ThinkQE(Scripted(), BM25(), **wrong)
