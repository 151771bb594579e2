"""Filters over lists: BM25's rank of the source document, a teacher's scores, evaluation queries."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.retrievers.bm25 import BM25
from training import retrieved
from training.filters import Keep
from training.sources.filtered import Filtered
from training.sources.judged import Judged
from training.sources.scored import Scored

DOCUMENTS = [("d1", "", "comet"), ("d2", "", "comet comet otter"), ("d3", "", "otter teapot"), ("d4", "", "violin")]
QUERIES = {"a": "comet", "b": "comet", "c": "teapot", "d": "volcano", "e": "comet otter", "f": "comet"}
SOURCES = {"a": "d1", "b": "d2", "c": "d3", "d": "d4", "e": "d2", "f": "d1"}  # f repeats a


class Teacher:
    """Scores a pair by the length of the query."""

    def score(self, pairs):
        return np.array([len(query) for query, _ in pairs], np.float32)

    def contract(self):
        return {"reranker": "length"}


@pytest.fixture
def dataset(tmp_path):
    write_collection(tmp_path / "c", DOCUMENTS, QUERIES, {"train": {query: {doc: 1} for query, doc in SOURCES.items()}})
    return Folder(str(tmp_path / "c"))


def test_a_query_is_kept_where_bm25_finds_its_document_that_high(dataset):
    source = Judged(dataset)
    kept = {k: Filtered(source, retriever=BM25(), rank=k).lists() for k in (1, 2, 4)}
    best = source.lists().passages
    retriever = BM25()
    retriever.open(best, dataset.open().folder / "index")
    first = retriever.retrieve(source.lists().queries, 4).rows
    expected = {
        k: [q for place, q in enumerate(QUERIES) if q != "f" and best.ids.rows([SOURCES[q]])[0] in first[place, :k]]
        for k in kept
    }
    assert {k: list(lists.queries.ids) for k, lists in kept.items()} == expected
    assert [len(lists) for lists in kept.values()] == [3, 4, 4]  # monotone; d has no document with its term
    assert kept[2].counts["queries not among the first 2"] == 1
    assert kept[2].counts["queries twice for the same passages"] == 1


def test_what_the_retriever_found_is_kept_chunk_by_chunk(dataset, monkeypatch):
    monkeypatch.setattr(retrieved, "CHUNK", 2)
    asked = []

    class Watched(BM25):
        def retrieve(self, queries, k):
            asked.append(list(queries.ids))
            if len(asked) == 2:
                raise KeyboardInterrupt
            return super().retrieve(queries, k)

    with pytest.raises(KeyboardInterrupt):
        Filtered(Judged(dataset), retriever=Watched(), rank=2).lists()
    lists = Filtered(Judged(dataset), retriever=Watched(), rank=2).lists()
    assert asked == [["a", "b"], ["c", "d"], ["c", "d"], ["e"]]
    assert lists.queries.ids == Filtered(Judged(dataset), retriever=BM25(), rank=2).lists().queries.ids


def test_where_a_retriever_finds_nothing_no_query_is_left(tmp_path):
    write_collection(tmp_path / "n", DOCUMENTS, {"d": "volcano"}, {"train": {"d": {"d4": 1}}})
    with pytest.raises(ValueError, match=r"no query of 1 is left \(1 not among the first 2\)"):
        Filtered(Judged(Folder(str(tmp_path / "n"))), retriever=BM25(), rank=2).lists()


def test_filtering_again_drops_nothing(dataset):
    once = Filtered(Judged(dataset), retriever=BM25(), rank=2)
    assert list(Filtered(once, retriever=BM25(), rank=2).lists().queries.ids) == list(once.lists().queries.ids)


def test_a_teachers_scores_choose_and_do_not_take_the_place_of_labels(dataset):
    lists = Filtered(Scored(Judged(dataset), Teacher()), Keep(threshold=7)).lists()
    assert list(lists.queries.ids) == ["d", "e"] and lists.targets is None and (lists.labels == 1).all()
    with pytest.raises(ValueError, match="put it into a source of type scored"):
        Filtered(Judged(dataset), Keep(best=1)).lists()


def test_queries_of_the_evaluation_and_short_ones_are_left_out(dataset, tmp_path):
    write_collection(tmp_path / "e", DOCUMENTS, {"x": " TEAPOT"}, {"dl19": {"x": {"d3": 1}}})
    lists = Filtered(Judged(dataset), evaluation=Folder(str(tmp_path / "e"))).lists()
    assert list(lists.queries.ids) == ["a", "b", "d", "e"] and lists.counts["queries a query of e"] == 1
    assert list(Filtered(Judged(dataset), Keep(min_words=2)).lists().queries.ids) == ["e"]


def test_passages_that_the_evaluation_judges_are_left_out_with_the_queries_they_answer(dataset, tmp_path):
    said = {"d2": "Comet, comet otter!", "d4": "a lute"}  # the words of d2 with another id; d4 is something else here
    documents = [(f"e{name}" if name == "d2" else name, "", said.get(name, text)) for name, _, text in DOCUMENTS]
    write_collection(tmp_path / "e", documents[1:], {"x": "volcanoes"}, {"dl19": {"x": {"ed2": 0, "d4": 1}}})
    lists = Filtered(Judged(dataset), evaluation=Folder(str(tmp_path / "e"))).lists()
    assert list(lists.queries.ids) == ["a", "c"]  # d3 says the same in both, so d4 is the same document
    assert lists.counts["queries with a relevant passage that e judges"] == 3


def test_judged_passages_that_are_not_relevant_leave_only_the_list(tmp_path):
    judged = {"a": {"d1": 1, "d3": 0}, "b": {"d2": 1, "d4": 0}}
    write_collection(tmp_path / "c", DOCUMENTS, {"a": "comet", "b": "otter"}, {"train": judged})
    write_collection(tmp_path / "e", DOCUMENTS, {"x": "teapots"}, {"dl19": {"x": {"d3": 2}}})
    lists = Filtered(Judged(Folder(str(tmp_path / "c"))), evaluation=Folder(str(tmp_path / "e"))).lists()
    assert list(lists.queries.ids) == ["a", "b"] and np.diff(lists.offsets).tolist() == [1, 2]
    assert lists.counts["passages that the evaluation judges"] == 1


def test_where_no_query_is_left_the_error_says_what_dropped_how_many(dataset):
    with pytest.raises(ValueError, match=r"no query of 6 is left \(6 shorter than 3 words\)"):
        Filtered(Judged(dataset), Keep(min_words=3), retriever=BM25(), rank=2).lists()


def test_a_rank_without_a_retriever_is_refused(dataset):
    for wrong in ({"rank": 3}, {"retriever": BM25()}, {"retriever": BM25(), "rank": 0}):
        with pytest.raises(ValueError, match="rank"):
            Filtered(Judged(dataset), **wrong)
