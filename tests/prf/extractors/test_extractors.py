"""Extractors that need no model: first sentences, central sentences, words rare in the collection."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from prf.extractors.keywords import Keywords
from prf.extractors.lead import Lead
from prf.extractors.textrank import TextRank, pagerank, resemblance
from retrieval.corpus import Corpus
from retrieval.protocols import Extractor
from retrieval.registry import components, find
from retrieval.sentences import sentences

DOCUMENTS = [
    ("a", "Otter", "The otter swims. The otter eats crab."),
    ("b", "", "The otter's crab is a crab, a crab!"),
    ("c", "", "Otter comet."),
    ("d", "", "The of and."),
]


@pytest.fixture
def dataset(tmp_path):
    """A collection that counts how often it is opened."""
    corpus, opened = Corpus.build(DOCUMENTS, tmp_path / "corpus"), []

    def open_it():
        opened.append(1)
        return SimpleNamespace(corpus=corpus)

    return SimpleNamespace(open=open_it, opened=opened, corpus=corpus)


def test_recipes_find_them_by_their_files():
    assert {"generated", "keywords", "lead", "textrank"} <= {*components(Extractor)}
    assert [find(Extractor, name) for name in ("keywords", "lead", "textrank")] == [Keywords, Lead, TextRank]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three? four", ["One.", "Two!", "Three? four"]),
        ("See Fig. 2 by J. Smith et al. Nothing. Yes.", ["See Fig. 2 by J. Smith et al. Nothing.", "Yes."]),
        ('He said: "Stop." She did: 3.5 mg. 4 more.', ['He said: "Stop."', "She did: 3.5 mg.", "4 more."]),
        ("A title\n\nand  a\ttext", ["A title", "and a text"]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_sentences_end_where_punctuation_says_so(text, parts):
    assert sentences(text) == parts


def test_the_lead_is_the_first_sentences():
    assert Lead(2).extract(["One. Two. Three.", "Only", ""]) == ["One. Two.", "Only", ""]


def test_pagerank_is_the_fixed_point_of_its_equation():
    weights = np.random.default_rng(0).random((6, 6))
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    ranks = pagerank(weights)
    steps = weights / weights.sum(axis=1, keepdims=True)
    exact = np.linalg.solve(np.eye(6) - 0.85 * steps.T, np.full(6, 0.15 / 6))
    np.testing.assert_allclose(ranks, exact, atol=1e-9)
    np.testing.assert_allclose(pagerank(np.zeros((4, 4))), 0.25)


def test_sentences_resemble_by_shared_words_and_lengths():
    found = resemblance([{"a", "b", "c"}, {"b", "c"}, {"x"}, set()])
    expected = 2 / (math.log(3) + math.log(2))
    np.testing.assert_allclose(found[0], [0, expected, 0, 0])
    np.testing.assert_allclose(found, found.T)


def test_textrank_takes_the_sentences_that_others_resemble_in_the_order_of_the_text():
    text = "Stars shine. Otters eat river crabs. Otters swim river water. Otters love river crabs water. Noon passed."
    assert TextRank(1).extract([text]) == ["Otters love river crabs water."]
    assert TextRank(2).extract([text, "One. Two."])[1] == "One. Two."
    three = TextRank(3).extract([text])[0]
    assert three == "Otters eat river crabs. Otters swim river water. Otters love river crabs water."
    assert TextRank(1).extract(["The of. And it. To be."]) == ["The of."]  # nothing to tell them apart: the first


def test_keywords_weigh_frequency_in_the_text_against_that_in_the_collection(dataset):
    # df: otter 3, crab 2, swims 1, eats 1, comet 1; N = 4
    weights = {"crab": 3 * math.log(4 / 2), "otter": math.log(4 / 3)}
    assert sorted(weights, key=weights.get) == ["otter", "crab"]
    assert Keywords(dataset).extract([DOCUMENTS[1][2], "comet otter otter", "", "The of and."]) == [
        "crab, otter",
        "comet, otter",  # ln 4 against 2 ln 4/3
        "",
        "",
    ]


def test_equal_keywords_come_in_alphabetical_order_and_no_more_than_wanted(dataset):
    assert Keywords(dataset, count=2).extract(["zebra swims eats"]) == ["eats, swims"]


def test_a_word_of_every_document_is_no_keyword(tmp_path):
    corpus = Corpus.build([("a", "", "otter sea"), ("b", "", "otter")], tmp_path / "corpus")
    dataset = SimpleNamespace(open=lambda: SimpleNamespace(corpus=corpus))
    assert Keywords(dataset).extract(["otter sea"]) == ["sea"]


def test_the_collection_is_read_once_and_stands_in_the_contract(dataset):
    one = Keywords(dataset)
    assert not dataset.opened
    one.extract(["otter"]), one.extract(["comet"])
    assert one.contract() == {"extractor": "keywords", "count": 10, "collection": dataset.corpus.fingerprint}
    assert len(dataset.opened) == 1


def test_counts_below_one_are_refused(dataset):
    for make in (lambda: Lead(0), lambda: TextRank(0)):
        with pytest.raises(ValueError, match="sentences is 0; it is at least 1"):
            make()
    with pytest.raises(ValueError, match="count is 0"):
        Keywords(dataset, count=0)
