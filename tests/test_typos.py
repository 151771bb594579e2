"""Typos in texts, queries and collections."""

from __future__ import annotations

import re

import numpy as np
import pytest

from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.datasets.typos import Typos
from retrieval.types import Queries
from retrieval.typos import KINDS, NEIGHBOURS, misspelt, with_typos

TEXT = "Does Vitamin supplementation help children with asthma between 2006 and IL6therapy or the coöperation?"
WORDS = ["Vitamin", "supplementation", "help", "children", "asthma"]  # no function words, short or mixed ones


def many(text, kinds, rate=0.1, times=300):
    return [with_typos(text, np.random.default_rng(seed), rate, kinds) for seed in range(times)]


def differing(text, other):
    """The words of a text that another has not at their place."""
    pairs = zip(re.split(r"\b", text), re.split(r"\b", other), strict=True)
    return [(old, new) for old, new in pairs if old != new]


def distance(a, b):
    """Edits between two words, exchanging neighbours being one (Damerau), by the table of all beginnings."""
    table = np.add.outer(np.arange(len(a) + 1), np.arange(len(b) + 1))
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            best = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                best = min(best, table[i - 2, j - 2] + 1)
            table[i, j] = best
    return table[-1, -1]


# ---- texts ---------------------------------------------------------------------------------------------------------


def test_one_word_of_content_gets_one_typo_and_every_such_word_may():
    found = [differing(TEXT, other) for other in many(TEXT, KINDS)]
    assert {len(one) for one in found} == {1}
    assert {one[0][0] for one in found} == set(WORDS)
    assert {distance(*one[0]) for one in found} == {1}


@pytest.mark.parametrize(("rate", "count"), [(0.01, 1), (0.4, 2), (0.6, 3), (1.0, 5)])
def test_the_rate_is_of_the_words_that_may_be_misspelt(rate, count):
    assert {len(differing(TEXT, other)) for other in many(TEXT, KINDS, rate, 20)} == {count}


def test_each_kind_does_what_its_name_says():
    word = "Asthmatic"
    made = {kind: set(many(word, [kind], times=1000)) for kind in KINDS}
    swaps = {word[:at] + word[at + 1] + word[at] + word[at + 2 :] for at in range(8)}
    assert made["swap"] == swaps
    assert made["deletion"] == {word[:at] + word[at + 1 :] for at in range(9)}
    assert {len(one) for one in made["insertion"]} == {10}
    assert all(any(one[:at] + one[at + 1 :] == word for at in range(10)) for one in made["insertion"])
    for kind in ("substitution", "keyboard"):
        places = [[at for at in range(9) if one[at] != word[at]] for one in made[kind]]
        assert {len(one) for one in places} == {1} and {one[0] for one in places} == set(range(9))
    beside = [(one, at) for one in made["keyboard"] for at in range(9) if one[at] != word[at]]
    assert {one[at].lower() for one, at in beside if at == 0} == {"q", "w", "s", "z"}  # around a
    assert all(one[at].isupper() == (at == 0) for one, at in beside)


def test_keys_lie_beside_each_other():
    assert set(NEIGHBOURS) == set("abcdefghijklmnopqrstuvwxyz")
    assert set(NEIGHBOURS["g"]) == set("ftyhbv") and set(NEIGHBOURS["p"]) == set("ol") and NEIGHBOURS["q"] == "wa"
    assert all(one in NEIGHBOURS[other] for one, others in NEIGHBOURS.items() for other in others)


def test_a_word_of_one_letter_loses_its_last_where_neighbours_are_exchanged():
    assert set(many("zzzz", ["swap"], times=5)) == {"zzz"}


@pytest.mark.parametrize("text", ["", "what is it", "IL6x COX2 1,25(OH)2D3", "за́мок Ångström"])
def test_a_text_without_a_word_to_misspell_stays(text):
    assert set(many(text, KINDS, 1.0, 5)) == {text}


# ---- queries and collections ---------------------------------------------------------------------------------------


def test_the_typos_of_a_query_depend_on_no_other_query():
    names = [f"q{number}" for number in range(40)]
    queries = Queries(names, [TEXT] * 40)
    all_, changed = misspelt(queries, seed=3)
    some, _ = misspelt(queries.take([7, 30]), seed=3)
    assert changed.all() and some.texts == [all_.texts[7], all_.texts[30]]
    assert len(set(all_.texts)) > 20  # and they are not all the same
    assert misspelt(queries, seed=4)[0].texts != all_.texts
    half, changed = misspelt(queries, seed=3, share=0.5)
    assert 10 < changed.sum() < 30
    assert [new == TEXT for new in half.texts] == (~changed).tolist()


@pytest.fixture
def toy(tmp_path):
    documents = [("d1", "a", "the aurora borealis"), ("d2", "", "bicycles")]
    queries = {"q1": "aurora borealis colours", "q2": "bicycle repairing", "q3": "is it so", "unjudged": "nothing"}
    qrels = {"train": {"q1": {"d1": 1}, "q3": {"d2": 1}}, "test": {"q2": {"d2": 2}, "q1": {"d1": 1}}}
    write_collection(tmp_path / "toy", documents, queries, qrels)
    return Folder(str(tmp_path / "toy"))


def test_a_collection_is_the_same_but_for_its_queries(toy):
    clean, found = toy.open(), Typos(toy).open()
    assert found.name == "toy with typos"
    assert found.splits() == clean.splits() and found.corpus.folder == clean.corpus.folder
    assert found.qrels("test").to_dict() == clean.qrels("test").to_dict()
    before, after = clean.queries("test"), found.queries("test")
    assert after.ids == before.ids
    assert all(len(differing(*pair)) == 1 for pair in zip(before.texts, after.texts, strict=True))
    assert after.texts == misspelt(before, 0)[0].texts
    assert found.queries("train").texts == [after.texts[after.ids.index("q1")], "is it so"]
    assert [document.id for document in Folder(str(found.folder)).open().corpus] == ["d1", "d2"]  # a whole folder
    assert Typos(toy).open().folder == found.folder != Typos(toy, seed=1).open().folder


def test_only_the_chosen_splits_are_misspelt(toy):
    found = Typos(toy, splits=["test"], kinds=["swap"]).open()
    assert found.queries("train").texts[1] == "is it so"
    assert found.queries("test").texts != toy.open().queries("test").texts
    with pytest.raises(ValueError, match="no split 'dev'"):
        Typos(toy, splits=["dev"]).open()


def test_a_changed_collection_is_made_anew(toy):
    first = Typos(toy).open()
    path = toy.open().folder / "queries.jsonl"
    path.write_text(path.read_text().replace("repairing", "mending"))
    again = Typos(toy).open()
    assert again.folder != first.folder
    assert differing("bicycle mending", again.queries("test").texts[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0}, "rate is 0; it is the share of words that are misspelt, above 0"),
        ({"rate": 1.5}, "rate is 1.5"),
        ({"kinds": ["swop"]}, "no kind of typo 'swop': choose from swap, deletion"),
        ({"kinds": []}, "kinds is empty: choose from swap"),
    ],
)
def test_typos_that_cannot_be_are_refused(toy, settings, message):
    with pytest.raises(ValueError, match=message):
        Typos(toy, **settings)
