"""Paired tests against the textbook's formula, scipy and statsmodels."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from eval.measures import Evaluation
from eval.significance import (
    CORRECTIONS,
    corrected,
    correction,
    effect_size,
    gaps,
    holm,
    paired_t,
    resolvable,
    resolvable_effect,
)


def scored(values, queries=None):
    values = np.array(values, np.float64)
    return Evaluation(tuple(queries or (f"q{number}" for number in range(len(values)))), {"RR": values}, {})


def test_the_figures_are_those_of_the_formula():
    a, b = [0.5, 0.75, 1.0, 0.25, 0.5], [0.25, 0.5, 0.25, 0.5, 0.5]
    gaps = [0.25, 0.25, 0.75, -0.25, 0.0]
    error = math.sqrt(sum((gap - 0.2) ** 2 for gap in gaps) / 4 / 5)
    test = paired_t(scored(a), scored(b), "RR")
    assert (test.n, test.wins, test.ties, test.losses, test.untested) == (5, 3, 1, 1, None)
    assert test.difference == pytest.approx(0.2) and test.t == pytest.approx(0.2 / error)
    assert test.interval == pytest.approx((0.2 - 2.776445105 * error, 0.2 + 2.776445105 * error))  # t table, 4 df
    part = test.t / math.sqrt(1 + test.t**2 / 4)  # the distribution function in closed form, 4 degrees of freedom
    assert test.p == pytest.approx(2 * (0.5 - 3 / 8 * part * (1 - part**2 / 12)))


def test_the_other_way_round_changes_only_the_sign():
    a, b = scored([0.5, 0.75, 1.0]), scored([0.25, 0.5, 1.0])
    there, back = paired_t(a, b, "RR"), paired_t(b, a, "RR")
    assert (there.difference, there.t, there.p, there.wins) == (-back.difference, -back.t, back.p, back.losses)


def test_queries_are_aligned_by_id():
    test = paired_t(scored([0.1, 0.2, 0.4], ["x", "y", "z"]), scored([0.4, 0.1, 0.2], ["z", "x", "y"]), "RR")
    assert (test.ties, test.difference) == (3, 0)


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([0.5], [0.25], "a single query"),
        ([0.5, 0.1], [0.5, 0.1], "no query differs"),
        ([0.3, 0.4, 0.5], [0.1, 0.2, 0.3], "every query differs by the same"),  # but for rounding
    ],
)
def test_where_there_is_nothing_to_test_it_is_said(a, b, reason):
    test = paired_t(scored(a), scored(b), "RR")
    assert (test.untested, test.t, test.p, test.interval) == (reason, None, None, None)
    assert (test.effect, test.resolvable) == (None, None)
    assert reason in str(test) and "nan" not in json.dumps(test.to_dict())


def test_rounding_is_neither_won_nor_lost():
    test = paired_t(scored([0.1 + 0.2, 0.5, 0.5]), scored([0.3, 0.25, 0.75]), "RR")
    assert (test.wins, test.ties, test.losses) == (1, 1, 1)


def test_different_queries_are_refused_with_counts():
    with pytest.raises(ValueError, match="1 only in the first, 2 only in the second, 1 in both"):
        paired_t(scored([1, 1], ["a", "b"]), scored([1, 1, 1], ["b", "c", "d"]), "RR")


def test_a_measure_that_was_not_evaluated_is_refused():
    with pytest.raises(ValueError, match="'AP' was not evaluated, only RR"):
        paired_t(scored([1, 1]), scored([1, 0]), "AP")


def test_it_reads_as_one_line():
    test = paired_t(scored([0.5, 0.75, 1.0]), scored([0.25, 0.5, 1.0]), "RR")
    assert str(test) == "+0.1667 (95% -0.1919 to +0.5252, t = 2.00, p = 0.18; 2 wins, 1 ties, 0 losses over 3 queries)"


def test_p_values_of_a_family_are_adjusted_by_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # statsmodels' multipletests
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == [] and holm([0.2]) == [0.2]


def test_it_is_scipys_paired_t_test():
    rng = np.random.default_rng(7)
    a, b = rng.random(97), rng.random(97)
    test, theirs = paired_t(scored(a), scored(b), "RR"), stats.ttest_rel(a, b)
    assert (test.t, test.p) == pytest.approx((theirs.statistic, theirs.pvalue), abs=1e-10)
    assert test.interval == pytest.approx(tuple(theirs.confidence_interval(0.95)), abs=1e-10)
    assert test.effect == pytest.approx(test.t / math.sqrt(97), abs=1e-10)  # d_z is t by the root of n


def test_the_effect_is_measured_in_standard_deviations_of_the_differences():
    assert effect_size(np.array([0.25, 0.5, 0.75])) == 2


@pytest.mark.parametrize(
    (
        "n",
        "alpha",
        "power",
    ),  # where statsmodels' own power is a number: it is NaN for a lower tail that is all but empty
    [*((n, 0.05, 0.8) for n in (2, 3, 5, 43, 54, 300, 6980)), (3, 0.1, 0.95), (43, 0.01, 0.95), (300, 0.01, 0.95)],
)
def test_statsmodels_finds_what_can_be_resolved_as_often_as_asked(n, alpha, power):
    effect = resolvable_effect(n, alpha, power)
    assert TTestPower().power(effect, n, alpha) == pytest.approx(power, abs=1e-10)


def test_a_resolvable_difference_is_found_four_times_in_five():
    between = np.random.default_rng(1).normal(0, 0.2, 43)
    shift, rng = resolvable(between), np.random.default_rng(2)
    samples = rng.normal(shift, between.std(ddof=1), (20_000, 43))
    found = np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05)
    assert abs(found - 0.8) < 4 * math.sqrt(0.8 * 0.2 / 20_000)


@pytest.mark.parametrize(("n", "alpha", "power"), [(1, 0.05, 0.8), (10, 0.5, 0.4), (10, 0.0, 0.8), (10, 0.05, 1.0)])
def test_what_cannot_be_resolved_is_refused(n, alpha, power):
    with pytest.raises(ValueError, match=f"n is {n}, alpha {alpha}, power {power}"):
        resolvable_effect(n, alpha, power)


@pytest.mark.parametrize("tests", [1, 7, 30])
@pytest.mark.parametrize(
    ("name", "theirs"), [("holm", "holm"), ("bonferroni", "bonferroni"), ("benjamini-hochberg", "fdr_bh")]
)
def test_corrections_are_those_of_statsmodels(name, theirs, tests):
    p = np.random.default_rng(tests).integers(0, 12, tests) / 100  # with ties, and with zeros
    assert CORRECTIONS[name](p) == pytest.approx(multipletests(p, method=theirs)[1], abs=1e-10)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_a_family_of_none_and_of_one_stays_as_it_is(name):
    assert CORRECTIONS[name]([]) == [] and CORRECTIONS[name]([0.2]) == [0.2]


def test_a_test_that_could_not_be_made_still_counts_in_its_family():
    assert corrected([0.01, None, 0.02], "holm") == pytest.approx([0.03, None, 0.04])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("holms", "Did you mean holm?"),
        ("Benjamini_Hochberg", "Did you mean benjamini-hochberg?"),
        ("none", "there are holm, bonferroni, benjamini-hochberg"),
    ],
)
def test_an_unknown_correction_is_refused_with_those_there_are(name, says):
    with pytest.raises(ValueError, match=f"unknown correction '{name}'.*{re.escape(says)}"):
        correction(name)


def test_gaps_follow_the_queries_of_the_first():
    found = gaps(scored([0.5, 0.25], ["x", "y"]), scored([0.0, 1.0], ["y", "x"]), "RR")
    assert found.tolist() == [-0.5, 0.25]
