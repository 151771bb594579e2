"""Sources made of texts: sentences out of documents, misspelt queries, queries with their feedback."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from prf.ance_prf import ANCEPRF
from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.lists import Lists
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.types import Dense, Queries
from training.sources.feedback_texts import FeedbackTexts
from training.sources.ict import ICT
from training.sources.typos import Typos

DOCUMENTS = [
    ("d0", "Otters", "They swim well. They eat fish. They sleep in holts."),
    ("d1", "", "Just one sentence about comets."),
    ("d2", "Violins", "A violin has four strings. Its bow is of horsehair."),
    ("d3", "Empty", ""),
    ("d4", "", "Volcanoes erupt. Lava flows. Ash falls. People flee."),
]
QUERIES = {"q0": "swimming otters", "q1": "horsehair violin bows", "q2": "lava", "q3": "is it"}


@pytest.fixture
def toy(tmp_path):
    qrels = {"train": {"q0": {"d0": 1, "d1": 0}, "q1": {"d2": 2}, "q2": {"d4": 1}, "q3": {"d1": 1}}}
    write_collection(tmp_path / "toy", DOCUMENTS, QUERIES, qrels)
    return Folder(str(tmp_path / "toy"))


@dataclass
class Given:
    """A source of given lists."""

    given: Lists

    def lists(self):
        return self.given


@pytest.fixture
def given(toy):
    made = Lists(
        Queries(list(QUERIES), list(QUERIES.values())),
        toy.open().corpus,
        np.array([0, 2, 3, 4, 4]),
        np.array([0, 1, 2, 4], np.int32),
        np.array([1, 0, 2, 1], np.float32),
        targets=np.array([0.5, 0.1, 0.9, 0.7], np.float32),
        times=np.array([1.0, 2.0, 3.0, 4.0]),
        counts={"before": 5},
    )
    return Given(made)


# ---- inverse cloze -------------------------------------------------------------------------------------------------


def test_a_sentence_asks_for_the_rest_of_its_document(toy):
    lists = ICT(toy, kept=0.0).lists()
    assert lists.queries.ids == ("d0", "d2", "d4") and lists.offsets.tolist() == [0, 1, 2, 3]
    assert lists.rows.tolist() == [0, 1, 2] and lists.labels.tolist() == [1, 1, 1]
    assert lists.counts == {"documents of fewer than 2 sentences": 2, "passages that keep their sentence": 0}
    for query, passage, (_, title, text) in zip(
        lists.queries.texts, lists.passages.texts(lists.rows), [DOCUMENTS[0], DOCUMENTS[2], DOCUMENTS[4]], strict=True
    ):
        assert query in text and query not in passage
        assert passage == " ".join(f"{title} {text.replace(query, '')}".split())


def test_a_sentence_stays_in_its_passage_as_often_as_asked(tmp_path):
    documents = [(f"d{number}", "", f"First {number}. Second {number}. Third {number}.") for number in range(2000)]
    write_collection(tmp_path / "many", documents, {"q": "x"}, {"test": {"q": {"d0": 1}}})
    lists = ICT(Folder(str(tmp_path / "many"))).lists()
    kept = [q in p for q, p in zip(lists.queries.texts, lists.passages.texts(lists.rows), strict=True)]
    assert lists.counts["passages that keep their sentence"] == sum(kept)
    assert np.mean(kept) == pytest.approx(0.1, abs=0.02)
    firsts = np.mean([text.startswith("First") for text in lists.queries.texts])
    assert firsts == pytest.approx(1 / 3, abs=0.04)


def test_the_seed_chooses_sentences_and_documents(toy):
    first, again = ICT(toy).lists(), ICT(toy).lists()
    assert first.fingerprint() == again.fingerprint() and first.passages.folder == again.passages.folder
    assert len({tuple(ICT(toy, seed=seed).lists().queries.texts) for seed in range(5)}) > 1
    few = [ICT(toy, documents=3, seed=seed).lists() for seed in range(8)]
    assert {len(one) + one.counts["documents of fewer than 2 sentences"] for one in few} == {3}
    assert len({one.queries.ids for one in few}) > 1
    assert ICT(toy, documents=99).lists().queries.ids == first.queries.ids


def test_documents_without_two_sentences_make_no_data(tmp_path):
    write_collection(tmp_path / "one", DOCUMENTS[1:2], {"q": "x"}, {"test": {"q": {"d1": 1}}})
    with pytest.raises(ValueError, match="none of 1 documents of .* has two sentences to part"):
        ICT(Folder(str(tmp_path / "one"))).lists()


@pytest.mark.parametrize(
    ("settings", "message"), [({"kept": 1.1}, "kept is 1.1"), ({"documents": 0}, "documents is 0; it is how many")]
)
def test_settings_of_ict_that_cannot_be_are_refused(toy, settings, message):
    with pytest.raises(ValueError, match=message):
        ICT(toy, **settings)


# ---- typos ---------------------------------------------------------------------------------------------------------


def test_misspelt_queries_keep_their_ids_and_lists(given):
    before, lists = given.lists(), Typos(given, share=1.0).lists()
    assert lists.queries.ids == before.queries.ids
    same = [new == old for new, old in zip(lists.queries.texts, before.queries.texts, strict=True)]
    assert same == [False, False, False, True]  # "is it" has no word to misspell
    assert lists.counts == {"before": 5, "queries with typos": 3}
    assert replace(lists, queries=before.queries).fingerprint() == before.fingerprint()


def test_added_copies_have_the_lists_of_their_queries(given):
    before, lists = given.lists(), Typos(given, share=1.0, added=True).lists()
    assert lists.queries.ids == ["q0", "q1", "q2", "q3", "q0-typo", "q1-typo", "q2-typo"]
    assert list(lists.queries.texts[:4]) == list(before.queries.texts)
    assert lists.queries.texts[4:] == Typos(given, share=1.0).lists().queries.texts[:3]
    assert lists.offsets.tolist() == [0, 2, 3, 4, 4, 6, 7, 8]
    for name in ("rows", "labels", "targets"):
        array = getattr(before, name)
        np.testing.assert_array_equal(getattr(lists, name), [*array, *array])
    assert lists.times.tolist() == [1, 2, 3, 4, 1, 2, 3]


def test_a_share_of_the_queries_is_misspelt(given):
    counts = [Typos(given, seed=seed).lists().counts["queries with typos"] for seed in range(60)]
    assert np.mean(counts) == pytest.approx(1.5, abs=0.35)


def test_an_id_that_is_taken_is_refused(given):
    lists = given.lists()
    taken = replace(lists, queries=replace(lists.queries, ids=["q0", "q0-typo", "q2", "q3"]))
    with pytest.raises(ValueError, match="would add a query 'q0-typo', which the source has already"):
        Typos(Given(taken), share=1.0, added=True).lists()


def test_a_share_that_cannot_be_is_refused(given):
    with pytest.raises(ValueError, match="share is 0; it is the share of queries"):
        Typos(given, share=0)
    with pytest.raises(ValueError, match="no kind of typo"):
        Typos(given, kinds=["slip"])


# ---- feedback ------------------------------------------------------------------------------------------------------


class Noting:
    """An encoder that notes what it reads."""

    separator = " | "

    def __init__(self):
        self.read = []

    def encode_queries(self, texts):
        self.read += texts
        return Dense(np.zeros((len(texts), 2), np.float32))

    def contract(self):
        return {}


class Still:
    """Finds what a first pass found, and reads nothing of a query."""

    reads = ("representations",)

    def open(self, corpus, folder):
        self.corpus = corpus

    def retrieve(self, queries, k):
        return bm25_of(self.corpus).retrieve(Queries(queries.ids, queries.texts), k)


def bm25_of(corpus):
    made = BM25()
    made.open(corpus, corpus.folder.parent)
    return made


def test_queries_read_as_the_model_reads_them_when_it_searches(toy, given):
    lists = FeedbackTexts(given, toy, BM25(), ANCEPRF(Noting(), fb_docs=2)).lists()
    encoder = Noting()
    searching = FeedbackRetriever(BM25(), ANCEPRF(encoder, fb_docs=2), Still(), depth=10)
    searching.open(toy.open().corpus, toy.open().folder / "opened")
    searching.retrieve(given.lists().queries, 3)
    assert list(lists.queries.texts) == encoder.read
    assert lists.queries.texts[2] == f"lava | {DOCUMENTS[4][2]}" and lists.queries.texts[3] == "is it"
    assert lists.counts == {"before": 5, "queries without feedback": 1}
    before = given.lists()
    assert replace(lists, queries=before.queries).fingerprint() == before.fingerprint()


def test_what_the_first_pass_found_is_kept(toy, given, monkeypatch):
    first = FeedbackTexts(given, toy, BM25(), ANCEPRF(Noting(), fb_docs=2)).lists()
    monkeypatch.setattr(BM25, "retrieve", None)
    again = FeedbackTexts(given, toy, BM25(), ANCEPRF(Noting(), fb_docs=2)).lists()
    assert again.fingerprint() == first.fingerprint() and again.counts == first.counts


def test_what_gives_no_feedback_texts_is_refused(toy, given):
    with pytest.raises(ValueError, match="Noting has no texts.. that an encoder could be trained on: use ance_prf"):
        FeedbackTexts(given, toy, BM25(), Noting())
    with pytest.raises(ValueError, match="depth is 2, and ANCEPRF reads 3 documents"):
        FeedbackTexts(given, toy, BM25(), ANCEPRF(Noting()), depth=2)
    with pytest.raises(ValueError, match="Noting retrieves nothing"):
        FeedbackTexts(given, toy, Noting(), ANCEPRF(Noting()))
