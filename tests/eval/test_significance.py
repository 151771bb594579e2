"""The paired t-test against the textbook formula."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from eval.measures import Evaluation
from eval.significance import holm, paired_t


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
