"""Sign flips and the bootstrap against scipy, and against every flip and every sample of few queries."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.resampling import EXACT, bootstrap, randomisation

FEW = [0.5, -0.25, 0.125, 0.75, -0.0625, 0.375]


def drawn(queries, seed=1, shift=0.1):
    return np.random.default_rng(seed).normal(shift, 0.3, queries)


def column(values):
    return np.array(values, np.float64)[:, None]


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.3])
def test_few_queries_are_counted_exactly_as_scipy_counts_them(shift):
    gaps = drawn(11, shift=shift)
    expected = stats.permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert randomisation(column(gaps))[0] == pytest.approx(expected, abs=1e-10)


def test_queries_that_do_not_differ_leave_the_count_exact():
    gaps = np.concatenate([drawn(12), np.zeros(2000)])
    assert randomisation(column(gaps), resamples=1)[0] == pytest.approx(randomisation(column(drawn(12)))[0], abs=1e-10)


def test_ties_among_sums_count_whatever_the_rounding():
    assert randomisation(column([0.1, 0.2, -0.3]))[0] == 1  # the sum is 0 but for rounding
    assert randomisation(column([0.1, 0.2, 0.3]))[0] == 2 / 8
    assert randomisation(column([0.1, 0.1, -0.1]))[0] == 1  # |sum| is at least that of one


def test_many_queries_are_sampled_within_monte_carlo_error_of_scipy():
    gaps, resamples = drawn(40), 50_000
    scipys = stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", n_resamples=resamples, vectorized=True, rng=3
    ).pvalue
    ours = randomisation(column(gaps), resamples)[0]
    assert abs(ours - scipys) < 4 * math.sqrt(2 * scipys * (1 - scipys) / resamples)


def test_no_p_is_zero():
    certain = np.stack([np.full(30, 0.5), np.linspace(0.4, 0.6, 30)], axis=1)
    assert randomisation(certain, 999).tolist() == [0.001, 0.001]
    assert bootstrap(certain, 999).p.tolist() == [0.001, 0.001]


def test_a_comparison_has_the_same_figures_whatever_stands_beside_it():
    both = np.stack([drawn(60), drawn(60, seed=2)], axis=1)
    assert randomisation(both, 500)[1] == randomisation(both[:, 1:], 500)[0]
    beside, alone = bootstrap(both, 500), bootstrap(both[:, 1:], 500)
    assert beside.p[1] == alone.p[0]
    np.testing.assert_allclose(beside.intervals[1], alone.intervals[0], rtol=1e-12)


def test_many_comparisons_are_resampled_in_pieces_that_change_nothing(monkeypatch):
    many = np.random.default_rng(2).normal(0.05, 0.3, (20, 50))
    whole = bootstrap(many, 500)
    monkeypatch.setattr("eval.resampling._AT_ONCE", 50 * 7)
    held, means = [], np.concatenate
    monkeypatch.setattr(np, "concatenate", lambda pieces: held.extend(map(len, pieces)) or means(pieces))
    pieces = bootstrap(many, 500)
    assert max(held) == 7 and pieces.p.tolist() == whole.p.tolist()
    np.testing.assert_allclose(pieces.intervals, whole.intervals, rtol=1e-12)


def test_the_seed_decides():
    gaps = column(drawn(60))
    assert randomisation(gaps, 500, 1)[0] == randomisation(gaps, 500, 1)[0] != randomisation(gaps, 500, 2)[0]
    assert bootstrap(gaps, 500, 1).intervals.tolist() == bootstrap(gaps, 500, 1).intervals.tolist()
    assert bootstrap(gaps, 500, 1).intervals.tolist() != bootstrap(gaps, 500, 2).intervals.tolist()


@pytest.mark.parametrize(("queries", "resamples"), [(25, 2000), (3000, 3000)])  # the second in several pieces
def test_the_interval_is_scipys(queries, resamples):
    gaps = drawn(queries)
    expected = stats.bootstrap((gaps,), np.mean, n_resamples=resamples, method="percentile", rng=5)
    found = bootstrap(column(gaps), resamples, 5)
    np.testing.assert_allclose(found.intervals[0], expected.confidence_interval, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("queries", "resamples"), [(25, 2000), (3000, 3000)])
def test_its_p_is_that_of_the_t_of_every_sample(queries, resamples):
    gaps = drawn(queries, shift=0.03)
    samples = (gaps - gaps.mean())[np.random.default_rng(5).integers(0, queries, (resamples, queries))]
    t = stats.ttest_1samp(samples, 0, axis=1).statistic
    beyond = np.count_nonzero(np.abs(t) >= abs(stats.ttest_1samp(gaps, 0).statistic))
    assert bootstrap(column(gaps), resamples, 5).p[0] == pytest.approx((beyond + 1) / (resamples + 1), abs=1e-10)


def test_the_bootstrap_comes_to_what_all_samples_of_few_queries_say():
    samples = np.array(list(itertools.product(FEW, repeat=len(FEW))))
    means, spreads = samples.mean(axis=1), samples.std(axis=1)
    constant = spreads == 0  # whose t is infinite
    t = np.abs(means - np.mean(FEW)) / np.where(constant, 1, spreads)
    exact = np.mean(constant | (t >= np.mean(FEW) / np.std(FEW)))
    found = bootstrap(column(FEW), 200_000)
    assert abs(found.p[0] - exact) < 4 * math.sqrt(exact * (1 - exact) / 200_000)
    np.testing.assert_allclose(found.intervals[0], np.percentile(means, [2.5, 97.5]), atol=0.005)


def test_equal_systems_are_seldom_found_to_differ_where_queries_are_few():
    gaps = np.random.default_rng(6).normal(0, 0.3, (10, 2000))  # 2,000 comparisons of 10 queries
    for p in (randomisation(gaps), bootstrap(gaps, 1000).p):
        assert np.mean(p < 0.05) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize("resamples", [0, -1])
def test_no_resamples_are_refused(resamples):
    with pytest.raises(ValueError, match=f"resamples is {resamples}; it must be at least 1"):
        randomisation(column(FEW), resamples)
    with pytest.raises(ValueError, match=f"resamples is {resamples}; it must be at least 1"):
        bootstrap(column(FEW), resamples)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-8, 8), min_size=2, max_size=9))
def test_swapping_the_systems_changes_no_p(gaps):
    there, back = column(gaps) / 8, -column(gaps) / 8
    assert randomisation(there)[0] == randomisation(back)[0]
    sums = [
        sum(s * g for s, g in zip(signs, gaps, strict=True)) for signs in itertools.product((1, -1), repeat=len(gaps))
    ]
    assert randomisation(there)[0] == pytest.approx(np.mean(np.abs(sums) >= abs(sum(gaps))), abs=1e-12)
    assert bootstrap(there, 200).p[0] == bootstrap(back, 200).p[0]


def test_the_border_of_the_exact_count_is_within_monte_carlo_error():
    at, above = drawn(EXACT), np.append(drawn(EXACT), 1e-9)  # one more query that hardly differs
    exact, sampled = randomisation(column(at))[0], randomisation(column(above), 20_000)[0]
    assert abs(exact - sampled) < 4 * math.sqrt(exact * (1 - exact) / 20_000)
