"""Retrievers that stand in several places of a recipe search once while a task runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.indexes.flat import Flat
from retrieval.remembered import measured, remembering, retrieved
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.reciprocal_rank import ReciprocalRank
from retrieval.types import Dense, Feedback, Queries
from tests.tables import Table, lists

FOUND = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}, "r": {"c": 2.0, "a": 1.0}}
QUERIES = Queries(["q", "r"], ["one", "two"])


class Counting(Table):
    """A table that counts its work: one for each query that it searches."""

    def __init__(self, found, name="counting", nested=False):
        super().__init__(found, name)
        self.nested, self.worked = nested, 0

    def retrieve(self, queries, k):
        self.worked += len(queries)
        return super().retrieve(queries, k)

    def feedback(self, queries, run):
        return queries, Feedback(run, texts=lambda rows: [""] * len(rows))

    def provenance(self):
        return {"generations": self.worked, "zero vectors": 7}


class Same:
    """Feedback that changes nothing, in queries of its own."""

    needs = ("texts",)

    def reformulate(self, queries, feedback):
        return Queries(queries.ids, queries.texts)


class Hashed:
    """Vectors of a text's characters."""

    def encode_queries(self, texts):
        return Dense(np.stack([np.random.default_rng([*text.encode()]).normal(size=6) for text in texts]).astype("f4"))

    encode_docs = encode_queries

    def contract(self):
        return {"encoder": "hashed", "dimensions": 6}


@pytest.fixture
def corpus(tmp_path):
    documents = [(name, "", f"document {name} of {n % 3}") for n, name in enumerate("abcdefghijkl")]
    write_collection(tmp_path / "toy", documents, [("q", "one")], {"test": {"q": {"a": 1}}})
    return Folder(str(tmp_path / "toy")).open().corpus


def opened(retriever, corpus, tmp_path):
    retriever.open(corpus, tmp_path)
    return retriever


def test_a_row_that_is_a_part_of_another_searches_once(corpus, tmp_path):
    one, other = Counting(FOUND), Counting({"q": {"d": 1.0}})
    fused = opened(ReciprocalRank([one, other], depth=3), corpus, tmp_path)
    alone = fused.retrieve(QUERIES, 3)
    one.depths.clear()
    with remembering(QUERIES):
        retrieved(one, QUERIES, 3)
        again = retrieved(fused, QUERIES, 3)
    assert one.depths == [3] and again.to_dict() == alone.to_dict()


def test_the_first_pass_of_feedback_is_cut_from_a_nested_list(corpus, tmp_path):
    one = opened(Counting(FOUND, nested=True), corpus, tmp_path)
    feedback = FeedbackRetriever(one, Same(), depth=1)
    feedback.open(corpus, tmp_path)
    with remembering(QUERIES):
        retrieved(one, QUERIES, 3)
        retrieved(feedback, QUERIES, 3)
    assert one.depths == [3, 3]  # the second pass is of other queries


def test_a_list_of_one_that_is_not_nested_is_never_cut(corpus, tmp_path):
    one = opened(Counting(FOUND), corpus, tmp_path)
    with remembering(QUERIES):
        retrieved(one, QUERIES, 3)
        retrieved(one, QUERIES, 2)
        retrieved(one, QUERIES, 2)
    assert one.depths == [3, 2]


def test_a_deeper_list_is_searched_for_again(corpus, tmp_path):
    one = opened(Counting(FOUND, nested=True), corpus, tmp_path)
    with remembering(QUERIES):
        assert lists(retrieved(one, QUERIES, 1)) == {"q": ["a"], "r": ["c"]}
        assert lists(retrieved(one, QUERIES, 2)) == {"q": ["a", "b"], "r": ["c", "a"]}


@pytest.mark.parametrize("nested", [True, False])
def test_a_list_that_has_all_results_is_searched_for_again_only_where_it_is_not_nested(corpus, tmp_path, nested):
    one = opened(Counting(FOUND, nested=nested), corpus, tmp_path)
    with remembering(QUERIES):
        first, again = retrieved(one, QUERIES, 4), retrieved(one, QUERIES, 1000)
    assert one.depths == ([4] if nested else [4, 1000]) and first.to_dict() == again.to_dict()


def test_other_queries_and_other_retrievers_are_not_mixed_up(corpus, tmp_path):
    one, other = (opened(Counting(FOUND), corpus, tmp_path) for _ in range(2))
    with remembering(QUERIES):
        for retriever, queries in ((one, QUERIES), (other, QUERIES), (one, Queries(["q"], ["one"]))):
            retrieved(retriever, queries, 3)
    assert one.depths == [3, 3] and other.depths == [3]


def test_nothing_is_remembered_outside(corpus, tmp_path):
    one = opened(Counting(FOUND), corpus, tmp_path)
    with remembering(QUERIES):
        retrieved(one, QUERIES, 3)
    retrieved(one, QUERIES, 3)
    assert one.depths == [3, 3]


def test_work_that_was_not_done_again_is_counted_as_if_it_had_been(corpus, tmp_path):
    one, other = Counting(FOUND), Counting({"q": {"d": 1.0}})
    fused = opened(ReciprocalRank([one, other], depth=3), corpus, tmp_path)
    _, alone = measured(fused, QUERIES, 3)
    with remembering(QUERIES):
        _, first = measured(one, QUERIES, 3)
        _, both = measured(fused, QUERIES, 3)
        _, again = measured(fused, QUERIES, 3)
    assert both.counts == again.counts == alone.counts == {"generations": 4} and first.counts == {"generations": 2}
    assert both.seconds > first.seconds and again == both


@settings(max_examples=20, deadline=None)
@given(depths=st.lists(st.integers(1, 14), min_size=2, max_size=2), text=st.text("abc of0123", min_size=1, max_size=12))
@pytest.mark.parametrize("kind", ["bm25", "dense"])
def test_the_best_of_a_nested_retriever_begin_every_longer_list(kind, tmp_path_factory, depths, text):
    folder = tmp_path_factory.mktemp("nested")
    documents = [(f"d{n}", "", f"document {n % 4} of {n % 3} a{n % 2}") for n in range(12)]
    write_collection(folder / "toy", documents, [("q", "one")], {"test": {"q": {"d1": 1}}})
    corpus = Folder(str(folder / "toy")).open().corpus
    retriever = opened(BM25() if kind == "bm25" else DenseRetriever(Hashed(), Flat()), corpus, folder)
    assert retriever.nested
    few, many = sorted(depths)
    queries = Queries(["q"], [text])
    short, long = retriever.retrieve(queries, few), retriever.retrieve(queries, many).top(few)
    assert list(short.to_dict()["q"].items()) == list(long.to_dict()["q"].items())
