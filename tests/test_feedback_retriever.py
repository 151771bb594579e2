"""Feedback = source x model x retriever: two passes, their names, and what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from prf.rm3 import RM3
from retrieval.corpus import Corpus, Document
from retrieval.ids import DocIds
from retrieval.order import top_k
from retrieval.protocols import FeedbackSource, Retriever
from retrieval.registry import find
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.types import Feedback, Queries, Run, TermStatistics

TEXTS = ["otter river", "otter sea sea", "sea salt salt", "comet", "comet river"]
QUERIES = Queries(["a", "b", "c"], ["otter", "comet comet river", "nothing"])


class Counting:
    """Scores by weight x tf, and remembers how it was called."""

    def __init__(self, name="counting", truncated=0):
        self.name, self.truncated, self.calls = name, truncated, []

    def open(self, corpus, folder):
        self.calls.append("open")
        self.ids, self.bags = corpus.ids, [Counter(text.split()) for text in corpus.texts(np.arange(len(corpus)))]

    def retrieve(self, queries, k):
        self.calls.append((k, queries.terms))
        scores = [[sum(w * bag[t] for t, w in one.items()) for bag in self.bags] for one in self._terms(queries)]
        return Run(queries.ids, self.ids, *top_k(np.array(scores, np.float32), self.ids.rank, k, above=0), self.name)

    def provenance(self):
        return {"name": self.name, "truncated queries": self.truncated}

    def _terms(self, queries):
        return queries.terms or [Counter(text.split()) for text in queries.texts]


class Source(Counting):
    """One that shows its documents."""

    def feedback(self, queries, run):
        def frequencies(terms):
            return np.array([sum(term in bag for bag in self.bags) for term in terms])

        statistics = TermStatistics(len(self.bags), frequencies, lambda terms: np.ones(len(terms)))
        own = replace(queries, terms=self._terms(queries))
        return own, Feedback(run, terms=lambda rows: [self.bags[row] for row in rows], statistics=statistics)


class Wish:
    """A model that adds a term to every query, and needs what it is told to need."""

    def __init__(self, *needs, term="salt"):
        self.needs, self.term, self.seen = needs, term, []

    def reformulate(self, queries, feedback):
        self.seen.append((queries, feedback))
        return replace(queries, terms=[Counter(one) + Counter([self.term]) for one in queries.terms])


@pytest.fixture
def opened(tmp_path):
    corpus = Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(TEXTS)), tmp_path / "corpus")

    def make(*parts, **kwargs):
        retriever = FeedbackRetriever(*parts, **kwargs)
        retriever.open(corpus, tmp_path)
        return retriever

    return make


def lists(run):
    return {query: list(found) for query, found in run.to_dict().items()}


def test_the_second_pass_searches_with_what_the_model_made_of_the_first(opened):
    source, model = Source(), Wish("terms")
    run = opened(source, model, depth=1).retrieve(QUERIES, 4)
    assert lists(run) == {"a": ["d2", "d1", "d0"], "b": ["d4", "d3", "d2", "d0"], "c": ["d2"]}
    assert [k for k, _ in source.calls[1:]] == [1, 4]
    (queries, feedback), *_ = model.seen
    assert queries.terms[1] == {"comet": 2, "river": 1}
    assert feedback.run.rows.tolist() == [[1], [4], [-1]] and run.query_ids == ["a", "b", "c"]


def test_the_original_query_alone_reproduces_the_first_pass(opened):
    alone = opened(Source(), RM3(original_query_weight=1, max_df=None)).retrieve(QUERIES, 5)
    assert lists(alone) == lists(opened(Source(), Wish(term="unknown")).source.retrieve(QUERIES, 5))
    mixed = opened(Source(), RM3(original_query_weight=0.2, max_df=None)).retrieve(QUERIES, 5)
    assert "d2" in lists(mixed)["a"] and "d2" not in lists(alone)["a"]  # by way of sea


def test_the_run_is_named_for_what_it_is(opened):
    assert opened(Source("bm25"), RM3()).retrieve(QUERIES, 3).name == "bm25+rm3"
    assert opened(Source("bm25"), RM3(), Source("splade")).retrieve(QUERIES, 3).name == "bm25+rm3+splade"


def test_another_retriever_searches_and_both_are_opened_once(opened):
    source, other = Source(), Counting("other")
    opened(source, Wish(), other, depth=2).retrieve(QUERIES, 3)
    assert [call if call == "open" else call[0] for call in source.calls] == ["open", 2]
    assert [call if call == "open" else call[0] for call in other.calls] == ["open", 3]
    opened(source, Wish(), source)
    assert source.calls[2:] == ["open"]


def test_feedback_can_be_stacked(opened):
    inner = FeedbackRetriever(Source("bm25"), Wish(term="sea"), depth=1)
    outer = Wish("terms")
    run = opened(inner, outer).retrieve(QUERIES, 5)
    assert run.name == "bm25+wish+wish"
    ((queries, feedback),) = outer.seen
    assert queries.terms == [{"otter": 1}, {"comet": 2, "river": 1}, {"nothing": 1}]
    assert feedback.run.name == "bm25+wish" and feedback.terms(np.array([2], np.int32)) == [{"sea": 1, "salt": 2}]


def test_a_source_without_feedback_is_refused():
    with pytest.raises(ValueError, match="Counting has no feedback.., so it cannot be a source of feedback: choose"):
        FeedbackRetriever(Counting(), Wish())


def test_a_retriever_without_feedback_cannot_be_stacked(opened):
    inner = opened(Source(), Wish(), Counting())
    with pytest.raises(ValueError, match="Counting has no feedback"):
        inner.feedback(QUERIES, inner.retrieve(QUERIES, 2))


def test_what_the_model_needs_and_the_source_lacks_is_named_before_it_works(opened):
    model = Wish("terms", "vectors", "texts")
    with pytest.raises(
        ValueError, match="Wish needs vectors and texts of the feedback documents, which Source does not"
    ):
        opened(Source(), model).retrieve(QUERIES, 2)
    assert not model.seen


def test_a_source_with_documents_of_its_own_needs_a_retriever(opened):
    class Own(Source):
        def retrieve(self, queries, k):
            return replace(super().retrieve(queries, k), docs=DocIds.of([f"w{i}" for i in range(5)]))

    with pytest.raises(ValueError, match="own finds documents of its own, .*: name the `retriever` that searches"):
        opened(Own("own"), Wish()).retrieve(QUERIES, 2)
    assert opened(Own("own"), Wish(), Counting("c")).retrieve(QUERIES, 2).docs[0] == "d0"


def test_provenance_is_that_of_both_and_adds_what_was_truncated(opened):
    source, other = {"name": "counting", "truncated queries": 2}, {"name": "other", "truncated queries": 3}
    assert opened(Source(truncated=2), Wish()).provenance() == {"source": source, "truncated queries": 2}
    both = opened(Source(truncated=2), Wish(), Counting("other", 3)).provenance()
    assert both == {"source": source, "retriever": other, "truncated queries": 5}


def test_a_depth_of_0_is_the_plain_retriever(opened):
    source, other = Source(), Counting("other")
    plain = opened(source, Wish(), other, depth=0).retrieve(QUERIES, 3)
    assert plain.to_dict() == other.retrieve(QUERIES, 3).to_dict() and plain.name == "other"
    assert [call for call in source.calls if call != "open"] == []
    with pytest.raises(ValueError, match="depth is -1; it is how many documents the first pass finds"):
        FeedbackRetriever(Source(), Wish(), depth=-1)


def test_a_recipe_finds_it_by_its_file():
    assert find(Retriever, "feedback") is FeedbackRetriever is find(FeedbackSource, "feedback")


def test_a_retriever_that_would_lose_the_feedback_is_refused(tiny_model):
    from prf.rm3 import RM3
    from retrieval.encoders.transformer import Transformer
    from retrieval.indexes.flat import Flat
    from retrieval.retrievers.bm25 import BM25
    from retrieval.retrievers.dense import DenseRetriever

    dense = DenseRetriever(Transformer(str(tiny_model), pooling="mean"), Flat())
    with pytest.raises(ValueError, match="RM3 writes terms, and DenseRetriever searches with representations or texts"):
        FeedbackRetriever(BM25(), RM3(), dense)


def test_a_source_and_a_retriever_that_read_text_otherwise_are_refused():
    from prf.rm3 import RM3
    from retrieval.analyzers.english import English
    from retrieval.retrievers.bm25 import BM25

    with pytest.raises(
        ValueError, match="the source reads text by .*'porter'.*, the retriever by .*None.*same analyzer"
    ):
        FeedbackRetriever(BM25(), RM3(), BM25(analyzer=English(stemmer=None)))
    FeedbackRetriever(BM25(), RM3(), BM25(k1=2.0))
