"""BM25PRF against worked values."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from prf.bm25prf import BM25PRF, relevance
from tests.prf.toy import D1, D2, feedback, queries

# in how many of ten feedback documents a word is, and in how many of a thousand: as the worked values have them
HELD = {"two": (2, 10), "three": (3, 10), "ten": (10, 10), "rare": (2, 100), "once": (1, 1), "2019": (9, 9)}
TEXTS = [" ".join(word for word, (r, _) in HELD.items() if i < r) for i in range(10)]
DF = {word: n for word, (_, n) in HELD.items()}
LIST = [(i, 10.0 - i) for i in range(10)]


def ones(terms):
    return np.ones(len(terms))


def weights(query, model=None, idf=ones, found=LIST, df=DF):
    return (model or BM25PRF()).reformulate(queries(query), feedback(TEXTS, found, df=df, idf=idf)).terms[0]


@pytest.mark.parametrize(
    ("r", "n", "weight", "offer"),
    [
        (2, 10, 0.705252, 0.488843),
        (3, 10, 0.822815, 0.903955),
        (10, 10, 2.127176, 4.898004),
        (2, 100, 0.196039, 0.135884),
    ],
)
def test_relevance_and_offer_are_the_worked_ones(r, n, weight, offer):
    assert 0.2 * relevance(r, 10, n, 1000) == pytest.approx(weight, abs=1e-6)
    assert 0.2 * relevance(r, 10, n, 1000) * math.log(r) == pytest.approx(offer, abs=1e-6)


def test_new_terms_have_the_worked_weights_and_terms_of_the_query_five_times_that():
    expected = {"ten": 5 * 2.127176, "two": 0.705252, "three": 0.822815, "rare": 0.196039}
    assert weights("ten") == pytest.approx(expected, abs=6e-6)
    assert weights("ten", BM25PRF(new_term_weight=1))["two"] == pytest.approx(5 * 0.705252, abs=6e-6)


def test_a_query_counts_each_term_once_and_keeps_those_that_no_document_holds():
    assert weights("ten ten") == weights("ten")
    absent = math.log(0.5 * (1000 - 1 - 10 + 0.5) / (1.5 * 10.5))
    assert weights("absent", df=DF | {"absent": 1})["absent"] == pytest.approx(absent)
    assert weights("absent", df=DF | {"absent": 200})["absent"] == pytest.approx(1e-6)  # its logarithm is negative


@pytest.mark.parametrize(("fb_terms", "kept"), [(1, {"ten"}), (2, {"ten", "three"}), (3, {"ten", "three", "two"})])
def test_the_new_terms_with_the_highest_offers_are_chosen(fb_terms, kept):
    assert set(weights("query", BM25PRF(fb_terms=fb_terms))) == {"query"} | kept


def test_no_new_terms_can_be_asked_for():
    assert set(weights("ten", BM25PRF(fb_terms=0))) == {"ten"}


def test_numbers_and_terms_of_one_document_are_not_new_terms_but_may_be_of_the_query():
    assert {"once", "2019"}.isdisjoint(weights("ten"))
    assert set(weights("once 2019")) == {"once", "2019", "ten", "two", "three", "rare"}


def test_weights_are_divided_by_the_idf_that_the_retriever_will_multiply_with():
    plain = weights("ten")
    lucene = weights("ten", idf=None)
    for term, weight in lucene.items():
        n = HELD[term][1]
        assert weight * math.log(1 + (1000 - n + 0.5) / (n + 0.5)) == pytest.approx(plain[term])


def test_a_term_that_the_retriever_gives_no_weight_is_left_out():
    assert set(weights("ten", idf=lambda terms: np.array([float(t != "two") for t in terms]))) == {
        "ten",
        "three",
        "rare",
    }
    assert weights("ten", idf=lambda terms: np.zeros(len(terms))) == {"ten": 1}


def test_the_depth_is_that_of_the_list_where_it_is_shorter():
    found = weights("ten", found=LIST[:3])
    assert found["three"] == pytest.approx(0.2 * math.log(3.5 * (1000 - 10 - 3 + 3.5) / (7.5 * 0.5)))
    assert found == weights("ten", BM25PRF(fb_docs=3))


def test_a_query_without_documents_keeps_its_terms():
    assert weights("ten ten", found=[]) == {"ten": 2}


def test_max_df_limits_new_terms_only():
    model = BM25PRF(max_df=0.05)
    assert set(weights("ten", model)) == {"ten", "two", "three"}
    assert set(weights("rare", model)) == {"rare", "ten", "two", "three"}


def test_documents_that_are_not_of_the_collection_count_as_if_they_were():
    generated = feedback([D1, D2], [(0, 2.0), (1, 1.0)], documents=2)
    none = replace(generated.statistics, frequencies=lambda terms: np.array([1] * len(terms)))
    (found,) = BM25PRF().reformulate(queries("date"), replace(generated, statistics=none)).terms
    assert set(found) == {"date", "apple", "banana"} and all(map(math.isfinite, found.values()))


def test_a_query_gets_the_same_terms_in_any_batch(monkeypatch):
    asked, lists = queries("ten", "two", "query"), [LIST, LIST[:4], []]
    together = BM25PRF().reformulate(asked, feedback(TEXTS, *lists, df=DF)).terms
    monkeypatch.setattr("prf._vectors.BLOCK", 10)  # one query at a time
    assert BM25PRF().reformulate(asked, feedback(TEXTS, *lists, df=DF)).terms == together


@pytest.mark.parametrize("wrong", [{"fb_terms": -1}, {"fb_docs": 0}, {"new_term_weight": 0}])
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BM25PRF(**wrong)
