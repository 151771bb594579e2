"""Intent descriptions: weights of sentences against a formula in plain Python, and what a model is shown."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prf.writers.intent import Intent, sentence_weights, sentences_of
from retrieval.protocols import Writer
from retrieval.registry import find
from retrieval.types import Dense, Sparse
from tests.prf.writers.shown import asked, broken, first_pass, joined, queries, ruled

WORDS = ["otter", "river", "comet", "sky"]
TEXTS = [
    "The otter swims. A river is cold!\nIt flows.",
    "An otter eats.",
    "  ",
    "The comet flies. No otter is in the sky.",
    "A comet in the sky.",
]


class Bags:
    """A vector of counts of a few words, with a last entry that is never 0."""

    def encode_queries(self, texts):
        return self.encode_docs(texts)

    def encode_docs(self, texts):
        counts = [[text.lower().count(word) for word in WORDS] + [0.5] for text in texts]
        return Dense(np.array(counts, np.float32).reshape(len(texts), len(WORDS) + 1), truncated=len(texts))

    def contract(self):
        return {"model": "bags", "dimensions": len(WORDS) + 1}


def unit(vector):
    norm = math.sqrt(sum(x * x for x in vector))
    return [x / norm for x in vector]


def cosine(a, b):
    return sum(x * y for x, y in zip(unit(a), unit(b), strict=True))


def by_formula(query, relevant, irrelevant, contrast):
    mean = [sum(column) / len(relevant) for column in zip(*relevant, strict=True)]
    against = [max(cosine(s, u) for u in irrelevant) for s in relevant]
    scores = [cosine(s, query) + contrast * (cosine(s, mean) - a) for s, a in zip(relevant, against, strict=True)]
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def some(rows):
    return arrays(np.float64, (rows, 3), elements=st.floats(0.1, 1))


def test_recipes_find_it_by_its_file():
    assert find(Writer, "intent") is Intent


@given(some(1), some(4), some(3), st.floats(0, 5))
@settings(max_examples=30, deadline=None)
def test_weights_are_those_of_the_formula_and_sum_to_one(query, relevant, irrelevant, contrast):
    weights = sentence_weights(query[0], relevant, irrelevant, contrast)
    expected = by_formula(query[0].tolist(), relevant.tolist(), irrelevant.tolist(), contrast)
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    assert weights.sum() == pytest.approx(1)


def test_a_sentence_copied_to_the_irrelevant_loses_weight():
    rng = np.random.default_rng(0)
    query, relevant, irrelevant = rng.random(4), rng.random((5, 4)), rng.random((3, 4))
    before = sentence_weights(query, relevant, irrelevant, 1.0)
    after = sentence_weights(query, relevant, np.vstack([irrelevant, relevant[2:3]]), 1.0)
    assert after[2] < before[2] and (np.delete(after / before, 2) > after[2] / before[2]).all()


def test_without_irrelevant_ones_the_weights_are_those_of_the_query():
    rng = np.random.default_rng(1)
    query, relevant = rng.random(4), rng.random((5, 4))
    near = [math.exp(cosine(s, query)) for s in relevant]
    weights = sentence_weights(query, relevant, np.zeros((0, 4)), 1.0)
    np.testing.assert_allclose(weights, np.array(near) / sum(near), rtol=1e-12)


def test_no_sentences_have_no_weights():
    assert sentence_weights(np.ones(4), np.zeros((0, 4)), np.ones((2, 4)), 1.0).shape == (0,)


def test_swapping_relevant_and_irrelevant_changes_what_is_shown():
    shown = []
    for found in ([0, 1, 3, 4], [3, 4, 0, 1]):
        model = ruled("wants otters")
        Intent(model, Bags(), relevant=2, irrelevant=2).write(queries("otter"), first_pass(TEXTS, found))
        shown.append(asked(model.requests[0]))
    above, below = (text.split("seem not relevant") for text in shown)
    assert above != below and "The otter swims." in above[0] and "The otter swims." in below[1]


def test_the_heaviest_sentences_are_shown_in_the_order_of_reading():
    model = ruled("wants otters")
    writer = Intent(model, Bags(), relevant=1, irrelevant=1, sentences=2)
    assert writer.write(queries("river otter"), first_pass(TEXTS, [0, 1, 2, 3, 4])) == [["wants otters"]]
    above, below = asked(model.requests[0]).split("seem not relevant")
    assert [line for line in above.splitlines() if line.startswith("- ")] == [
        "- The otter swims.",
        "- A river is cold!",
    ]
    assert [line for line in below.splitlines() if line.startswith("- ")] == ["- A comet in the sky."]


def test_a_document_is_not_both_and_without_irrelevant_ones_none_are_named():
    model = ruled("wants otters")
    Intent(model, Bags(), relevant=3, irrelevant=3).write(queries("otter"), first_pass(TEXTS, [0, 1]))
    assert asked(model.requests[0]).split("seem not relevant:")[1].lstrip().startswith("(none)")
    model = ruled("wants otters")
    Intent(model, Bags(), relevant=1, irrelevant=0).write(queries("otter"), first_pass(TEXTS, [0, 1]))
    assert "(none)" in asked(model.requests[0])


def test_the_description_follows_the_query_and_a_query_without_passages_stays():
    model = ruled("Wants otters, no comets.")
    writer, asks = Intent(model, Bags()), queries("otter", "lost", "blank")
    texts = writer.write(asks, first_pass(TEXTS, [0], [], [2]))
    assert joined(writer, asks, texts).texts == ["otter Wants otters, no comets.", "lost", "blank"]
    about = writer.provenance()
    assert (len(model.requests), about["queries without passages"], about["encoder"]["model"]) == (1, 2, "bags")


def test_several_queries_are_shown_their_own_sentences():
    model = ruled("fine")
    Intent(model, Bags(), relevant=1, irrelevant=1).write(queries("otter", "comet"), first_pass(TEXTS, [1, 4], [4, 1]))
    first, second = (asked(request).split("seem not relevant") for request in model.requests)
    assert "An otter eats." in first[0] and "A comet in the sky." in first[1]
    assert "A comet in the sky." in second[0] and "An otter eats." in second[1]


def test_what_the_encoder_cut_is_counted():
    writer = Intent(ruled("fine"), Bags(), relevant=1, irrelevant=0)
    writer.write(queries("otter"), first_pass(TEXTS, [0]))
    assert writer.provenance()["truncated sentences"] == 1 + 3


def test_a_failure_raises_and_with_a_fallback_leaves_the_query_as_it_is():
    with pytest.raises(ValueError, match="the server is gone"):
        Intent(ruled(broken), Bags()).write(queries("q"), first_pass(TEXTS, [0]))
    writer = Intent(ruled(broken), Bags(), fallback="keep")
    assert writer.write(queries("q"), first_pass(TEXTS, [0])) == [[]]
    assert writer.provenance()["failed generations"] == 1


def test_an_encoder_without_one_vector_a_text_is_refused():
    class Lexical(Bags):
        def encode_queries(self, texts):
            return Sparse(None)

    with pytest.raises(ValueError, match="Lexical gives no single vector a text: choose a dense encoder"):
        Intent(ruled("x"), Lexical()).write(queries("q"), first_pass(TEXTS, [0]))


@pytest.mark.parametrize("wrong", [{"relevant": 0}, {"irrelevant": -1}, {"sentences": 0}])
def test_numbers_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="relevant and sentences are at least 1 and irrelevant 0 or more"):
        Intent(ruled("x"), Bags(), **wrong)


def test_texts_are_cut_into_sentences():
    assert sentences_of('One. "Two!" Three?\nFour 1.5 l\n\n ... ') == ["One.", '"Two!', "Three?", "Four 1.5 l"]
    assert sentences_of(" ") == []
