"""Datasets made of another with queries written for it: appended to documents, or as a split more."""

from __future__ import annotations

import json

import pytest

from retrieval.collection import write_collection
from retrieval.datasets.expanded import Expanded
from retrieval.datasets.folder import Folder
from retrieval.datasets.with_queries import WithQueries
from retrieval.retrievers.bm25 import BM25
from retrieval.search import search
from tests.training.sources.test_filtered import Teacher
from training.filters import Keep
from training.sources.filtered import Filtered
from training.sources.judged import Judged
from training.sources.scored import Scored
from training.synthesis.weak_queries import pool

DOCUMENTS = [("d1", "a title", "comet"), ("d2", "", "otter"), ("d3", "", "")]


@pytest.fixture
def plain(tmp_path):
    write_collection(tmp_path / "plain", DOCUMENTS, {"q": "telescope"}, {"test": {"q": {"d1": 1}}})
    return Folder(str(tmp_path / "plain"))


@pytest.fixture
def weak(tmp_path):
    queries = {"2000000": "telescope", "2000001": "who saw it", "2000002": "river"}
    judged = {"2000000": {"d1": 1}, "2000001": {"d1": 1}, "2000002": {"d2": 1}}
    write_collection(tmp_path / "weak", DOCUMENTS, queries, {"train": judged})
    return Judged(Folder(str(tmp_path / "weak")))


def texts(dataset):
    return [one.text for one in dataset.open().corpus]


def test_queries_follow_their_documents_and_a_search_finds_these_by_them(plain, weak):
    expanded = Expanded(plain, weak)
    assert texts(expanded) == ["comet telescope who saw it", "otter river", ""]
    assert [one.title for one in expanded.open().corpus] == ["a title", "", ""]
    assert expanded.open().qrels("test").to_dict() == {"q": {"d1": 1}}
    measured = [search(dataset, BM25(), measures=["R@1"])["bm25"]["mean"]["R@1"] for dataset in (plain, expanded)]
    assert measured == [0.0, 1.0]


def test_a_higher_threshold_appends_no_more_and_none_at_all_appends_all(plain, weak):
    scored = Scored(weak, Teacher())  # scores 9, 10 and 5
    kept = [texts(Expanded(plain, Filtered(scored, Keep(threshold=t)))) for t in (float("-inf"), 6, 10)]
    assert kept[0] == texts(Expanded(plain, weak))
    assert kept[1:] == [["comet telescope who saw it", "otter", ""], ["comet who saw it", "otter", ""]]
    with pytest.raises(ValueError, match="no query of 3 is left .3 scored below inf"):
        texts(Expanded(plain, Filtered(scored, Keep(threshold=float("inf")))))


def test_queries_of_other_documents_are_refused(weak, tmp_path):
    write_collection(tmp_path / "other", DOCUMENTS[:2], {"q": "x"}, {"test": {"q": {"d1": 1}}})
    with pytest.raises(ValueError, match="of other documents than those of other"):
        Expanded(Folder(str(tmp_path / "other")), weak).open()


def beside(plain, records, judged="query-id\tcorpus-id\tscore\n9\td2\t1\n"):
    folder = plain.open().folder / "weak"
    folder.mkdir()
    (folder / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    (folder / "qrels.tsv").write_text(judged)
    return WithQueries(plain, "weak/queries.jsonl", "weak/qrels.tsv", words=2)


def test_files_beside_a_collection_become_a_split_cut_to_words(plain):
    made = beside(plain, [{"_id": "9", "text": "what is an otter"}]).open()
    assert made.splits() == ["test", "weak"] and made.queries("weak").texts == ["what is"]
    assert made.queries("test").texts == ["telescope"] and made.qrels("weak").to_dict() == {"9": {"d2": 1}}
    assert made.corpus.fingerprint == plain.open().corpus.fingerprint


def test_a_query_id_or_a_split_that_is_there_and_a_file_that_is_not_are_refused(plain):
    with pytest.raises(ValueError, match=r"weak/queries.jsonl:1: query id 'q' is given twice"):
        beside(plain, [{"_id": "q", "text": "x"}]).open()
    with pytest.raises(ValueError, match="has a split test already"):
        WithQueries(plain, "a", "b", split="test").open()
    with pytest.raises(FileNotFoundError, match="weak/none is not there: paths of queries and qrels are below"):
        WithQueries(plain, "weak/none", "weak/qrels.tsv").open()


@pytest.mark.parametrize(
    ("pairs", "kept", "first"),
    [
        (100, 4767, "what is leicester ma"),
        (500, 4805, "what is the local news for leicester ma"),
        (1000, 4745, None),
    ],
)
def test_weak_queries_of_sptar(data, pairs, kept, first):
    dataset = WithQueries(Folder("sptar-msmarco"), f"weak/queries_{pairs}.jsonl", f"weak/qrels_{pairs}.tsv")
    queries, weak, evaluation = dataset.open().queries("weak"), Judged(dataset, "weak"), Folder("trec-dl-pool")
    assert len(queries) == 5000 and first in (None, queries.texts[0])
    assert max(len(one.split()) for one in queries.texts) <= 50
    assert len(Filtered(weak, evaluation=evaluation).lists()) == 4998  # two are for passages that DL20 judges
    assert len(Filtered(weak, retriever=BM25(), rank=30, evaluation=evaluation).lists()) == kept


def test_the_pool_of_sptar_has_no_passage_that_either_collection_judges(data):
    msmarco, dl = Folder("sptar-msmarco").open(), Folder("trec-dl-pool").open()
    rows, counts = pool(msmarco, None, False, 0, dl)
    assert counts["documents"] == len(rows) == 4998
    assert counts["judged documents left out"] == 2249 and counts["documents judged elsewhere left out"] == 2
