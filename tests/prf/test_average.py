"""Average: the worked example, and what leaves a query as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prf.average import Average
from retrieval.protocols import Reformulator
from retrieval.registry import find
from retrieval.types import Dense, Feedback, Hybrid, Sparse
from tests.prf.toy import queries, run
from tests.prf.vector_toy import asked, shown, vectors

DOCS = [(0, 1), (1, 1), (0.5, 0.5), (0, -1)]


def test_the_worked_example_comes_out():
    assert vectors(Average(), asked((1, 0)), shown(DOCS, [0, 1, 2])).tolist() == [[0.625, 0.625]]


def test_only_the_first_documents_count_and_fewer_are_enough():
    assert vectors(Average(3), asked((1, 0)), shown(DOCS, [0, 1, 2, 3])).tolist() == [[0.625, 0.625]]
    assert vectors(Average(9), asked((1, 0)), shown(DOCS, [1])).tolist() == [[1, 0.5]]


def test_each_query_has_its_own_documents_and_one_without_any_keeps_its_vector():
    found = shown(DOCS, [1], [], [0, 1])
    moved = vectors(Average(2), asked((1, 0), (0.1, 0.3), (1, 1)), found)
    np.testing.assert_array_equal(moved, np.array([(1, 0.5), (0.1, 0.3), (2 / 3, 1)], np.float32))


def test_depth_0_keeps_every_bit_of_the_query():
    own = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    found = shown(np.ones((3, 7)), *[[0, 1]] * 5)
    np.testing.assert_array_equal(vectors(Average(0), asked(*own), found), own)


def test_a_first_pass_that_finds_nothing_at_all_is_no_nan():
    assert vectors(Average(), asked((1, 0), (0, 1)), shown(DOCS, [], [])).tolist() == [[1, 0], [0, 1]]
    assert len(vectors(Average(), asked(*np.zeros((0, 2))), shown(DOCS))) == 0


@given(st.permutations(range(6)), st.integers(0, 99))
def test_the_order_of_the_documents_changes_no_bit(order, seed):
    documents = np.random.default_rng(seed).standard_normal((6, 5))
    one, other = shown(documents, list(range(6))), shown(documents, list(order))
    query = asked((0.1, 0.2, 0.3, 0.4, 0.5))
    np.testing.assert_array_equal(vectors(Average(6), query, one), vectors(Average(6), query, other))


def test_many_queries_in_blocks_are_as_numpy_has_them():
    rng = np.random.default_rng(1)
    documents, own = rng.standard_normal((50, 4)).astype(np.float32), rng.standard_normal((900, 4)).astype(np.float32)
    lists = [rng.choice(50, 10, replace=False).tolist() for _ in own]
    together = [np.vstack([[query], documents[rows]]) for query, rows in zip(own, lists, strict=True)]
    expected = [one.astype(float).mean(0) for one in together]
    np.testing.assert_allclose(vectors(Average(10), asked(*own), shown(documents, *lists)), expected, atol=1e-6)


def test_of_a_vector_and_a_weighted_bag_the_vector_moves():
    from scipy.sparse import csr_array

    both = Hybrid(Dense(np.array([[1, 0]], np.float32)), Sparse(csr_array(np.ones((1, 3), np.float32))))
    made = Average().reformulate(replace(queries("a"), representations=both), shown(DOCS, [0, 1, 2]))
    assert made.representations.vectors.tolist() == [[0.625, 0.625]]


@pytest.mark.parametrize("found", [None, Feedback(run(2, [(0, 1.0)]))])
def test_without_vectors_the_error_says_what_has_them(found):
    with pytest.raises(ValueError, match="Average needs one vector of each query and document; a retriever `dense`"):
        Average().reformulate(asked((1, 0)), found)
    with pytest.raises(ValueError, match="Average needs one vector of each query"):
        Average().reformulate(queries("a"), shown(DOCS, [0]))


def test_the_feedback_of_other_queries_is_refused():
    with pytest.raises(ValueError, match="given 1 queries and the feedback of others"):
        Average().reformulate(asked((1, 0)), shown(DOCS, [0], [1]))


def test_fewer_than_no_documents_are_refused():
    with pytest.raises(ValueError, match="fb_docs is -1"):
        Average(-1)


def test_a_recipe_finds_it_by_its_file():
    assert find(Reformulator, "average") is Average
