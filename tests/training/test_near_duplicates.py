"""Near-duplicates of texts, and what training and evaluation share."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest

from retrieval.lists import Lists
from retrieval.types import Queries
from training.contamination import contamination
from training.near_duplicates import NearTexts, shingles


def by_hand(text: str, words: int) -> set[tuple[str, ...]]:
    split = text.lower().split()
    return {tuple(split[i : i + words]) for i in range(max(len(split) - words + 1, min(len(split), 1)))}


def found(texts, others, words, threshold):
    pairs = NearTexts(shingles(others, words), threshold).find(shingles(texts, words))
    return {(int(one), int(other)): share for one, other, share in zip(*pairs, strict=True)}


@pytest.mark.parametrize("words", [1, 2, 3])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7, 0.8, 1.0])
def test_the_search_finds_just_the_pairs_that_comparing_all_finds(words, threshold):
    draw = random.Random(7)
    texts = [" ".join(draw.choices("abcdefgh", k=draw.randint(0, 14))) for _ in range(120)]
    texts += [text.replace("a", "b") for text in texts[:40]] + texts[:10]
    here, there = texts[:90], texts[80:]
    expected = {}
    for i, one in enumerate(here):
        for j, other in enumerate(there):
            a, b = by_hand(one, words), by_hand(other, words)
            if a and b and len(a & b) / len(a | b) >= threshold - 1e-12:
                expected[i, j] = len(a & b) / len(a | b)
    assert found(here, there, words, threshold) == pytest.approx(expected) and list(expected) == sorted(expected)


def test_case_and_punctuation_play_no_part_and_texts_without_words_resemble_nothing():
    assert found(["The otter, swims!", "", "..."], ["the OTTER swims", "", "..."], 3, 1.0) == {(0, 0): 1.0}
    one, other = shingles(["The otter, swims!", ""]), shingles(["the otter swims", "swims the otter"])
    assert one.whole[0] == other.whole[0] != other.whole[1] and one.whole[1] == 0


def test_no_texts_are_searched_without_harm():
    assert found([], ["a b c"], 3, 0.5) == found(["a b c"], [], 3, 0.5) == found([""], [""], 3, 0.5) == {}


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_a_threshold_that_is_no_similarity_is_refused(threshold):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        NearTexts(shingles(["a"]), threshold)


@dataclass
class Texts:
    held: list[str]
    fingerprint: str = "texts"

    def __len__(self) -> int:
        return len(self.held)

    def texts(self, rows) -> list[str]:
        return [self.held[row] for row in rows]


def listed(queries: list[str], passages: list[str], rows: list[int]) -> Lists:
    offsets = np.array([0] * len(queries) + [len(rows)])
    ids = [f"q{i}" for i in range(len(queries))]
    array = np.array(rows, np.int32)
    return Lists(Queries(ids, queries), Texts(passages), offsets, array, np.ones(len(rows), np.float32))


def test_contamination_counts_what_is_the_same_and_what_is_close():
    passages = ["a b c d e f g h i j k l", "Otters swim in rivers.", "never listed at all"]
    training = listed(["what do otters eat today", "who built the wall"], passages, [0, 1])
    asked = Queries(["1", "2", "3"], ["Who built the wall?", "what do otters eat", "what do cats eat"])
    # words of query 2: 4 of 5 are shared; of query 3: 3 of 6. Document 2 has 10 runs of three words, 9 of them shared
    # of 11 in all; document 3 is no training passage, as no list holds it
    documents = ["otters swim in rivers", "a b c d e f g h i j k x", "never listed at all", "a b c d x y z"]
    assert contamination(training, asked, documents, threshold=0.8) == {
        "test queries": 3,
        "test queries trained on": 1,
        "test queries close to one trained on": 1,
        "judged documents": 4,
        "judged documents trained on": 1,
        "judged documents close to one trained on": 1,
    }
    assert contamination(training, asked, documents, threshold=0.85)["judged documents close to one trained on"] == 0


def test_empty_queries_and_documents_are_no_contamination():
    counts = contamination(listed(["", "a"], ["", "b"], [0, 1]), Queries(["1"], [""]), ["", "!"])
    assert [counts[what] for what in counts if "trained on" in what] == [0, 0, 0, 0]
