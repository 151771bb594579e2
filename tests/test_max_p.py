"""MaxP against a loop over passages."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.ids import DocIds
from retrieval.max_p import max_p
from retrieval.types import Run


def run_of(found):
    """A run from query -> passage id -> score."""
    docs = DocIds.of(sorted({passage for one in found.values() for passage in one}))
    width = max(map(len, found.values()), default=0)
    rows, scores = np.full((len(found), width), -1, np.int32), np.full((len(found), width), -np.inf, np.float32)
    for i, one in enumerate(found.values()):
        rows[i, : len(one)], scores[i, : len(one)] = docs.rows(list(one)), list(one.values())
    return Run.ordered(list(found), docs, rows, scores)


def ranking(run):
    return {query: list(found.items()) for query, found in run.to_dict().items()}


def test_a_document_has_the_score_of_its_best_passage():
    found = max_p(run_of({"q": {"A:1": 0.9, "B:1": 0.8, "A:2": 0.95}}))
    assert ranking(found) == {"q": [("A", np.float32(0.95)), ("B", np.float32(0.8))]}


def test_an_id_without_a_colon_is_its_own_document():
    assert ranking(max_p(run_of({"q": {"A": 1.0, "B:1": 2.0}}))) == {"q": [("B", 2.0), ("A", 1.0)]}


def test_of_several_colons_only_what_stands_before_the_first_is_kept():
    assert ranking(max_p(run_of({"q": {"A:1:2": 1.0, "A:b:c": 3.0}}))) == {"q": [("A", 3.0)]}


def test_equal_documents_are_ordered_by_their_own_ids():
    """As passages A!:1 comes before A:2, as documents A! comes after A."""
    found = max_p(run_of({"q": {"A!:1": 1.0, "A:2": 1.0}}))
    assert list(found.to_dict()["q"]) == ["A!", "A"]


def test_a_query_without_results_is_kept():
    assert ranking(max_p(run_of({"q": {}, "r": {"A:1": 1.0}}))) == {"q": [], "r": [("A", 1.0)]}
    assert ranking(max_p(run_of({"q": {}}))) == {"q": []}


passages = st.dictionaries(st.from_regex(r"\A[AB!:é\n ]{1,4}\Z"), st.integers(-3, 3).map(float), max_size=12)


@given(st.dictionaries(st.sampled_from("qrs"), passages, min_size=1))
def test_it_is_what_a_loop_over_passages_finds(found):
    for query, ranked in ranking(max_p(run_of(found))).items():
        best = {}
        for passage, score in found[query].items():
            name = passage.split(":")[0]
            best[name] = max(best.get(name, -np.inf), score)
        expected = sorted(best.items(), key=lambda one: (one[1], DocIds.of([*best]).rank[[*best].index(one[0])]))
        assert ranked == expected[::-1]
