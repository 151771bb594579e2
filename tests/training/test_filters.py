"""Filters of synthetic pairs: values, and what every filter keeps to."""

from __future__ import annotations

import numpy as np
import pytest

from training.filters import Keep, Sieve, at_least, best, found_within, long_enough, once, threshold_of, unlike

TEXTS = ["a b", "a", "", "a b c", "A  b", "a b"]
SCORES = np.array([0.5, -1.0, 2.0, 0.5, -np.inf, 2.0])
RANKS = np.array([1, 0, 3, 30, 31, 2])
MONOTONE = [
    (long_enough, TEXTS, [3, 2, 1, 0]),
    (at_least, SCORES, [np.inf, 2, 0.5, -1, -np.inf]),
    (best, SCORES, [1, 2, 4, 6, 100]),
    (found_within, RANKS, [1, 2, 30, 1000]),
]


def picked(values, kept):
    return [value for value, keep in zip(values, kept, strict=True) if keep]


@pytest.mark.parametrize(("rule", "values", "looser"), MONOTONE)
def test_a_looser_value_keeps_all_that_a_stricter_one_kept_and_a_second_pass_drops_nothing(rule, values, looser):
    kept = [rule(values, value) for value in looser]
    assert all((strict <= loose).all() for strict, loose in zip(kept, kept[1:], strict=False))
    for value, one in zip(looser, kept, strict=True):
        left = picked(values, one)
        assert rule(np.array(left) if isinstance(values, np.ndarray) else left, value).all()


def test_which_are_kept():
    assert long_enough(TEXTS, 2).tolist() == [True, False, False, True, True, True]
    assert at_least(SCORES, 0.5).tolist() == [True, False, True, True, False, True]
    assert best(SCORES, 3).tolist() == [True, False, True, False, False, True]  # of equal ones the earlier
    assert found_within(RANKS, 30).tolist() == [True, False, True, True, False, True]
    assert once(TEXTS).tolist() == [True, True, True, True, True, False]
    assert unlike(TEXTS, [" a  B "]).tolist() == [False, True, True, True, False, False]


def test_no_threshold_keeps_all_and_an_infinite_one_none():
    assert at_least(SCORES, -np.inf).all() and not at_least(SCORES[:2], np.inf).any()


def test_a_percentile_is_a_threshold_of_the_scores():
    scores = np.array([4.0, 1.0, 3.0, 2.0])
    assert threshold_of(scores, 50) == 2.5
    assert Keep(percentile=50).by_score(scores)[1].tolist() == [True, False, True, False]
    assert Keep(percentile=0).by_score(scores)[1].all()


def test_a_sieve_counts_what_each_filter_drops_of_what_is_left_in_order():
    sieve = Sieve(6)
    sieve.keep("short", long_enough(sieve.of(TEXTS), 2))
    sieve.keep("twice", once(sieve.of(TEXTS)))
    sieve.keep(*Keep(best=2).by_score(SCORES[sieve.places]))
    assert sieve.finish().tolist() == [0, 3]
    assert sieve.dropped == {"short": 2, "twice": 1, "not among the 2 best": 1}


def test_where_nothing_is_left_the_error_says_which_filter_dropped_how_many():
    sieve = Sieve(6)
    sieve.keep("short", long_enough(sieve.of(TEXTS), 2))
    sieve.keep("empty", long_enough(sieve.of(TEXTS), 1))
    sieve.keep("scored below 9", at_least(SCORES[sieve.places], 9))
    with pytest.raises(ValueError, match=r"no query of 6 is left \(2 short, 4 scored below 9\)"):
        sieve.finish()


@pytest.mark.parametrize("wrong", [{"min_words": -1}, {"best": 0}, {"percentile": 101}, {"best": 1, "threshold": 0.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError):
        Keep(**wrong)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="1 of 2 scores of queries are NaN"):
        Keep(threshold=0).by_score(np.array([1.0, np.nan]))
