"""Pairs of rewrites by what a frozen retriever makes of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from retrieval.ids import DocIds
from retrieval.types import Run
from training.preference import Preference, distinct, mine, mine_best, pair, ranks_of, read_pairs, write_pairs

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


def test_texts_closer_than_the_margin_make_no_pair_unless_one_suffices():
    assert pair(RANKS, margin=9) == ("first", "second")  # 11 - 2
    assert pair(RANKS, margin=9.5) is None
    assert pair(RANKS, k=5, margin=100) == ("first", "second")


def test_the_pairs_of_all_queries_come_with_the_counts_of_those_that_have_none():
    chats = {name: [{"role": "user", "content": name}] for name in ("some", "same", "alone", "none")}
    ranks = {"some": RANKS, "same": {"a": (3,), "b": (3,)}, "alone": {"a": (1,)}, "none": {}}
    found, counts = mine(chats, ranks, k=5)
    assert found == [Preference("some", chats["some"], "first", "second")]
    assert counts == {
        "queries": 4,
        "queries without a second text": 2,
        "queries without a difference": 1,
        "pairs": 1,
    }


def test_the_best_text_of_every_query_is_learned_whether_or_not_the_others_are_worse():
    chats = {name: [{"role": "user", "content": name}] for name in ("some", "same", "alone", "none")}
    ranks = {"some": RANKS, "same": {"a": (1,), "b": (1,)}, "alone": {"a": (900,)}, "none": {}}
    found, counts = mine_best(chats, ranks, k=5)
    assert [(one.query_id, one.chosen, one.rejected) for one in found] == [
        ("some", "first", None),
        ("same", "a", None),
        ("alone", "a", None),
    ]
    assert counts == {"queries": 4, "queries without a text": 1, "texts": 3}


def test_ranks_count_from_1_and_what_is_not_found_comes_next():
    docs = DocIds.of(pa.array(["a", "b", "c", "d"]))
    rows = np.array([[2, 0, 1], [3, -1, -1]], np.int32)
    scores = np.array([[3, 2, 1], [1, -np.inf, -np.inf]], np.float32)
    run = Run(["q", "r"], docs, rows, scores)
    needed = [np.array([1, 2]), np.array([-1, 3, 0])]  # -1: the corpus lacks it
    assert ranks_of(run, needed, 3) == [[3, 1], [4, 1, 4]]
    assert ranks_of(run, needed, 2) == [[3, 1], [3, 1, 3]]


def test_case_and_blanks_make_no_other_text():
    assert distinct(["An otter", None, " an  OTTER ", "a comet", "An otter"]) == ["An otter", "a comet"]


def test_pairs_are_read_as_they_were_written(tmp_path):
    turns = [{"role": "user", "content": "ö\n{x}"}]
    pairs = [Preference("q", turns, "a\u2028b", "c"), Preference("r", turns, "alone")]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert read_pairs(tmp_path / "pairs.jsonl") == pairs


def test_a_line_that_is_no_pair_is_named(tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"query_id": "q"}\n')
    with pytest.raises(ValueError, match=r"pairs.jsonl:1: each line is a pair with query_id"):
        read_pairs(tmp_path / "pairs.jsonl")
