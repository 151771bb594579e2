"""Agreement of judges: published worked values, scikit-learn, scipy, and the definitions spelt out pair by pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.agreement import agreement, cohen_kappa, confusion, kendall_tau, krippendorff_alpha
from retrieval.types import Qrels

NONE = np.nan
FOUR_CODERS = np.array(  # Krippendorff (2011), "Computing Krippendorff's alpha-reliability", section C and D
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
        [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
    ]
)
grades = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("level", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_alpha_of_four_coders_is_the_published_one(level, value):
    assert round(krippendorff_alpha(FOUR_CODERS, level), 3) == value


def test_alpha_of_two_coders_of_binary_data_is_the_published_one():
    meg = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]  # Krippendorff (2011), section A
    owen = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    for level in ("nominal", "ordinal", "interval"):  # of two values all are the same
        assert round(krippendorff_alpha(np.array([meg, owen], float), level), 3) == 0.095


def apart(level, a, b, every):
    """The squared distance of two ratings; `every` are all pairable ones."""
    if level == "ordinal":
        low, high = sorted((a, b))
        between = sum(low <= one <= high for one in every)
        return (between - (every.count(a) + every.count(b)) / 2) ** 2 if a != b else 0
    return {"nominal": float(a != b), "interval": (a - b) ** 2, "ratio": ((a - b) / (a + b)) ** 2 if a + b else 0}[
        level
    ]


def alpha_by_pairs(ratings, level):
    """1 - mean distance within units / mean distance of all ratings, every ordered pair counted as defined."""
    units = [[one for one in unit if not np.isnan(one)] for unit in ratings.T.tolist()]
    units = [unit for unit in units if len(unit) > 1]
    every = [one for unit in units for one in unit]
    within = sum(
        sum(apart(level, a, b, every) for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units
    )
    overall = sum(apart(level, a, b, every) for a, b in itertools.permutations(every, 2))
    return None if not overall else 1 - (within / len(every)) / (overall / (len(every) * (len(every) - 1)))


@given(
    st.lists(st.lists(st.sampled_from([0, 1, 2, 3, NONE]), min_size=3, max_size=3), min_size=1, max_size=8),
    st.sampled_from(["nominal", "ordinal", "interval", "ratio"]),
)
@settings(deadline=None)
def test_alpha_is_that_of_every_pair_counted(units, level):
    ratings = np.array(units, float).T
    if ((~np.isnan(ratings)).sum(axis=0) < 2).all():
        with pytest.raises(ValueError, match="units was judged by two or more"):
            krippendorff_alpha(ratings, level)
        return
    assert krippendorff_alpha(ratings, level) == pytest.approx(alpha_by_pairs(ratings, level), abs=1e-12)


@given(grades, st.sampled_from([None, "linear", "quadratic"]))
@settings(deadline=None)
def test_kappa_is_that_of_scikit_learn(pairs, weights):
    sklearn = pytest.importorskip("sklearn.metrics")
    a, b = np.array(pairs).T
    if len({*a, *b}) == 1:
        assert cohen_kappa(a, b, weights) is None
        return
    expected = sklearn.cohen_kappa_score(a, b, labels=[0, 1, 2, 3], weights=weights)
    assert cohen_kappa(a, b, weights) == pytest.approx(expected, abs=1e-12)


def test_kappa_of_fifty_proposals_is_the_textbook_one():
    a = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])  # 20 both yes, 5 and 10 one yes, 15 both no: 0.7 seen, 0.5 expected
    b = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert cohen_kappa(a, b) == pytest.approx(0.4)


def test_confusion_counts_rows_of_the_first():
    assert confusion(np.array([0, 3, 3]), np.array([3, 3, 0])).tolist() == [[0, 1], [1, 1]]


@given(grades)
@settings(deadline=None)
def test_a_judge_agrees_with_itself_entirely(pairs):
    own = Qrels.from_dict({"q": {f"d{i}": a for i, (a, _) in enumerate(pairs)}})
    found = agreement(own, own)
    one = len({a for a, _ in pairs}) == 1
    assert found.kappa == found.kappa_quadratic == (None if one else 1)
    assert {*found.alpha.values()} == {None if one else 1.0}
    assert found.confusion.trace() == found.pairs == len(pairs)


def test_only_pairs_that_both_judged_are_compared_and_the_others_counted():
    people = Qrels.from_dict({"p": {"a": 1, "b": 0, "c": 1}, "q": {"a": 0}})
    model = Qrels.from_dict({"q": {"a": 1, "b": 3}, "p": {"b": 0, "a": 3}})
    found = agreement(people, model, relevant=(1, 2))
    assert (found.pairs, found.only_first, found.only_second) == (3, 1, 1)
    assert found.grades == [0, 1, 3]
    assert found.confusion.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert found.kappa_binary == 1  # a: 1 and 3; b: 0 and 0; q's a: 0 and 1, which is below 2
    assert found.to_dict()["confusion (rows: people)"] == found.confusion.tolist()


def test_agreement_over_no_shared_pair_is_refused_with_counts():
    people, model = Qrels.from_dict({"q": {"a": 1}}), Qrels.from_dict({"q": {"b": 1, "c": 0}})
    with pytest.raises(
        ValueError, match="judged by both: 1 by one, 2 by the other; judge the pairs of the human qrels"
    ):
        agreement(people, model)


def test_tau_of_system_orders_is_counted_by_pairs():
    first, second = [0.1, 0.2, 0.3, 0.4], [0.5, 0.4, 0.6, 0.7]
    signs = [np.sign((first[i] - first[j]) * (second[i] - second[j])) for i, j in itertools.combinations(range(4), 2)]
    assert kendall_tau(first, second) == pytest.approx(sum(signs) / 6)
    assert kendall_tau(first, first) == pytest.approx(1) and kendall_tau(first, first[::-1]) == pytest.approx(-1)


def test_tau_of_one_system_or_of_ties_alone_is_none():
    assert kendall_tau([0.5], [0.5]) is None and kendall_tau([0.5, 0.5], [0.1, 0.2]) is None
