"""Choices made by nested cross-validation: by brute force, and no query has a say in its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.nested import best, folds_of, nested


@st.composite
def tables(draw):
    """Values of some choices on some queries, coarse so that means tie, and a fold for each query."""
    choices, queries = draw(st.integers(1, 5)), draw(st.integers(2, 12))
    cells = st.lists(st.integers(0, 4), min_size=queries, max_size=queries)
    values = draw(st.lists(cells, min_size=choices, max_size=choices))
    fold = folds_of([f"q{i}" for i in range(queries)], draw(st.integers(2, min(queries, 5))), draw(st.integers(0, 9)))
    return np.array(values, float) / 4, fold


def by_hand(values, fold):
    """The choice for a fold: the first that is best on all queries outside it, sums of whole quarters being exact."""
    chosen = []
    for one in range(max(fold) + 1):
        sums = [sum(v for v, f in zip(line, fold, strict=True) if f != one) for line in values]
        chosen.append(sums.index(max(sums)))
    return chosen, [values[chosen[f]][q] for q, f in enumerate(fold)]


@given(tables())
@settings(deadline=None)
def test_choices_and_figures_are_those_of_brute_force(table):
    values, fold = table
    found = nested(values, fold)
    chosen, figures = by_hand(values.tolist(), fold.tolist())
    assert found.chosen.tolist() == chosen and found.values.tolist() == figures
    assert found.choice.tolist() == [chosen[f] for f in fold]


@given(tables(), st.data())
@settings(deadline=None)
def test_no_query_has_a_say_in_the_choice_that_measures_it(table, data):
    values, fold = table
    query = data.draw(st.integers(0, len(fold) - 1))
    other = values.copy()
    other[:, query] = data.draw(st.lists(st.floats(-1e6, 1e6), min_size=len(values), max_size=len(values)))
    before, after = nested(values, fold), nested(other, fold)
    assert before.chosen[fold[query]] == after.chosen[fold[query]]
    assert after.values[query] == other[before.choice[query], query]


@given(tables())
@settings(deadline=None)
def test_it_is_never_above_the_best_choice_of_each_query_nor_changed_by_the_order_of_the_queries(table):
    values, fold = table
    found, back = nested(values, fold), nested(values[:, ::-1], fold[::-1])
    assert (found.values <= values.max(axis=0)).all()
    assert back.chosen.tolist() == found.chosen.tolist() and back.values[::-1].tolist() == found.values.tolist()


@given(st.integers(2, 40), st.integers(2, 7), st.integers(0, 99))
@settings(deadline=None)
def test_folds_are_of_one_size_and_drawn_by_id(queries, folds, seed):
    folds = min(folds, queries)
    ids = [f"q{i}" for i in range(queries)]
    fold = folds_of(ids, folds, seed)
    sizes = np.bincount(fold, minlength=folds)
    assert len(sizes) == folds and sizes.max() - sizes.min() <= 1
    assert folds_of(ids[::-1], folds, seed).tolist() == fold[::-1].tolist()


def test_another_seed_draws_other_folds():
    ids = [f"q{i}" for i in range(30)]
    assert folds_of(ids, 5, 0).tolist() == folds_of(ids, 5, 0).tolist() != folds_of(ids, 5, 1).tolist()


def test_of_equal_choices_the_first_is_taken_whatever_rounding_says():
    values = np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])  # their sums differ in the last bit when added in order
    assert best(values) == 0 == best(values[::-1])


@pytest.mark.parametrize(
    ("queries", "folds", "message"),
    [(3, 4, "3 queries are fewer than 4 folds; set folds to 3 at most"), (3, 1, "folds is 1; .* at least 2")],
)
def test_folds_that_cannot_be_are_refused(queries, folds, message):
    with pytest.raises(ValueError, match=message):
        folds_of([f"q{i}" for i in range(queries)], folds, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((0, 2)), r"not \(0, 2\) and 2"),
        (np.zeros((1, 3)), r"not \(1, 3\) and 2"),
        (np.array([[0, np.nan]]), "a value is not finite"),
    ],
)
def test_values_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        nested(values, np.array([0, 1]))
