"""Adaptive reranking over a graph of neighbours, against the worked trace and plain reranking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import neighbours
from retrieval.composed import settings as made_with
from retrieval.corpus import Corpus, Document
from retrieval.encoders.transformer import Transformer
from retrieval.indexes.flat import Flat
from retrieval.neighbours import Neighbours
from retrieval.protocols import Retriever
from retrieval.registry import find
from retrieval.retrievers.adaptive import Adaptive, Search
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.rerank import Rerank
from retrieval.types import Queries
from tests.conftest import TEXTS
from tests.tables import Table, lists

NAMES = [f"d{i}" for i in range(1, 9)]
VALUES = {"d1": 5, "d2": 1, "d3": 2, "d4": 3, "d5": 9, "d6": 7, "d7": 0, "d8": 4}
NEAR = {"d1": {"d5": 1.0}, "d5": {"d6": 1.0}, "d2": {"d1": 1.0}}
QUERY = Queries(["q"], ["words"])


class Values:
    """Scores a text by the value of the document that it names, and remembers what it was asked."""

    def __init__(self):
        self.calls = []

    def score(self, pairs):
        self.calls.append([text for _, text in pairs])
        return np.array([VALUES[text] for _, text in pairs], np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Corpus.build([Document(n, "", n) for n in NAMES], tmp_path_factory.mktemp("adaptive") / "corpus")


@pytest.fixture
def opened(corpus, tmp_path):
    def opened(found, reranker, near=None, **kwargs):
        first = Table({query: {n: -float(i) for i, n in enumerate(one)} for query, one in found.items()}, "first")
        retriever = Adaptive(first, reranker, Table(NEAR if near is None else near, "graph"), **kwargs)
        retriever.open(corpus, tmp_path)
        return retriever

    return opened


def test_a_recipe_finds_it_by_its_file():
    assert find(Retriever, "adaptive") is Adaptive


def test_the_worked_trace(opened):
    reranker = Values()
    retriever = opened({"q": ["d1", "d2", "d3"]}, reranker, batch=1, budget=4)
    run = retriever.retrieve(QUERY, 10)
    assert reranker.calls == [["d1"], ["d5"], ["d2"], ["d6"]]
    assert run.to_dict() == {"q": {"d5": 9, "d6": 7, "d1": 5, "d2": 1, "d3": 0}}
    assert run.name == "first+values+adaptive"
    about = retriever.provenance()
    assert (about["scored from the first pass"], about["scored from the graph"]) == (2, 2)


def test_iterations_are_even_from_the_first_pass_and_odd_from_the_graph():
    search = Search([1, 2, 3], budget=4, batch=1)
    near = {1: [5], 5: [6], 2: [1], 6: []}
    values = {1: 5.0, 5: 9.0, 2: 1.0, 6: 7.0}
    while rows := search.propose():
        search.learn([values[row] for row in rows], [near[row] for row in rows])
    assert search.iterations == {1: 0, 5: 1, 2: 2, 6: 3} and search.unscored().tolist() == [3]


def test_neighbours_of_better_documents_come_first_and_a_better_source_moves_them_up():
    search = Search([1, 2, 3], budget=10, batch=3)
    assert search.propose() == [1, 2, 3]
    search.learn([1.0, 3.0, 2.0], [[7, 8, 9], [9, 6, -1], [5, -1, -1]])
    assert search.propose() == [9, 6, 5]  # 9 by its better source, the others by theirs
    search.learn([0.0, 0.0, 0.0], [[]] * 3)
    assert search.propose() == [7, 8]  # the first pass is at its end: the graph goes on
    search.learn([0.0, 0.0], [[], []])
    assert search.propose() == [] and len(search.scores) == 8


def test_without_neighbours_it_is_plain_reranking(opened, corpus, tmp_path):
    found = {"p": ["d3", "d1", "d6"], "q": ["d8", "d2"], "none": []}
    queries = Queries(list(found), [""] * 3)
    adaptive = opened(found, Values(), near={}, batch=2)
    plain = Rerank(adaptive.retriever, Values(), depth=1000)
    plain.open(corpus, tmp_path)
    assert adaptive.retrieve(queries, 5).to_dict() == plain.retrieve(queries, 5).to_dict()


def test_a_document_is_scored_once_per_query_and_no_more_than_the_budget(opened):
    near = {name: {other: -float(i) for i, other in enumerate(NAMES) if other != name} for name in NAMES}
    for budget in (1, 3, 7, 100):
        reranker = Values()
        opened({"q": ["d3", "d1"]}, reranker, near=near, budget=budget, batch=2).retrieve(QUERY, 10)
        scored = [text for call in reranker.calls for text in call]
        assert len(scored) == len(set(scored)) == min(budget, len(NAMES))


@given(
    st.lists(st.permutations(NAMES).map(lambda one: one[:4]), min_size=1, max_size=5),
    st.dictionaries(st.sampled_from(NAMES), st.permutations(NAMES).map(lambda one: one[:3]), max_size=8),
    st.integers(1, 3),
    st.integers(1, 8),
)
@settings(deadline=None, max_examples=30)
def test_queries_together_are_found_what_each_is_found_alone(corpus, tmp_path_factory, firsts, near, batch, budget):
    found = {f"q{i}": {n: -float(j) for j, n in enumerate(one)} for i, one in enumerate(firsts)}
    graph = {name: {other: -float(j) for j, other in enumerate(one)} for name, one in near.items()}
    retriever = Adaptive(Table(found), Values(), Table(graph, "graph"), budget, batch)
    retriever.open(corpus, tmp_path_factory.mktemp("graphs"))
    queries = Queries(list(found), [""] * len(found))
    alone = [retriever.retrieve(queries.take([i]), 10).to_dict() for i in range(len(found))]
    together = retriever.retrieve(queries, 10).to_dict()
    assert together == {query: one for each in alone for query, one in each.items()}


def test_pairs_of_all_queries_are_scored_together(opened):
    reranker = Values()
    queries = Queries(["p", "q"], ["", ""])
    opened({"p": ["d1", "d2"], "q": ["d3"]}, reranker, batch=1).retrieve(queries, 5)
    assert reranker.calls[0] == ["d1", "d3"]


def test_the_graph_holds_no_document_as_its_own_neighbour(corpus, tmp_path):
    near = {"d1": {"d1": 3.0, "d2": 2.0, "d3": 1.0}, "d2": {"d4": 2.0, "d3": 1.5, "d1": 1.0}}
    graph = Neighbours.build(corpus, opened_table(corpus, near), 2, tmp_path)
    assert graph.of(np.array([1, 0, 7])).tolist() == [[3, 2], [1, 2], [-1, -1]]


def opened_table(corpus, found):
    table = Table(found)
    table.open(corpus, None)
    return table


def test_the_graph_is_built_once_and_goes_on_where_it_was_killed(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "PART", 3)

    class Killed(Table):
        def retrieve(self, queries, k):
            if len(self.depths) == 1:
                raise KeyboardInterrupt
            return super().retrieve(queries, k)

    killed = Killed(NEAR)
    killed.open(corpus, None)
    with pytest.raises(KeyboardInterrupt):
        Neighbours.build(corpus, killed, 2, tmp_path)
    monkeypatch.setattr(Killed, "retrieve", Table.retrieve)
    killed.depths = []
    resumed = Neighbours.build(corpus, killed, 2, tmp_path)
    assert len(killed.depths) == 2  # of three parts
    Neighbours.build(corpus, killed, 2, tmp_path)
    assert len(killed.depths) == 2
    whole = Neighbours.build(corpus, opened_table(corpus, NEAR), 2, tmp_path / "other")
    assert np.array_equal(whole.of(np.arange(8)), resumed.of(np.arange(8)))


def test_another_retriever_number_or_corpus_has_a_graph_of_its_own(tmp_path):
    corpora = [Corpus.build([Document(n, "", n) for n in names], tmp_path / names) for names in ("ab", "abc")]
    for corpus in corpora:
        for found in ({"a": {"b": 1.0}}, {"b": {"a": 1.0}}):
            for k in (1, 2):
                Neighbours.build(corpus, opened_table(corpus, found), k, tmp_path / "graphs")
    assert len(list((tmp_path / "graphs").iterdir())) == 8


def test_what_determines_the_results_of_a_retriever_keys_its_graph(tiny_model):
    def dense(metric):
        return DenseRetriever(Transformer(str(tiny_model), pooling="mean"), Flat(metric))

    assert made_with(BM25()) == made_with(BM25(k1=0.9)) != made_with(BM25(k1=1.2))
    assert made_with(dense("dot")) == made_with(dense("dot")) != made_with(dense("cosine"))


def test_a_part_that_was_cut_short_is_named(corpus, tmp_path):
    Neighbours.build(corpus, opened_table(corpus, NEAR), 2, tmp_path)
    (path,) = tmp_path.glob("*/part-00000.npy")
    np.save(path, np.zeros((3, 2), np.int32))
    with pytest.raises(ValueError, match=r"part-00000.npy holds int32 \(3, 2\), not int32 \(8, 2\): delete it"):
        Neighbours.build(corpus, opened_table(corpus, NEAR), 2, tmp_path)


def test_a_graph_of_stored_vectors_is_that_of_their_products(tiny_model, tmp_path):
    texts = TEXTS[::9]
    corpus = Corpus.build([Document(f"d{i}", "", text) for i, text in enumerate(texts)], tmp_path / "corpus")
    dense = DenseRetriever(Transformer(str(tiny_model), pooling="mean", query_prompt="query: "), Flat("cosine"))
    dense.open(corpus, tmp_path)
    found = Neighbours.build(corpus, dense, 5, tmp_path).of(np.arange(len(texts)))
    vectors = dense.store.rows(np.arange(len(texts))).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    best = np.sort(products, axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(np.take_along_axis(products, found, 1), best, atol=1e-6)


def test_a_graph_by_text_searches_with_each_document(tmp_path):
    corpus = Corpus.build([Document(f"d{i}", "", t) for i, t in enumerate(TEXTS[::40])], tmp_path / "corpus")
    bm25 = BM25()
    bm25.open(corpus, tmp_path)
    graph = Neighbours.build(corpus, bm25, 3, tmp_path)
    run = bm25.retrieve(Queries([str(i) for i in range(len(corpus))], TEXTS[::40]), 4).without_self_hits()
    for row in range(len(corpus)):
        wanted = [one for one in run.rows[row].tolist() if one not in (row, -1)][:3]
        assert [one for one in graph.of(np.array([row]))[0].tolist() if one != -1] == wanted


def test_feedback_and_k_are_those_of_reranking(opened):
    retriever = opened({"q": ["d1", "d2", "d3"]}, Values(), batch=1, budget=4)
    run = retriever.retrieve(QUERY, 2)
    assert lists(run) == {"q": ["d5", "d6"]}
    assert retriever.feedback(QUERY, run)[1].texts(run.rows[0]) == ["d5", "d6"]
    assert retriever.retrieve(Queries([], []), 2).rows.shape[0] == 0


def test_scores_that_are_not_finite_are_refused(opened):
    class Broken:
        def score(self, pairs):
            return np.full(len(pairs), np.inf, np.float32)

    with pytest.raises(ValueError, match="Broken gives NaN or infinity for 'words', 'd1'"):
        opened({"q": ["d1"]}, Broken()).retrieve(QUERY, 2)


@pytest.mark.parametrize("wrong", ["budget", "batch", "neighbours"])
def test_a_number_below_1_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{wrong} 0.* are each at least 1"):
        Adaptive(Table({}), Values(), Table({}), **{wrong: 0})
