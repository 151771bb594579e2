"""Pairs of rewrites by what a frozen retriever makes of them."""

from __future__ import annotations

import pytest

from training.preference import pair

RANKS = {"original": (4, 9), "first": (1, 3), "second": (2, 20)}


def test_the_best_is_chosen_and_the_worst_rejected():
    assert pair(RANKS) == ("first", "second")  # mean ranks 6.5, 2 and 11


def test_a_tie_in_sufficiency_is_broken_by_the_mean_rank():
    assert pair(RANKS, k=5) == ("first", "second")  # 0, 1 and 0
    assert pair({"a": (1, 30), "b": (4, 5), "c": (2, 40)}, k=5) == ("b", "c")


def test_texts_that_are_as_good_make_no_pair():
    assert pair({"a": (1, 2), "b": (2, 1)}) is None and pair({"a": (1,)}) is None


def test_a_text_without_ranks_is_refused():
    with pytest.raises(ValueError, match="'b' has no rank of any document that is needed"):
        pair({"a": (1,), "b": ()})
