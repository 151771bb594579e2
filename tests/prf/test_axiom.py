"""Axiomatic expansion against a case checked by hand and against sets, and its random documents."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from prf.axiom import Axiom
from tests.prf.toy import feedback, queries

SKY = ["sun moon", "sun moon", "sun", "star"]


def first(count):
    return [(i, float(count - i)) for i in range(count)]


def expanded(model, query, texts, *found, **kwargs):
    return model.reformulate(queries(query), feedback(texts, *found, **kwargs)).terms[0]


def test_the_case_by_hand_comes_out():
    sun = math.log(1001 // 3)
    moon = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)  # both; sun alone; neither
    own = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    star = own  # where sun is, star is not
    expected = {"sun": sun, "moon": 0.4 * moon / own * sun, "star": 0.4 * star / own * sun}
    assert expanded(Axiom(n=1), "sun", SKY, first(4)) == pytest.approx(expected)
    assert moon == pytest.approx(0.215762, abs=1e-6) and own == pytest.approx(0.562335, abs=1e-6)


def test_weights_are_the_mean_over_the_words_of_the_query():
    alone = expanded(Axiom(n=1), "sun", SKY, first(4))
    assert expanded(Axiom(n=1), "sun unknown", SKY, first(4)) == pytest.approx({t: w / 2 for t, w in alone.items()})
    assert expanded(Axiom(n=1), "sun sun", SKY, first(4)) == pytest.approx(alone)


def by_sets(query, pool, df, documents, beta, top):
    """The same by sets of documents, term by term."""
    holds = {term: {i for i, text in enumerate(pool) if term in text.split()} for text in pool for term in text.split()}
    n = len(pool)

    def information(s, t):
        summed = 0.0
        for inside in (True, False):
            for beside in (True, False):
                one = {i for i in range(n) if (i in holds[s]) == inside}
                other = {i for i in range(n) if (i in holds[t]) == beside}
                if both := len(one & other):
                    summed += both / n * math.log(both / n / (len(one) / n * len(other) / n))
        return summed

    scores = dict.fromkeys(holds, 0.0)
    for s in query.split():
        for t in holds:
            part = 1 if s == t else beta * information(s, t) / information(s, s)
            scores[t] += math.log((documents + 1) // df[s]) * part / len(query.split())
    return dict(sorted(scores.items(), key=lambda item: (-round(item[1], 12), item[0]))[:top])


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_those_of_a_count_by_sets(seed):
    chosen = random.Random(seed)
    words = ["aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh", "ii", "jj"]
    texts = [" ".join(chosen.sample(words, chosen.randint(1, 5))) for _ in range(20)] + ["aa bb cc", "dd"]
    df = {word: 20 + 3 * i for i, word in enumerate(words)}
    found = expanded(Axiom(fb_terms=6, fb_docs=22, n=1, beta=0.7), "aa bb bb cc", texts, first(22), df=df)
    assert found == pytest.approx(by_sets("aa bb bb cc", texts, df, 1000, 0.7, 6))
    assert len(found) == 6


def test_terms_other_than_lower_case_letters_are_neither_kept_nor_added():
    texts = ["sun 2019 x caf\u00e9 moon", "star", "sun 3d"]
    assert set(expanded(Axiom(n=1), "sun 2019", texts, first(3))) == {"sun", "moon", "star"}


def test_documents_without_words_are_not_of_the_pool():
    assert expanded(Axiom(n=1), "sun", [*SKY, "2019"], first(5)) == expanded(Axiom(n=1), "sun", SKY, first(4))


def test_a_term_in_every_document_of_the_pool_brings_no_other():
    assert expanded(Axiom(n=1), "sun", ["sun moon", "sun star"], first(2)) == pytest.approx(
        {"sun": math.log(1001 // 2)}
    )


def test_each_term_of_the_query_brings_its_best_terms_only(monkeypatch):
    monkeypatch.setattr("prf.axiom.PER_TERM", 2)
    assert set(expanded(Axiom(n=1), "sun", SKY, first(4))) == {"sun", "star"}  # star is closer than moon


@pytest.mark.parametrize(("query", "documents"), [("unknown", 1000), ("2019", 1000), ("sun", 4)])
def test_a_query_that_nothing_can_be_said_of_stays_as_it_is(query, documents):
    assert expanded(Axiom(n=1), query, SKY, first(4), documents=documents) == {query: 1}


def test_a_query_without_documents_stays_as_it_is():
    assert expanded(Axiom(), "sun sun", SKY, []) == {"sun": 2}


def pools(model, ids, lists, documents=2000):
    """The rows that are fetched for each query, asked for one by one."""
    found = feedback(["word"] * documents, *lists, documents=documents)
    fetched = []
    for i, query in enumerate(ids):
        one = replace(found.run, query_ids=[query], rows=found.run.rows[i : i + 1], scores=found.run.scores[i : i + 1])
        spied = replace(found, run=one, terms=lambda rows: fetched.append(rows.tolist()) or found.terms(rows))
        model.reformulate(replace(queries("word"), ids=[query]), spied)
    return fetched


def test_the_pool_is_the_first_documents_and_others_drawn_from_the_collection():
    (pool,) = pools(Axiom(fb_docs=3, n=30), ["q0"], [[(0, 5.0), (1999, 4.0), (7, 3.0), (8, 2.0)]])
    assert len(pool) == len(set(pool)) == 90 and {0, 7, 1999} <= set(pool)
    assert 600 < np.mean([row for row in pool if row not in (0, 7, 1999)]) < 1400
    assert pools(Axiom(fb_docs=3, n=30), ["q0"], [[(5, 1.0)]], documents=50) == [list(range(50))]
    assert pools(Axiom(fb_docs=3, n=1), ["q0"], [[(5, 1.0)]]) == [[5]]


def test_every_document_can_be_drawn_and_none_twice():
    drawn = [
        pool
        for seed in range(30)
        for pool in pools(Axiom(fb_docs=2, n=3, seed=seed), ["q"], [[(4, 2.0), (2, 1.0)]], 10)
    ]
    assert all(len(set(pool)) == 6 and {2, 4} <= set(pool) for pool in drawn)
    assert set().union(*drawn) == set(range(10))


def test_what_is_drawn_depends_on_seed_and_query_alone():
    lists = [[(3, 1.0)], [(3, 1.0)]]
    one, other = pools(Axiom(), ["a", "b"], lists)
    assert one != other
    assert pools(Axiom(), ["b", "a"], lists) == [other, one]
    assert pools(Axiom(seed=1), ["a"], lists[:1]) != [one]


def test_a_query_gets_the_same_terms_in_any_batch(monkeypatch):
    chosen = random.Random(0)
    words = [a + b for a in "abcdef" for b in "abcdef"]
    texts = [" ".join(chosen.sample(words, 6)) for _ in range(300)]
    asked, lists = queries("aa bb", "cc", "dd ee"), [first(10), [(200, 1.0)], first(30)]
    model = Axiom(fb_docs=5, n=10)
    together = model.reformulate(asked, feedback(texts, *lists)).terms
    assert together[0] != together[2] and len(together[0]) == 20
    monkeypatch.setattr("prf._vectors.BLOCK", 1)
    assert model.reformulate(asked, feedback(texts, *lists)).terms == together


@pytest.mark.parametrize("wrong", [{"fb_terms": 0}, {"fb_docs": 0}, {"n": 0}, {"beta": -1}])
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Axiom(**wrong)
