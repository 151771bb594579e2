"""Rocchio over vectors: the worked examples, and what leaves a query as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prf.vector_rocchio import VectorRocchio
from retrieval.protocols import Reformulator
from retrieval.registry import find
from tests.prf.vector_toy import asked, shown, vectors

DOCS = [(0, 1), (1, 1), (0.5, 0.5), (0, -1)]


def test_the_worked_example_comes_out():
    found = vectors(VectorRocchio(), asked((1, 0)), shown(DOCS, [0, 1, 2]))
    np.testing.assert_allclose(found, [[0.7, 0.5]], atol=1e-7)


def test_the_last_documents_move_the_query_away():
    away = VectorRocchio(gamma=0.1, fb_docs=3, bottom_docs=1)
    np.testing.assert_allclose(vectors(away, asked((1, 0)), shown(DOCS, [0, 1, 2, 3])), [[0.7, 0.6]], atol=1e-7)


def test_the_new_vector_is_the_only_form_of_the_query():
    own = replace(asked((1, 0)), variants=[[("other", 1.0)]])
    moved = VectorRocchio().reformulate(own, shown(DOCS, [0]))
    assert own.terms is not None and moved.terms is moved.variants is None


def test_weights_and_depths_are_those_that_are_given():
    pyserini = VectorRocchio(0.9, 0.1, 0.1, fb_docs=2)
    np.testing.assert_allclose(vectors(pyserini, asked((1, 0)), shown(DOCS, [0, 1, 2])), [[0.95, 0.1]], atol=1e-7)


@pytest.mark.parametrize(
    "still", [{"fb_docs": 0}, {"beta": 0}, {"beta": 0, "bottom_docs": 2}, {"fb_docs": 0, "gamma": 0.5}]
)
def test_what_nothing_moves_keeps_every_bit(still):
    own = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    found = shown(np.ones((3, 7)), *[[0, 1]] * 5)
    np.testing.assert_array_equal(vectors(VectorRocchio(**still), asked(*own), found), own)


def test_a_query_without_feedback_keeps_its_vector_beside_others_that_move():
    found = vectors(VectorRocchio(), asked((0.1, 0.3), (1, 0)), shown(DOCS, [], [0]))
    np.testing.assert_array_equal(found, np.array([(0.1, 0.3), (0.4, 0.6)], np.float32))
    assert vectors(VectorRocchio(), asked((1, 0)), shown(DOCS, [])).tolist() == [[1, 0]]


@given(st.permutations(range(6)), st.integers(0, 99))
def test_the_order_of_the_first_documents_changes_no_bit(order, seed):
    documents = np.random.default_rng(seed).standard_normal((6, 3))
    one, other = shown(documents, list(range(6))), shown(documents, list(order))
    model, query = VectorRocchio(fb_docs=6), asked((0.1, 0.2, 0.3))
    np.testing.assert_array_equal(vectors(model, query, one), vectors(model, query, other))


@pytest.mark.parametrize(
    "wrong", [{"alpha": -1}, {"alpha": np.nan}, {"beta": np.nan}, {"gamma": -0.1}, {"fb_docs": -1}, {"bottom_docs": -2}]
)
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        VectorRocchio(**wrong)


def test_a_recipe_finds_it_by_its_file():
    assert find(Reformulator, "vector_rocchio") is VectorRocchio
