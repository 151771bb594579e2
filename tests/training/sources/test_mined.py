"""Training data with mined negatives: from a retriever, a run file, and a file of negatives."""

from __future__ import annotations

import json

import numpy as np
import pytest

from retrieval.cli import run as run_recipe
from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.mine import mine
from retrieval.retrievers.bm25 import BM25
from retrieval.run_file import write_run
from retrieval.types import Run
from training import retrieved as module
from training.mining import Mining, remine
from training.sources.ict import ICT
from training.sources.judged import Judged
from training.sources.mined import Mined

DOCS = [
    ("a", "", "otters swim in cold rivers"),
    ("b", "", "Otters swim in cold rivers."),
    ("c", "", "otters sleep on their backs"),
    ("d", "", "comets have long tails of dust"),
    ("e", "", "comets return after many years"),
]
QUERIES = {"q": "where otters swim", "r": "comets with tails"}
TOP = Mining(k=None, choice="top")


@pytest.fixture
def data(tmp_path):
    write_collection(tmp_path / "toy", DOCS, QUERIES, {"train": {"q": {"a": 1}, "r": {"d": 1, "c": 0}}})
    return Folder(str(tmp_path / "toy"))


def shown(lists) -> dict[str, dict[str, float]]:
    names = lists.passages.texts(lists.rows)
    found: dict[str, dict[str, float]] = {query: {} for query in lists.queries.ids}
    for query, text, label in zip(lists.query, names, lists.labels.tolist(), strict=True):
        found[lists.queries.ids[query]][text] = label
    return found


def test_what_a_retriever_finds_is_added_with_label_0(data):
    lists = Mined(Judged(data), data, BM25(), mining=TOP).lists()
    assert shown(lists) == {
        "q": {DOCS[0][2]: 1, DOCS[2][2]: 0},  # b is a near-duplicate of the positive
        "r": {DOCS[3][2]: 1, DOCS[2][2]: 0, DOCS[4][2]: 0},
    }
    assert lists.counts["mining: near-duplicates of positives"] == 1


def test_a_killed_run_goes_on_where_it_stopped_and_a_finished_one_is_not_made_again(data, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 1)
    asked = []

    class Watched(BM25):
        def retrieve(self, queries, k):
            if len(asked) == 1 and "again" not in asked:
                asked.append("again")
                raise KeyboardInterrupt
            asked.extend(queries.ids)
            return super().retrieve(queries, k)

    with pytest.raises(KeyboardInterrupt):
        Mined(Judged(data), data, Watched(), mining=TOP).lists()
    once = Mined(Judged(data), data, Watched(), mining=TOP).lists()
    again = Mined(Judged(data), data, Watched(), mining=TOP).lists()
    assert asked == ["q", "again", "r"] and once.fingerprint() == again.fingerprint()
    Mined(Judged(data), data, Watched(k1=1.5), mining=TOP).lists()
    assert asked == ["q", "again", "r", "q", "r"]


@pytest.mark.parametrize("name", ["run.trec", "run.parquet"])
def test_a_run_file_gives_what_its_retriever_gives(data, tmp_path, name):
    expected = Mined(Judged(data), data, BM25(), mining=TOP)
    found = expected.found(expected.base().queries)
    rows = np.concatenate([found.rows, found.rows[:1]])  # of a query more
    scores = np.concatenate([found.scores, found.scores[:1]])
    write_run(Run([*found.query_ids, "other"], found.docs, rows, scores), tmp_path / name)
    lists = Mined(Judged(data), data, run=tmp_path / name, mining=TOP).lists()
    assert lists.fingerprint() == expected.lists().fingerprint()
    assert remine(expected.base(), found, TOP).fingerprint() == lists.fingerprint()


def test_a_run_for_other_queries_is_refused(data, tmp_path):
    (tmp_path / "run.trec").write_text("q Q0 a 1 2.0 me\nx Q0 a 1 2.0 me\n")
    with pytest.raises(ValueError, match=r"run.trec has no results of 1 of 2 training queries, such as 'r'"):
        Mined(Judged(data), data, run=tmp_path / "run.trec").lists()


def negatives(tmp_path, *records):
    path = tmp_path / "negatives.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def test_a_file_of_negatives_is_taken_as_it_is(data, tmp_path):
    path = negatives(tmp_path, {"qid": "r", "docid": ["e", "c", "e"]}, {"qid": "other", "docid": ["a"]})
    lists = Mined(Judged(data), data, negatives=path).lists()
    assert shown(lists)["r"] == {DOCS[3][2]: 1, DOCS[2][2]: 0, DOCS[4][2]: 0}
    assert lists.counts["mining: mined negatives"] == 1 and lists.counts["mining: listed already"] == 2


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"qid": "q", "docid": ["c", "a"]}, r"negatives.jsonl:1: query 'q' has 'a' among its negatives, which is one"),
        ({"qid": "q", "docid": ["x"]}, r"negatives.jsonl:1: document 'x' is not in the corpus"),
        ({"qid": "z", "docid": ["a"]}, r"it is of other queries"),
        ({"qid": "q"}, r"negatives.jsonl:1: no record of negatives; a line is"),
        ({"qid": "q", "docid": "a"}, r"negatives.jsonl:1: no record of negatives; a line is"),
    ],
)
def test_a_negative_that_is_a_positive_and_a_record_that_is_none_are_refused(data, tmp_path, record, message):
    with pytest.raises(ValueError, match=message):
        Mined(Judged(data), data, negatives=negatives(tmp_path, record)).lists()


def test_lists_of_one_collection_take_negatives_of_another(data, tmp_path):
    documents = [("a", "", "the otters swim in cold rivers"), ("z", "", "where sharks swim"), ("y", "", "comets shine")]
    write_collection(tmp_path / "more", documents, {"u": "x"}, {"test": {"u": {"z": 1}}})
    more = Folder(str(tmp_path / "more"))
    mining = Mining(k=None, choice="top", near_duplicate=0.7)
    lists = Mined(Judged(data), more, BM25(), mining=mining).lists()
    assert shown(lists) == {
        "q": {DOCS[0][2]: 1, "where sharks swim": 0},
        "r": {DOCS[3][2]: 1, DOCS[2][2]: 0, "comets shine": 0},
    }
    assert Mined(Judged(data), more, negatives=negatives(tmp_path, {"qid": "q", "docid": ["z"]})).lists().rows[1] == 6
    with pytest.raises(ValueError, match=r"give mining.near_duplicate"):
        Mined(Judged(data), more, BM25(), mining=Mining(near_duplicate=None)).lists()


def test_the_document_that_a_sentence_was_taken_from_is_no_negative_of_it(tmp_path):
    texts = {"x": "Otters swim. They sleep.", "y": "Comets shine. They sleep.", "z": "Otters eat."}
    documents = [(name, "", text) for name, text in texts.items()]
    write_collection(tmp_path / "two", documents, {"u": "x"}, {"test": {"u": {"z": 1}}})
    two = Folder(str(tmp_path / "two"))
    lists = Mined(ICT(two, kept=0.0), two, BM25(), mining=TOP).lists()
    found = shown(lists)
    assert list(found) == ["x", "y"] and all(1 in found[name].values() for name in found)
    assert not any(texts[name] in found[name] for name in found)
    assert lists.counts["mining: of the id of a positive"] == 2 and lists.counts["mining: mined negatives"] > 0


def test_a_reranker_for_negatives_chosen_before_is_refused(data):
    for given in ({"reranker": Length()}, {"mining": Mining(reranker_above=1.0)}):
        with pytest.raises(ValueError, match="negatives were chosen when they were mined: give the reranker"):
            Mined(Judged(data), data, negatives="y", **given)


class Length:
    def score(self, pairs):
        return np.array([len(text) for _, text in pairs], np.float32)


@pytest.mark.parametrize("given", [{}, {"retriever": BM25(), "run": "x"}, {"run": "x", "negatives": "y"}])
def test_negatives_come_from_one_place(data, given):
    with pytest.raises(ValueError, match="one of retriever, run and negatives is to be given"):
        Mined(Judged(data), data, **given)


def test_the_recipe_writes_negatives_that_training_reads(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (
        "source: {type: judged, dataset: {type: folder, path: toy}}\ndataset: {type: folder, path: toy}\n"
        "retriever: bm25\nmining: {k: 1, choice: top}\n"
    )
    (tmp_path / "r.yaml").write_text(text)
    results = run_recipe(mine, ["r.yaml", "out=o"])
    records = [json.loads(line) for line in (tmp_path / "o" / "negatives.jsonl").read_text().splitlines()]
    assert [(one["qid"], one["docid"]) for one in records] == [("q", ["c"]), ("r", ["e"])]
    best = Mined(Judged(data), data, BM25(), mining=TOP)
    found = best.found(best.base().queries).to_dict()
    assert [one["score"] for one in records] == [[found["q"]["c"]], [found["r"]["e"]]]
    assert results["mining: mined negatives"] == 2 and results["share of near-duplicates of positives"] == 1 / 3
    assert "mining: near-duplicates of positives: 1" in capsys.readouterr().out
    made = Mined(Judged(data), data, negatives=tmp_path / "o" / "negatives.jsonl").lists()
    assert (
        made.fingerprint() == Mined(Judged(data), data, BM25(), mining=Mining(k=1, choice="top")).lists().fingerprint()
    )
