"""Reranking of a first pass, by scores of pairs or by orders of lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import reranking
from retrieval.config import ConfigError, load
from retrieval.corpus import Corpus, Document
from retrieval.ids import DocIds
from retrieval.protocols import FeedbackSource, ListReranker, Reranker, Retriever
from retrieval.registry import NoComponent, find
from retrieval.retrievers.rerank import Rerank
from retrieval.types import Queries, Run
from tests.tables import Shown, Table, lists

LENGTHS = {"a": 3, "b": 9, "c": 1, "d": 5, "e": 5, "f": 2}  # words of each document
FIRST = {"p": {"a": 6.0, "b": 5.0, "c": 4.0, "d": 3.0, "e": 2.0}, "q": {"f": 2.0, "b": 1.0}, "none": {}}
QUERIES = Queries(["p", "none", "q"], ["long", "long", "short"])


class Length:
    """Prefers long texts for the query "long", short ones for any other."""

    def __init__(self, scale=1.0):
        self.scale, self.calls = scale, []

    def score(self, pairs):
        self.calls.append(len(pairs))
        words = [(len(text.split()) if query == "long" else -len(text.split())) for query, text in pairs]
        return np.array(words, np.float32) * np.float32(self.scale)

    def provenance(self):
        return {"scale": self.scale, "truncated pairs": 4}


class Backwards:
    """Turns every list around."""

    def __init__(self):
        self.calls = []

    def orders(self, queries, lists):
        self.calls.append((list(queries), [len(one) for one in lists]))
        return [list(range(len(one)))[::-1] for one in lists]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    documents = [Document(name, "", " ".join([name] * words)) for name, words in LENGTHS.items()]
    return Corpus.build(documents, tmp_path_factory.mktemp("rerank") / "corpus")


@pytest.fixture
def opened(corpus, tmp_path):
    def opened(*parts, **kwargs):
        retriever = Rerank(*parts, **kwargs)
        retriever.open(corpus, tmp_path)
        return retriever

    return opened


def test_a_recipe_finds_it_by_its_file():
    assert find(Retriever, "rerank") is Rerank is find(FeedbackSource, "rerank")


def test_the_first_documents_have_the_scores_of_the_reranker_and_the_others_follow_as_they_were(opened):
    run = opened(Table(FIRST, "first"), Length(), depth=3).retrieve(QUERIES, 10)
    assert run.to_dict() == {
        "p": {"b": 9, "a": 3, "c": 1, "d": 0, "e": -1},
        "none": {},
        "q": {"f": -2, "b": -9},
    }
    assert run.name == "first+length"


def test_equal_scores_are_in_the_one_order(opened):
    run = opened(Table({"p": {"d": 2.0, "e": 1.0}}), Length()).retrieve(QUERIES.take([0]), 10)
    assert lists(run) == {"p": ["e", "d"]}


def test_a_list_that_was_ordered_scores_from_its_length_down_to_1(opened):
    reranker = Backwards()
    run = opened(Table(FIRST), reranker, depth=3).retrieve(QUERIES, 10)
    assert run.to_dict() == {"p": {"c": 3, "b": 2, "a": 1, "d": 0, "e": -1}, "none": {}, "q": {"b": 2, "f": 1}}
    assert reranker.calls == [(["long", "long", "short"], [3, 0, 2])]


def test_the_result_is_cut_to_k_and_its_head_does_not_depend_on_it(opened):
    source = Table(FIRST)
    retriever = opened(source, Length(), depth=3)
    short, long = retriever.retrieve(QUERIES, 2), retriever.retrieve(QUERIES, 10)
    assert source.depths == [3, 10] and short.rows.shape[1] == 2
    assert lists(short)["p"] == lists(long)["p"][:2]


def test_queries_are_reranked_some_at_a_time(opened, monkeypatch):
    monkeypatch.setattr(reranking, "QUERIES", 2)
    reranker = Length()
    run = opened(Table(FIRST), reranker).retrieve(QUERIES, 10)
    assert reranker.calls == [5, 2]
    monkeypatch.undo()
    assert run.to_dict() == opened(Table(FIRST), Length()).retrieve(QUERIES, 10).to_dict()
    assert opened(Table(FIRST), Length()).retrieve(Queries([], []), 3).rows.shape[0] == 0


@given(st.lists(st.floats(-(2.0**60), 2.0**60, width=32), max_size=5), st.integers(1, 1500))
@settings(deadline=None)
def test_scores_below_others_fall_strictly_however_large_these_are(scores, count):
    given_ = np.array(scores, np.float32)
    found = reranking.below(given_, count)
    assert found.dtype == np.float32 and (np.diff(found) < 0).all()
    assert not scores or found[0] < given_.min()


def test_provenance_is_that_of_both_with_their_counts_summed(opened):
    about = opened(Table(FIRST, "t", {"truncated queries": 2}), Length()).provenance()
    assert about == {
        "retriever": {"name": "t", "truncated queries": 2},
        "reranker": {"scale": 1.0, "truncated pairs": 4},
        "truncated queries": 2,
        "truncated pairs": 4,
    }


def test_feedback_is_that_of_the_retriever_and_texts_are_the_corpus_own(opened):
    retriever = opened(Shown(FIRST, "shown"), Length())
    _, found = retriever.feedback(QUERIES, retriever.retrieve(QUERIES, 2))
    assert found.terms(np.array([0])) == [{"shown": 1}] and found.texts(np.array([2])) == ["c"]
    plain = opened(Table(FIRST), Length())
    assert plain.feedback(QUERIES, plain.retrieve(QUERIES, 2))[1].texts(np.array([2])) == ["c"]


def test_what_the_first_pass_reads_of_a_query_is_what_it_reads(opened):
    source = Table(FIRST)
    assert opened(source, Length()).reads == ()
    source.reads = ("terms", "texts")
    assert opened(source, Length()).reads == ("terms", "texts")


@pytest.mark.parametrize("order", [[0, 0, 1], [0, 1], [0, 1, 3]])
def test_an_order_that_is_none_is_refused(opened, order):
    class Wrong:
        def orders(self, queries, lists):
            return [order for _ in lists]

    with pytest.raises(ValueError, match=r"Wrong orders 3 texts as \[0"):
        opened(Table(FIRST), Wrong(), depth=3).retrieve(QUERIES.take([0]), 5)


def test_scores_that_are_not_finite_or_too_few_are_refused(opened):
    with pytest.raises(ValueError, match="Length gives NaN or infinity for 'long', 'a a a'"):
        opened(Table(FIRST), Length(np.nan)).retrieve(QUERIES, 5)

    class Few:
        def score(self, pairs):
            return np.zeros(1, np.float32)

    with pytest.raises(ValueError, match=r"Few gives scores \(1,\) for 7 pairs"):
        opened(Table(FIRST), Few()).retrieve(QUERIES, 5)


def test_a_depth_of_no_documents_is_refused():
    with pytest.raises(ValueError, match="depth is 0; at least 1 document is reranked"):
        Rerank(Table(FIRST), Length(), depth=0)


def test_a_first_pass_over_documents_of_its_own_is_refused(opened):
    class Own(Table):
        def retrieve(self, queries, k):
            empty = np.zeros((len(queries), 0), np.int32)
            return Run(queries.ids, DocIds.of(["x"]), empty, empty.astype(np.float32), "own")

    with pytest.raises(ValueError, match="own finds documents of its own"):
        opened(Own({}), Length()).retrieve(QUERIES, 5)


def recipe(retriever: Retriever, k: int = 3): ...


def test_a_recipe_takes_either_kind_of_reranker_and_names_both_for_neither(tmp_path):
    path = tmp_path / "r.yaml"
    for name, more in (("cross_encoder", "model: m"), ("duo", "generator: tests.test_rerank:Generating")):
        path.write_text(f"retriever:\n  type: rerank\n  retriever: bm25\n  reranker: {{type: {name}, {more}}}\n")
        (loaded,) = load(recipe, path)
        assert [part.name for part in loaded.parts()][-2] == name
    path.write_text("retriever:\n  type: rerank\n  retriever: bm25\n  reranker: tests.test_rerank:Nothing\n")
    with pytest.raises(ConfigError, match="Nothing is no Reranker or ListReranker: it has no score and no orders"):
        load(recipe, path)
    path.write_text("retriever:\n  type: rerank\n  retriever: bm25\n  reranker: [duo]\n")
    with pytest.raises(ConfigError, match="one Reranker or ListReranker is wanted, not a list"):
        load(recipe, path)


def test_a_kind_alone_takes_no_other():
    assert find(Reranker, "cross_encoder") and find(ListReranker, "duo")
    with pytest.raises(NoComponent, match="duo is no Reranker: it has no score"):
        find(Reranker, "duo")


class Generating:
    def generate(self, requests):
        return []


class Nothing:
    pass
