"""Rounds of retrieval: what holds for any model, what a stop ends, and what is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prf.rm3 import RM3
from prf.stops.oracle import Oracle
from prf.stops.overlap import Overlap
from retrieval.corpus import Corpus, Document
from retrieval.order import top_k
from retrieval.protocols import FeedbackSource, Retriever, Stop
from retrieval.qrels_file import write_qrels
from retrieval.registry import find
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.multi_round import MultiRound
from retrieval.run_file import read_run
from retrieval.types import Dense, Feedback, Qrels, Queries, Run
from tests.tables import Table, lists

SIZE = 30
VECTORS = np.random.default_rng(0).normal(size=(SIZE, 4)).astype(np.float32)
QUERIES = Queries(["a", "b"], ["one", "two"], representations=Dense(np.eye(4, dtype=np.float32)[:2]))


class Products:
    """Every document by its product with the query's vector."""

    reads = ("representations",)

    def open(self, corpus, folder):
        self.ids, self.depths = corpus.ids, []

    def retrieve(self, queries, k):
        self.depths.append((list(queries.ids), k))
        scores = (queries.representations.vectors @ VECTORS.T).astype(np.float32)
        return Run(queries.ids, self.ids, *top_k(scores, self.ids.rank, k), "products")

    def feedback(self, queries, run):
        return queries, Feedback(run, vectors=lambda rows: VECTORS[rows])


class Same:
    """Leaves the queries as they are."""

    needs = ()

    def reformulate(self, queries, feedback):
        return queries


class Towards:
    """Adds the mean of the new documents, and remembers them."""

    needs = ("vectors",)

    def __init__(self):
        self.given = []

    def reformulate(self, queries, feedback):
        self.given.append(
            {query: rows[rows >= 0].tolist() for query, rows in zip(queries.ids, feedback.run.rows, strict=True)}
        )
        found = [feedback.vectors(rows[rows >= 0]) for rows in feedback.run.rows]
        means = np.array([one.sum(0) / max(1, len(one)) for one in found])
        return replace(queries, representations=Dense((queries.representations.vectors + means).astype(np.float32)))


@pytest.fixture
def opened(tmp_path):
    texts = [f"text {'river ' * (i % 3)}{'sea' if i % 2 else 'otter'}" for i in range(SIZE)]
    corpus = Corpus.build((Document(f"d{i:02}", "", text) for i, text in enumerate(texts)), tmp_path / "corpus")

    def make(retriever):
        retriever.open(corpus, tmp_path)
        return retriever

    return make


@pytest.fixture
def qrels(tmp_path):
    write_qrels(Qrels.from_dict({"a": {"d00": 1}, "b": {"d01": 1}}), tmp_path / "qrels.tsv")
    return tmp_path / "qrels.tsv"


def rows(run):
    return [one[one >= 0].tolist() for one in run.rows]


def test_recipes_find_them_by_their_files():
    assert find(Retriever, "multi_round") is MultiRound is find(FeedbackSource, "multi_round")
    assert find(Stop, "overlap") is Overlap and find(Stop, "oracle") is Oracle


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_one_round_is_plain_retrieval(opened, exclude_seen):
    found = opened(MultiRound(Products(), Towards(), 7, 1, exclude_seen)).retrieve(QUERIES, 20)
    assert found.to_dict() == opened(Products()).retrieve(QUERIES, 7).to_dict()


@pytest.mark.parametrize(("per_round_k", "rounds"), [(4, 3), (7, 4), (20, 5), (1, 30)])
def test_rounds_of_the_same_query_are_the_top_of_plain_retrieval(opened, per_round_k, rounds):
    found = opened(MultiRound(Products(), Same(), per_round_k, rounds)).retrieve(QUERIES, 1000)
    assert rows(found) == rows(opened(Products()).retrieve(QUERIES, per_round_k * rounds))


@pytest.mark.parametrize(("per_round_k", "rounds"), [(4, 3), (7, 4), (20, 5)])
def test_no_document_comes_twice_and_all_there_could_be_come(opened, per_round_k, rounds):
    for found in rows(opened(MultiRound(Products(), Towards(), per_round_k, rounds)).retrieve(QUERIES, 1000)):
        assert len(found) == len(set(found)) == min(per_round_k * rounds, SIZE)


def test_each_round_searches_with_what_the_model_made_of_the_last_ones_new_documents(opened):
    model = Towards()
    found = rows(opened(MultiRound(Products(), model, 3, 3)).retrieve(QUERIES, 1000))
    for place, query in enumerate(QUERIES.ids):
        vector, seen = QUERIES.representations.vectors[place].astype(np.float32), []
        for number in range(3):
            scores = VECTORS @ vector
            new = [row for row in np.argsort(-scores).tolist() if row not in seen][:3]
            seen += new
            if number < 2:
                assert model.given[number][query] == new
            vector = vector + VECTORS[new].mean(0)
        assert found[place] == seen


def test_k_cuts_the_list_and_the_rounds_stay_whole(opened):
    retriever = opened(MultiRound(Products(), Towards(), 4, 3))
    assert rows(retriever.retrieve(QUERIES, 5)) == [one[:5] for one in rows(retriever.runs[-1])]
    assert [len(one) for one in rows(retriever.runs[-1])] == [12, 12]


def test_the_list_after_each_round_is_kept_and_written(opened, tmp_path):
    retriever = opened(MultiRound(Products(), Towards(), 4, 3, save=tmp_path / "rounds"))
    found = retriever.retrieve(QUERIES, 1000)
    assert [rows(run) for run in retriever.runs] == [[one[: 4 * n] for one in rows(found)] for n in (1, 2, 3)]
    for number, run in enumerate(retriever.runs, 1):
        written = read_run(tmp_path / "rounds" / f"round-{number}.trec")
        assert lists(written) == lists(run) and written.name == "products+towards+multiround"


def test_files_of_more_rounds_from_before_are_deleted(opened, tmp_path):
    (tmp_path / "rounds").mkdir()
    for name in ("round-2.trec", "round-12.trec", "round-notes.trec"):
        (tmp_path / "rounds" / name).write_text("old")
    opened(MultiRound(Products(), Towards(), 4, 2, save=tmp_path / "rounds")).retrieve(QUERIES, 10)
    assert {one.name for one in (tmp_path / "rounds").iterdir()} == {"round-1.trec", "round-2.trec", "round-notes.trec"}
    assert len(read_run(tmp_path / "rounds" / "round-2.trec").query_ids) == 2


def test_without_exclusion_the_last_round_ranks_anew_and_earlier_finds_follow(opened):
    retriever = opened(MultiRound(Products(), Towards(), 6, 3, exclude_seen=False))
    found = rows(retriever.retrieve(QUERIES, 1000))
    assert [k for _, k in retriever.retriever.depths] == [6, 6, 6]
    for place in range(2):
        searches = [given[QUERIES.ids[place]] for given in retriever.update.given]
        assert len(found[place]) == len(set(found[place]))
        assert set(found[place]) == set(found[place][:6]) | set(searches[0]) | set(searches[1])
        later = [row for row in searches[1] if row not in found[place][:6]]
        assert found[place][6 : 6 + len(later)] == later


def test_bm25_with_rm3_goes_on_with_new_documents_and_a_query_that_finds_nothing_has_none(opened):
    asked = Queries(["a", "b"], ["otter", "nothing"])
    retriever = opened(MultiRound(BM25(), RM3(max_df=None), 5, 4))
    found = rows(retriever.retrieve(asked, 100))
    assert len(found[0]) == len(set(found[0])) == 20 and found[1] == []
    plain = opened(FeedbackRetriever(BM25(), RM3(max_df=None), depth=5)).retrieve(asked, 10)
    assert found[0][5:10] == [row for row in rows(plain)[0] if row not in found[0][:5]][:5]


def test_overlap_ends_what_has_settled(opened):
    retriever = opened(MultiRound(Products(), Same(), 5, 4, stop=Overlap(1.0)))
    found = rows(retriever.retrieve(QUERIES, 100))
    assert [len(one) for one in found] == [10, 10]  # the second search finds the same on top
    assert retriever.provenance()["queries stopped early"] == 2
    assert len(retriever.runs) == 2


def test_overlap_compares_the_tops_of_the_last_two_searches(opened):
    ids = opened(Products()).ids
    make = lambda *lists: Run(["x", "y"], ids, np.array(lists, np.int32), np.array([[3, 2, 1]] * 2, np.float32))  # noqa: E731
    before, now = make([0, 1, 2], [3, 4, 5]), make([2, 1, 9], [9, 8, 3])
    asked = Queries(["x", "y"], ["", ""])
    assert Overlap(0.5).stop(asked, [before, now]).tolist() == [True, False]
    assert Overlap(0.5, "below").stop(asked, [before, now]).tolist() == [False, True]
    assert Overlap(0.0).stop(asked, [now]).tolist() == [False, False]


def test_a_query_that_found_nothing_has_had_enough(opened):
    table = opened(Table({"a": {"d00": 1.0}}))
    run = table.retrieve(QUERIES, 5)
    assert Overlap().stop(QUERIES, [run]).tolist() == [False, True]


def test_only_queries_that_have_not_had_enough_are_asked_again(opened):
    class Second:
        def stop(self, queries, rounds):
            return np.array([query == "a" and len(rounds) == 2 for query in queries.ids])

    retriever = opened(MultiRound(Products(), Towards(), 4, 4, stop=Second()))
    found = rows(retriever.retrieve(QUERIES, 100))
    assert [ids for ids, _ in retriever.retriever.depths] == [["a", "b"], ["a", "b"], ["b"], ["b"]]
    assert [len(one) for one in found] == [8, 16] and retriever.provenance()["queries stopped early"] == 1
    everyone = opened(MultiRound(Products(), Towards(), 4, 4)).retrieve(QUERIES, 100)
    assert found == [rows(everyone)[0][:8], rows(everyone)[1]]


def test_the_oracle_ends_a_query_whose_last_search_is_good_enough_and_is_called_one(opened, qrels):
    first = opened(Products()).retrieve(QUERIES, 1)
    relevant = {query: {next(iter(found)): 1} for query, found in first.to_dict().items()}
    write_qrels(Qrels.from_dict({"a": relevant["a"], "b": {"none": 1}}), qrels)
    retriever = opened(MultiRound(Products(), Same(), 5, 3, stop=Oracle(qrels, "nDCG@3", 0.75)))
    run = retriever.retrieve(QUERIES, 100)
    assert [len(one) for one in rows(run)] == [5, 15]
    assert run.name == "products+same+multiround+oracle"
    assert retriever.provenance()["stop"]["oracle"].startswith("nDCG@3 on ")


def test_the_oracle_goes_on_with_queries_that_are_not_judged_and_refuses_a_first_round_of_them(opened, qrels):
    best = next(iter(opened(Products()).retrieve(QUERIES, 1).to_dict()["a"]))
    write_qrels(Qrels.from_dict({"a": {best: 1}}), qrels)
    retriever = opened(MultiRound(Products(), Same(), 5, 3, stop=Oracle(qrels, "nDCG@3", 0.75)))
    assert [len(one) for one in rows(retriever.retrieve(QUERIES, 100))] == [5, 15]
    with pytest.raises(ValueError, match="judges none of the queries, such as 'b'"):
        retriever.retrieve(QUERIES.take([1]), 100)


def test_a_measure_with_a_parameter_that_cannot_be_is_refused(qrels):
    for measure in ("nDCG@10.5", "RBP(p=2)", "nothing@3"):
        with pytest.raises(ValueError, match="measure .* is unknown .*: name one such as nDCG@10"):
            Oracle(qrels, measure)


def test_a_model_that_needs_what_the_retriever_does_not_show_is_refused(opened):

    with pytest.raises(ValueError, match="Towards needs vectors of the feedback documents, which Table does not"):
        opened(MultiRound(Table({"a": {"d00": 1.0}}), Towards(), 5, 2)).retrieve(QUERIES, 5)


def test_a_model_that_writes_what_the_retriever_does_not_read_is_refused():
    with pytest.raises(ValueError, match="RM3 writes terms, and Products searches with representations"):
        MultiRound(Products(), RM3())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: MultiRound(Products(), Same(), 0),
        lambda: MultiRound(Products(), Same(), rounds=0),
        lambda: Overlap(1.5),
        lambda: Overlap(when="at"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 1|within"):
        wrong()
