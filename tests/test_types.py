"""The types refuse what cannot be right, and never change."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.ids import DocIds
from retrieval.types import Dense, Qrels, Queries, Run, Tokens

IDS = DocIds.of(["a", "b", "c"])


def run(rows, scores, query_ids=("q",)):
    return Run(query_ids, IDS, np.array(rows, np.int32), np.array(scores, np.float32))


def test_a_run_in_another_order_is_refused_and_brought_into_order():
    with pytest.raises(ValueError, match="not ordered by score, then document id, descending; use Run.ordered"):
        run([[0, 1]], [[1.0, 1.0]])  # equal scores: b comes before a
    ordered = Run.ordered(["q"], IDS, np.array([[0, -1, 1]]), np.array([[1.0, np.nan, 1.0]]))
    assert ordered.rows.tolist() == [[1, 0, -1]] and ordered.scores.tolist() == [[1, 1, -np.inf]]


def test_nan_shapes_and_repeated_queries_are_refused():
    with pytest.raises(ValueError, match="query 'q': a score is NaN"):
        run([[0]], [[np.nan]])
    with pytest.raises(ValueError, match=r"1 queries, rows \(1, 2\) and scores \(1, 1\)"):
        run([[0, 1]], [[1.0]])
    with pytest.raises(ValueError, match="query id 'q' is given twice"):
        run([[0], [1]], [[1.0], [1.0]], ["q", "q"])
    with pytest.raises(ValueError, match="query id 'x' is given twice"):
        Queries(["x", "y", "x"], ["", "", ""])
    with pytest.raises(ValueError, match="2 query ids and 1 texts: one is needed per query"):
        Queries(["x", "y"], [""])


def test_queries_are_taken_with_everything_they_carry():
    vectors = Dense(np.arange(6, dtype=np.float32).reshape(3, 2))
    queries = Queries(["x", "y", "z"], ["1", "2", "3"], terms=[{"a": 1.0}, {}, {"b": 2.0}], representations=vectors)
    taken = queries.take([2, 0])
    assert (taken.ids, taken.texts, taken.terms) == (["z", "x"], ["3", "1"], [{"b": 2.0}, {"a": 1.0}])
    assert taken.representations.vectors.tolist() == [[4, 5], [0, 1]]


def test_packed_token_vectors_are_taken_by_text():
    tokens = Tokens(np.arange(5, dtype=np.float32)[:, None], np.array([0, 2, 2, 5]))
    taken = tokens.take([2, 1, 0])
    assert taken.vectors.ravel().tolist() == [2, 3, 4, 0, 1] and taken.offsets.tolist() == [0, 3, 3, 5]


def test_a_query_is_left_out_of_its_own_results():
    found = run([[2, 1, 0]], [[3.0, 2.0, 1.0]], ["b"]).without_self_hits()
    assert found.rows.tolist() == [[2, 0, -1]]
    assert found.to_dict() == {"b": {"c": 3.0, "a": 1.0}}


def test_judgements_come_back_as_given_with_queries_that_have_none():
    judged = {"q": {"a": 2, "zz": 0}, "empty": {}, "r": {"b": -1}}
    assert Qrels.from_dict(judged).to_dict() == judged
