"""Texts put to queries: every way gives the string that its paper says, and a query without texts stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

from prf.adaptive_repeat import AdaptiveRepeat
from prf.append import Append
from prf.interleave import Interleave
from prf.separate import Separate
from retrieval.composed import picking
from retrieval.ids import DocIds
from retrieval.types import Feedback, Queries, Run

WRITTEN = ["one", " ", "two three", "unread"]  # of the first query, the last a document that was not found
QUERIES = Queries(["a", "b"], ["otter", "sea salt"], terms=[{"otter": 1}, {"sea": 1, "salt": 1}])


def feedback(texts=WRITTEN, rows=((0, 1, 2), (-1, -1, -1))):
    docs = DocIds.of([f"z{9 - n}" for n in range(len(texts))])  # of equal scores the first comes first
    scores = np.where(np.array(rows) < 0, -np.inf, 1).astype(np.float32)
    return Feedback(Run(["a", "b"], docs, np.array(rows, np.int32), scores), texts=picking(list(texts)))


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        (Append(), "otter one two three"),
        (Append(repeat=5), "otter otter otter otter otter one two three"),
        (Append(repeat=0), "one two three"),
        (Append(repeat=2, separator="\n", before=True), "one\ntwo three\notter\notter"),
        (Append(fb_docs=1), "otter one"),
        (Append(fb_docs=0), "otter"),
        (Interleave(), "otter one otter two three"),
        (Interleave(fb_docs=1), "otter one"),
        (AdaptiveRepeat(ratio=1), "otter otter one two three"),  # 13 characters, 5 of the query
        (AdaptiveRepeat(), "otter one two three"),
        (AdaptiveRepeat(ratio=1, unit="words"), "otter otter otter one two three"),
    ],
)
def test_a_query_and_its_texts_are_one_string(join, expected):
    found = join.reformulate(QUERIES, feedback())
    assert found.texts == [expected, "sea salt"]
    assert found.terms is None  # else a retriever would search with the old terms


def test_the_query_is_repeated_by_the_length_of_the_texts():
    mugi, thinkqe = AdaptiveRepeat(), AdaptiveRepeat(3, "words")
    assert [mugi.times("q" * 40, "d" * 1000), AdaptiveRepeat(5).times("q" * 40, "d" * 1000)] == [4, 5]
    assert mugi.times("q" * 40, "d" * 100) == 1  # the formula gives 0
    assert [thinkqe.times("w " * 6, "w " * 300), thinkqe.times("w " * 6, "w " * 10)] == [16, 1]


def test_each_text_is_a_query_of_its_own():
    assert Separate().reformulate(QUERIES, feedback()).variants == [
        [("otter one", 1.0), ("otter two three", 1.0)],
        [("sea salt", 1.0)],
    ]
    alone = Separate(with_query=False, original=True).reformulate(QUERIES, feedback()).variants
    assert alone == [[("otter", 1.0), ("one", 1.0), ("two three", 1.0)], [("sea salt", 1.0)]]


@pytest.mark.parametrize("join", [Append(), Interleave(), AdaptiveRepeat(), Separate()])
def test_feedback_without_texts_or_of_other_queries_is_refused(join):
    with pytest.raises(ValueError, match="needs the texts of feedback documents: name a source that shows them"):
        join.reformulate(QUERIES, None)
    with pytest.raises(ValueError, match="was given 1 queries and the feedback of others"):
        join.reformulate(QUERIES.take([1]), feedback())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Append(repeat=-1), "repeat is -1; it is 0 or more"),
        (lambda: Interleave(fb_docs=-1), "Interleave: fb_docs is -1; it is 0 or more, or None for all"),
        (lambda: AdaptiveRepeat(ratio=0), "ratio is above 0"),
        (lambda: AdaptiveRepeat(unit="bytes"), 'unit "characters" or "words", not 6 and \'bytes\''),
    ],
)
def test_a_setting_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
