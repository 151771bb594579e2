"""A teacher's scores as targets: from a reranker and from encoders, kept and resumed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from retrieval.lists import Lists
from retrieval.types import Dense, Queries, Sparse, Tokens
from training.sources.scored import Scored


@dataclass
class Texts:
    held: list[str]
    fingerprint: str = "texts"

    def __len__(self) -> int:
        return len(self.held)

    def texts(self, rows) -> list[str]:
        return [self.held[row] for row in rows]


@dataclass
class Listed:
    listed: Lists

    def lists(self) -> Lists:
        return self.listed


QUERIES, PASSAGES = ["one", "three", "seven"], ["a", "bb", "ccc", "dddd"]
LISTS = Lists(
    Queries(["x", "y", "z"], QUERIES),
    Texts(PASSAGES),
    np.array([0, 3, 4, 7]),
    np.array([3, 0, 1, 0, 2, 3, 1], np.int32),
    np.array([1, 0, 0, 1, 1, 0, 0], np.float32),
    counts={"there before": 1},
)
EXPECTED = [12, 3, 6, 5, 15, 20, 10]  # products of the numbers of letters


class Letters:
    """Scores a pair by the letters of both; may fail after so many pairs."""

    def __init__(self, stops: int | None = None):
        self.stops, self.read, self.truncated_pairs = stops, [], 0

    def score(self, pairs):
        if self.stops is not None and len(self.read) >= self.stops:
            raise KeyboardInterrupt
        self.read += pairs
        self.truncated_pairs += sum(len(text) > 3 for _, text in pairs)
        return np.array([len(query) * len(text) for query, text in pairs], np.float32)

    def contract(self):
        return {"reranker": "letters"}


def test_targets_are_what_the_reranker_gives_each_pair_and_labels_stay():
    lists = Scored(Listed(LISTS), reranker=Letters()).lists()
    assert lists.targets.dtype == np.float32 and lists.targets.tolist() == EXPECTED
    np.testing.assert_array_equal(lists.labels, LISTS.labels)
    assert lists.counts == {"there before": 1, "pairs scored": 7, "texts cut by the teacher": 2}


def test_scoring_that_was_killed_goes_on_and_does_no_finished_pair_twice():
    with pytest.raises(KeyboardInterrupt):
        Scored(Listed(LISTS), reranker=Letters(stops=4), shard=2).lists()
    rest, none = Letters(), Letters()
    assert Scored(Listed(LISTS), reranker=rest, shard=2).lists().targets.tolist() == EXPECTED
    assert len(rest.read) == 3
    again = Scored(Listed(LISTS), reranker=none, shard=2).lists()
    assert none.read == [] and again.targets.tolist() == EXPECTED and again.counts["texts cut by the teacher"] == 2


def test_other_labels_use_the_same_scores_and_other_texts_do_not():
    Scored(Listed(LISTS), reranker=Letters()).lists()
    same, other = Letters(), Letters()
    Scored(Listed(replace(LISTS, labels=LISTS.labels + 1)), reranker=same).lists()
    moved = replace(LISTS, queries=Queries(["x", "y", "z"], ["o", "three", "seven"]))
    assert Scored(Listed(moved), reranker=other).lists().targets[0] == 4
    assert same.read == [] and len(other.read) == 7


def test_a_shard_that_was_cut_short_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path))
    Scored(Listed(LISTS), reranker=Letters(), shard=4).lists()
    next(tmp_path.rglob("shard-00001.float32")).write_bytes(b"12345678")
    with pytest.raises(ValueError, match="has 8 bytes and should have 12"):
        Scored(Listed(LISTS), reranker=Letters(), shard=4).lists()


VECTORS = np.random.default_rng(3).normal(size=(64, 5)).astype(np.float32)


class Letterwise:
    """An encoder of a random vector per length of text."""

    def __init__(self, kind):
        self.kind, self.texts = kind, []

    def encode_queries(self, texts):
        return self.kind(VECTORS[[len(text) + 30 for text in texts]])

    def encode_docs(self, texts):
        self.texts += texts
        return self.kind(VECTORS[[len(text) for text in texts]])

    def contract(self):
        return {"encoder": self.kind.__name__}


def dense(vectors):
    return Dense(vectors, truncated=1)


def sparse(vectors):
    return Sparse(csr_array(np.maximum(vectors, 0)))


def tokens(vectors):
    return Tokens(np.concatenate([vectors, -vectors], 1).reshape(-1, 5), np.arange(len(vectors) + 1) * 2)


@pytest.mark.parametrize("shard", [2, 100])
@pytest.mark.parametrize(
    ("kind", "score"),
    [
        (dense, lambda q, d: q @ d),
        (sparse, lambda q, d: np.maximum(q, 0) @ np.maximum(d, 0)),
        (tokens, lambda q, d: 2 * abs(q @ d)),  # each of the two tokens of the query finds the one on its side
    ],
)
def test_of_an_encoder_targets_are_products_and_each_passage_is_encoded_about_once(kind, score, shard):
    encoder = Letterwise(kind)
    lists = Scored(Listed(LISTS), encoder=encoder, shard=shard).lists()
    pairs = [(QUERIES[q], PASSAGES[row]) for q, row in zip(LISTS.query, LISTS.rows, strict=True)]
    expected = [score(*VECTORS[[len(query) + 30, len(text)]].astype(np.float64)) for query, text in pairs]
    np.testing.assert_allclose(lists.targets, expected, rtol=1e-6)
    assert len(encoder.texts) <= len(PASSAGES) + len(range(0, 7, shard)) - 1


def test_a_score_that_is_not_finite_is_refused_with_its_texts():
    class Broken(Letterwise):
        def encode_docs(self, texts):
            return Dense(
                np.where(np.array([[len(text)] for text in texts]) == 2, np.nan, np.ones((len(texts), 5), "f"))
            )

    with pytest.raises(ValueError, match=r"NaN or infinity for '(one|seven)', 'bb'"):
        Scored(Listed(LISTS), encoder=Broken(dense)).lists()


@pytest.mark.parametrize("given", [{}, {"reranker": Letters(), "encoder": Letterwise(dense)}])
def test_a_teacher_is_a_reranker_or_an_encoder(given):
    with pytest.raises(ValueError, match="exactly one"):
        Scored(Listed(LISTS), **given)
