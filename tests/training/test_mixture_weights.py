"""Sources of a mixture keep their weights, whatever is left out of them afterwards."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from retrieval.corpus import Corpus
from retrieval.lists import Lists
from retrieval.types import Qrels, Queries
from training.batches import Batches
from training.collections import Groups
from training.sources.judged import lists_of
from training.sources.mixture import Mixture
from training.sources.selected import Selected
from training.sources.typos import Typos


class Given:
    """A source of given lists."""

    def __init__(self, lists: Lists):
        self.given = lists

    def lists(self):
        return self.given


@pytest.fixture
def source(tmp_path):
    """A source of 20 queries of which some have a positive."""
    corpus = Corpus.build(((f"d{n}", "", f"text {n}") for n in range(24)), tmp_path / "corpus")

    def made(name: str, positives: int) -> Given:
        queries = Queries([f"{name}{n}" for n in range(20)], [f"{name} ask {n}" for n in range(20)])
        grades = {f"{name}{n}": {f"d{n}": int(n < positives), f"d{n + 1}": 0} for n in range(20)}
        return Given(lists_of(corpus, queries, Qrels.from_dict(grades)))

    return made


EPOCHS = 8


def drawn(lists: Lists) -> Counter[str]:
    batches = Batches(Groups(lists, 2), 5)
    every = [group for number in range(EPOCHS * batches.per_epoch) for group in batches[number]]
    return Counter(group["query_id"][0] for group in every)


def test_queries_without_a_positive_take_nothing_of_the_weight_of_their_source(source):
    lists = Mixture([source("a", 5), source("b", 20)], [1, 1]).lists()
    np.testing.assert_allclose(Groups(lists, 2).times, [25 / 2 / 5] * 5 + [25 / 2 / 20] * 20)
    found = drawn(lists)
    assert found.total() == 200 and abs(found["a"] - found["b"]) <= 8  # an epoch has 12 or 13 of each


def test_queries_that_are_held_out_take_nothing_of_it(source):
    lists = Mixture([source("a", 20), source("b", 20)], [1, 3]).lists()
    left = lists.take(np.array([0, 1, 2, 3, *range(20, 40)]))
    np.testing.assert_allclose(Groups(left, 2).times, [24 / 4 / 4] * 4 + [24 * 3 / 4 / 20] * 20)


def test_a_mixture_within_one_and_sources_around_one_keep_them_too(source):
    inner = Mixture([source("a", 5), source("b", 10)], [1, 3])
    outer = Typos(Selected(Mixture([inner, source("c", 20)], [1, 1]), share=1.0), share=1.0, added=True)
    times = Groups(outer.lists(), 2).times
    ids = [group["query_id"][0] for group in map(Groups(outer.lists(), 2).__getitem__, range(len(times)))]
    shares = {name: times[[one == name for one in ids]].sum() / times.sum() for name in "abc"}
    np.testing.assert_allclose([shares[name] for name in "abc"], [1 / 8, 3 / 8, 1 / 2])


def test_a_source_of_which_nothing_is_left_is_refused(source):
    lists = Mixture([source("a", 20), source("b", 0)], [3, 1]).lists()
    with pytest.raises(ValueError, match=r"no query is left of source 2 of the 2 of a mixture, .* 0.25 of an epoch"):
        Groups(lists, 2)
