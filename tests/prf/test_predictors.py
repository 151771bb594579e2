"""Predictions of how good a first pass is, against sums in plain Python over whole vocabularies."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from prf.predictors.clarity import Clarity
from prf.predictors.dense_coherence import DenseCoherence
from prf.predictors.nqc import NQC
from prf.predictors.score import Score
from prf.predictors.wig import WIG
from retrieval.protocols import Predictor
from retrieval.registry import find
from retrieval.types import Queries
from tests.prf.toy import D1, D2, feedback, queries

EVERY = {"clarity": Clarity, "nqc": NQC, "wig": WIG, "score": Score, "dense_coherence": DenseCoherence}
TEXTS = [D1, D2, "fig grape apple", "banana", "grape grape fig date"]
ASKED = queries("apple banana", "fig fig", "cherry", "kiwi")
FOUND = [[(0, 8.0), (1, 5.0), (3, 2.0)], [(4, 3.0), (2, 1.0)], [(0, 4.0)], []]
VECTORS = np.array([[1, 0], [1, 1], [0, 0], [-1, 2], [3, 0.5]], np.float32)


def first_pass():
    """The toy feedback with the shares of terms and vectors."""
    found = feedback(TEXTS, *FOUND)
    collection = Counter(word for text in TEXTS for word in text.split())
    shares = lambda terms: np.array([collection[term] / collection.total() for term in terms])  # noqa: E731
    return replace(found, statistics=replace(found.statistics, shares=shares), vectors=lambda rows: VECTORS[rows])


def clarity(query, texts, weight):
    """Term by term over the whole vocabulary, as the paper writes it."""
    words = [word for text in TEXTS for word in text.split()]
    of = {word: words.count(word) / len(words) for word in words}
    bags = [text.split() for text in texts]

    def p(word, bag):
        return weight * bag.count(word) / len(bag) + (1 - weight) * of[word]

    likelihood = [math.prod(p(word, bag) for word in query.split()) for bag in bags]
    model = {
        word: sum(one / sum(likelihood) * p(word, bag) for one, bag in zip(likelihood, bags, strict=True))
        for word in of
    }
    assert sum(model.values()) == pytest.approx(1)
    return sum(share * math.log2(share / of[word]) for word, share in model.items())


@pytest.mark.parametrize("name", EVERY)
def test_a_recipe_finds_it_by_its_file(name):
    assert find(Predictor, name) is EVERY[name]


@pytest.mark.parametrize("weight", [0.6, 0.2])
def test_clarity_is_the_sum_over_the_vocabulary(weight):
    predicted = Clarity(weight=weight).predict(ASKED, first_pass())
    expected = [
        clarity(text, [TEXTS[row] for row, _ in found], weight)
        for text, found in zip(ASKED.texts, FOUND[:3], strict=False)
    ]
    assert predicted[:3] == pytest.approx(expected, rel=1e-12)


def test_clarity_reads_the_first_documents_only():
    assert Clarity(fb_docs=1).predict(ASKED, first_pass())[0] == pytest.approx(clarity("apple banana", [D1], 0.6))


def test_a_query_term_that_the_collection_lacks_changes_no_clarity():
    asked = replace(ASKED, terms=[{**one, "unheard": 2} for one in ASKED.terms])
    assert Clarity().predict(asked, first_pass()).tolist() == Clarity().predict(ASKED, first_pass()).tolist()


def test_clarity_is_the_same_in_any_batch(monkeypatch):
    together = Clarity().predict(ASKED, first_pass())
    monkeypatch.setattr("prf._vectors.BLOCK", 2)  # one query at a time
    assert Clarity().predict(ASKED, first_pass()) == pytest.approx(together, rel=1e-12)


def test_clarity_without_the_shares_of_terms_says_where_they_come_from():
    with pytest.raises(ValueError, match="Clarity needs the shares of terms in the collection.* bm25"):
        Clarity().predict(ASKED, feedback(TEXTS, *FOUND))


def test_nqc_is_the_deviation_of_the_top_over_the_mean_of_all():
    predicted = NQC(k=2).predict(ASKED, first_pass())
    assert predicted[:2].tolist() == pytest.approx([1.5 / 5, 1 / 2])
    assert predicted[2] == -np.inf  # one document deviates from nothing


def test_wig_is_the_gain_of_the_top_over_the_mean_of_all_by_the_length_of_the_query():
    predicted = WIG(k=1).predict(ASKED, first_pass())
    assert predicted[:2].tolist() == pytest.approx([(8 - 5) / math.sqrt(2), (3 - 2) / math.sqrt(2)])


def test_wig_of_a_list_no_longer_than_k_is_that_of_nothing_found():
    assert np.isneginf(WIG(k=1).predict(ASKED, first_pass())).tolist() == [False, False, True, True]
    assert np.isneginf(WIG(k=2).predict(ASKED, first_pass())).tolist() == [False, True, True, True]


def test_wig_of_a_first_pass_no_deeper_than_k_is_refused():
    with pytest.raises(ValueError, match="WIG compares the first 3 documents with the whole first pass, which has 3"):
        WIG(k=3).predict(ASKED, first_pass())


def test_score_is_the_first_or_the_gap_below_it():
    assert Score().predict(ASKED, first_pass())[:3].tolist() == [8, 3, 4]
    assert Score(gap_to=2).predict(ASKED, first_pass())[:3].tolist() == [3, 2, -np.inf]


def test_dense_coherence_is_the_mean_cosine_of_all_pairs():
    def cosine(a, b):
        norms = np.linalg.norm(VECTORS[a].astype(float)) * np.linalg.norm(VECTORS[b].astype(float))
        return VECTORS[a].astype(float) @ VECTORS[b] / norms if norms else 0.0

    predicted = DenseCoherence().predict(ASKED, first_pass())
    pairs = [(0, 1), (0, 3), (1, 3)]
    assert predicted[:2].tolist() == pytest.approx([sum(cosine(*pair) for pair in pairs) / 3, cosine(4, 2)])
    assert DenseCoherence(k=2).predict(ASKED, first_pass())[0] == pytest.approx(cosine(0, 1))
    assert predicted[2] == -np.inf  # one document makes no pair


def test_dense_coherence_without_vectors_says_what_gives_them():
    with pytest.raises(ValueError, match="needs the vectors of documents: name a dense retriever"):
        DenseCoherence().predict(ASKED, feedback(TEXTS, *FOUND))


@pytest.mark.parametrize("predictor", [Clarity(), NQC(), WIG(k=1), Score(), Score(gap_to=5), DenseCoherence()])
def test_a_query_that_finds_nothing_is_predicted_below_all(predictor):
    predicted = predictor.predict(ASKED, first_pass())
    assert predicted.dtype == np.float64 and predicted[3] == -np.inf and np.isfinite(predicted[:2]).all()


@pytest.mark.parametrize("predictor", [Clarity(), NQC(), WIG(k=1), Score(), DenseCoherence()])
def test_no_first_pass_or_another_is_refused_and_no_query_is_fine(predictor):
    with pytest.raises(ValueError, match=type(predictor).__name__):
        predictor.predict(ASKED, None)
    with pytest.raises(ValueError, match=type(predictor).__name__):
        predictor.predict(replace(ASKED, ids=["a", "b", "c", "d"]), first_pass())
    none = replace(
        first_pass(),
        run=replace(
            first_pass().run, query_ids=[], rows=np.zeros((0, 3), np.int32), scores=np.zeros((0, 3), np.float32)
        ),
    )
    assert predictor.predict(Queries([], [], terms=[]), none).shape == (0,)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Clarity(0),
        lambda: Clarity(weight=1),
        lambda: NQC(1),
        lambda: WIG(0),
        lambda: Score(1),
        lambda: DenseCoherence(1),
    ],
)
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="at least|within|a pair is of 2"):
        wrong()
