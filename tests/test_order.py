"""The one order, against Python's own sort of (score descending, document id bytes descending)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from retrieval.ids import DocIds, encode_id
from retrieval.order import PAD, is_ordered, order, top_k
from retrieval.types import Run

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are shared
IDS = ["a", "ab", "B", "é", "a b", "a%b", "\U0001f600", "\uffff", "10", "9"]  # no two alike, in none of the orders
DOCS = DocIds.of(IDS)
SCORES = st.sampled_from([-np.inf, -2.5, -1e-45, -0.0, 0.0, 1e-45, 0.1, 1.0, 1.0000001, 3e38])


def expected(rows, scores, k):
    """The k best rows of one list, by sorting tuples."""
    found = [(score, encode_id(IDS[row]).encode(), row) for row, score in zip(rows, scores, strict=True) if row != PAD]
    return [row for _, _, row in sorted(found, reverse=True)][:k]


@st.composite
def lists(draw):
    rows = [draw(st.permutations(range(len(IDS)))) for _ in range(draw(st.integers(1, 4)))]
    rows = np.array(rows, np.int32)
    rows[draw(some.arrays(bool, rows.shape))] = PAD
    return rows, draw(some.arrays(np.float32, rows.shape, elements=SCORES))


@UNHURRIED
@given(lists(), st.integers(1, len(IDS) + 2))
def test_order_is_python_s_sort_by_score_then_id_bytes(given_lists, k):
    rows, scores = given_lists
    ordered, values = order(rows, scores, DOCS.rank, k)
    for line, best, line_rows, line_scores in zip(ordered, values, rows, scores, strict=True):
        wanted = expected(line_rows, line_scores, k)
        assert line[line != PAD].tolist() == wanted == line[: len(wanted)].tolist()
        score_of = dict(zip(line_rows.tolist(), line_scores.tolist(), strict=True))
        assert best.tolist() == [score_of[row] for row in wanted] + [-np.inf] * (len(line) - len(wanted))


@UNHURRIED
@given(some.arrays(np.float32, (3, len(IDS)), elements=SCORES), st.integers(1, len(IDS)))
def test_top_k_is_the_sort_of_all_documents(scores, k):
    rows, values = top_k(scores, DOCS.rank, k)
    for line, line_scores in zip(rows, scores, strict=True):
        possible = [row if score > -np.inf else PAD for row, score in enumerate(line_scores)]
        assert line[line != PAD].tolist() == expected(possible, line_scores, k)
    assert is_ordered(rows, values, DOCS.rank)


def test_ties_at_rank_k_decide_who_is_in():
    rows, _ = top_k(np.zeros((1, len(IDS)), np.float32), DOCS.rank, 3)
    assert [IDS[row] for row in rows[0]] == ["\U0001f600", "\uffff", "é"]


def test_top_k_keeps_only_scores_above_the_bound():
    rows, scores = top_k(np.array([[0.0, 2.0, 0.0]], np.float32), np.arange(3, dtype=np.int32), 2, above=0.0)
    assert rows.tolist() == [[1, PAD]] and scores.tolist() == [[2.0, -np.inf]]


@pytest.mark.parametrize(
    ("rows", "scores"),
    [
        ([[0, 1]], [[1.0, 2.0]]),  # score rises
        ([[0, 1]], [[1.0, 1.0]]),  # ids rise at a tie
        ([[PAD, 1]], [[-np.inf, 1.0]]),  # a pad before a result
        ([[1, PAD]], [[1.0, 0.0]]),  # a pad with a score
        ([[1, 1]], [[1.0, 1.0]]),  # one document twice
    ],
)
def test_a_run_in_another_order_is_refused(rows, scores):
    docs = DocIds.of(["a", "b"])
    with pytest.raises(ValueError, match="Run.ordered"):
        Run(["q"], docs, np.array(rows, np.int32), np.array(scores, np.float32))


def test_a_run_with_nan_names_the_query():
    with pytest.raises(ValueError, match="'q2'.*NaN"):
        Run(["q1", "q2"], DOCS, np.zeros((2, 1), np.int32), np.array([[1.0], [np.nan]], np.float32))


def test_self_hits_are_left_out_and_the_rest_moves_up():
    docs = DocIds.of(["x", "y", "z"])
    run = Run.ordered(["y", "n"], docs, np.array([[0, 1, 2]] * 2, np.int32), np.array([[1, 3, 2]] * 2, np.float32))
    assert [list(found) for found in run.without_self_hits().to_dict().values()] == [["z", "x"], ["y", "z", "x"]]
