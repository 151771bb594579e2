"""The average of term vectors against worked values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prf.average_terms import AverageTerms
from tests.prf.toy import D1, D2, feedback, queries

QUERY = queries("apple banana")


def averaged(model, *texts):
    return model.reformulate(QUERY, feedback(texts, [(i, 1.0) for i in range(len(texts))])).terms[0]


def test_the_worked_example_comes_out():
    expected = {"banana": 0.689876, "apple": 0.635565, "cherry": 0.308863, "date": 0.157265}
    assert averaged(AverageTerms(), D1, D2) == pytest.approx(expected, abs=1e-6)


def test_the_heaviest_terms_are_kept_and_normalised_again():
    length = math.hypot(0.689876, 0.635565)
    kept = averaged(AverageTerms(fb_terms=2), D1, D2)
    assert kept == pytest.approx({"banana": 0.689876 / length, "apple": 0.635565 / length}, abs=1e-6)


@given(st.permutations([D1, D2, "fig", "date date"]))
def test_the_order_of_documents_does_not_count(texts):
    assert averaged(AverageTerms(), *texts) == pytest.approx(averaged(AverageTerms(), D1, D2, "fig", "date date"))


def test_a_query_without_documents_keeps_its_terms():
    found = AverageTerms().reformulate(QUERY, feedback([D1], [])).terms
    assert found == [pytest.approx({"apple": 0.5**0.5, "banana": 0.5**0.5})]


def test_documents_beyond_fb_docs_do_not_count():
    ranked = feedback([D1, "fig"], [(0, 2.0), (1, 1.0)])
    assert "fig" not in AverageTerms(fb_docs=1).reformulate(QUERY, ranked).terms[0]
    assert "fig" in AverageTerms(fb_docs=2).reformulate(QUERY, ranked).terms[0]


@pytest.mark.parametrize("wrong", [{"fb_terms": 0}, {"fb_docs": 0}])
def test_a_setting_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AverageTerms(**wrong)
