"""Which training passages an evaluation judges."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.collection import Collection, write_collection
from retrieval.lists import joined
from training.contamination import unjudged

TEXTS = ["comet", "otter teapot", "violin", "volcano", ""]


def collection(folder, texts, judged=(), prefix="d"):
    documents = [(f"{prefix}{place}", "", text) for place, text in enumerate(texts)]
    qrels = {"dl19": {"q": {one: 0 for one in judged}}} if judged else {}
    write_collection(folder, documents, {"q": "a query"}, qrels)
    return Collection(folder)


@pytest.mark.parametrize(
    ("texts", "prefix", "judged", "expected"),
    [
        (["Comet.", "otter, teapot", "x", "y", ""], "e", ["e0", "e1", "e4"], [0, 0, 1, 1, 1]),  # words, not ids
        (["comet", "otter teapot", "violin", "y"], "d", ["d3"], [1, 1, 1, 0, 1]),  # most say the same: ids count
        (["comet", "w", "x", "y"], "d", ["d0", "d3"], [0, 1, 1, 1, 1]),  # one in four: another numbering
        (TEXTS[:3], "d", ["d3"], [1, 1, 1, 0, 1]),  # judged, but not in the evaluation's corpus
        (TEXTS, "d", [], [1, 1, 1, 1, 1]),
    ],
)
def test_a_judged_document_is_known_by_its_words_or_by_the_id_of_the_same_numbering(
    tmp_path, texts, prefix, judged, expected
):
    corpus = collection(tmp_path / "c", TEXTS).corpus
    other = collection(tmp_path / "e", texts, judged, prefix)
    assert unjudged(corpus, np.arange(5), other).tolist() == [bool(one) for one in expected]
    assert unjudged(corpus, np.array([3, 0]), other).tolist() == [bool(expected[3]), bool(expected[0])]


def test_each_of_several_corpora_has_its_own_numbering(tmp_path):
    one, two = (
        collection(tmp_path / "c", TEXTS).corpus,
        collection(tmp_path / "o", ["river", "lake"], prefix="x").corpus,
    )
    other = collection(tmp_path / "e", ["a river", "lake"], ["x0"], "x")  # half say the same
    assert unjudged(joined([one, two]), np.arange(7), other).tolist() == [True] * 5 + [False, True]
