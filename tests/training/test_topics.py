"""Topics of queries, and batches of one topic (TAS-B)."""

from dataclasses import replace

import numpy as np
import pytest
from toy import toy_groups

from retrieval.types import Dense, Queries, Tokens
from training.batches import Batches
from training.collections import Groups
from training.topics import Topics


class Placed:
    """Gives each query the vector that its text spells."""

    asked = 0

    def encode_queries(self, texts):
        self.asked += 1
        return Dense(np.array([[float(word) for word in text.split()] for text in texts], np.float32))

    def contract(self):
        return {"encoder": "placed"}


def test_like_queries_have_one_topic_which_is_found_once():
    rng = np.random.default_rng(0)
    centre = np.array([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    own = rng.permutation(np.repeat(np.arange(4), 25))
    texts = [" ".join(f"{x:.3f}" for x in centre[one] + rng.normal(0, 0.3, 2)) for one in own]
    queries, encoder = Queries([f"q{n}" for n in range(100)], texts), Placed()
    found = Topics(encoder, size=10).of(queries)
    pairs = {*zip(own.tolist(), found.tolist(), strict=True)}
    assert len(pairs) == len({*found.tolist()}) == 10  # of each topic all queries are near one centre
    np.testing.assert_array_equal(Topics(encoder, size=10).of(queries), found)
    assert encoder.asked == 1
    assert len({*Topics(encoder, size=34).of(queries).tolist()}) == 3 and encoder.asked == 2


@pytest.mark.parametrize("times", [None, np.linspace(0.5, 2, 26)])
def test_a_batch_is_of_one_topic_and_where_that_ends_of_the_next(tmp_path, times):
    lists = toy_groups(tmp_path / "corpus").lists
    lists = lists if times is None else replace(lists, times=times)
    topics = np.arange(26) % 3
    batches, plain = Batches(Groups(lists, 2, topics=topics), 4, seed=1), Batches(Groups(lists, 2), 4, seed=1)
    orders = set()
    for epoch in range(4):
        numbers = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
        drawn = [[group["query_id"] for group in batches[number]] for number in numbers]
        kinds = [{int(name[1:]) % 3 for name in batch} for batch in drawn]
        assert sum(map(len, kinds)) <= batches.per_epoch + 2  # a batch for each place where one topic ends
        every = [name for batch in drawn for name in batch]
        comes = sorted(name for number in numbers for name in (group["query_id"] for group in plain[number]))
        assert len(every) == len(comes)
        if times is None:
            assert len({*every}) == len(every)
        orders.add(tuple(every))
        again = Batches(Groups(lists, 2, topics=topics), 4, seed=1)[numbers[-1]]
        assert [group["query_id"] for group in again] == drawn[-1]
    assert len(orders) == 4
    assert plain.groups.settings() != batches.groups.settings()


def test_queries_have_topics_by_the_vectors_that_they_are_searched_with():
    class Instructed(Placed):
        def encode_instructed(self, texts, instructions):
            return self.encode_queries([f"{one} {text}" for one, text in zip(instructions, texts, strict=True)])

    ids, texts, own = [f"q{n}" for n in range(20)], [f"{n}" for n in range(20)], ["0", "50"] * 10

    def mixed(queries):
        found = Topics(Instructed(), size=4).of(queries).tolist()
        return len({*zip(own, found, strict=True)}) > len({*found})

    assert mixed(Queries(ids, texts)) and not mixed(Queries(ids, texts, own))
    with pytest.raises(ValueError, match="the queries carry instructions, which Placed does not take"):
        Topics(Placed(), size=10).of(Queries(["q"], ["1"], ["2"]))


def test_what_cannot_be_topics_is_refused(tmp_path):
    class OfTokens(Placed):
        def encode_queries(self, texts):
            return Tokens(np.zeros((len(texts), 2), np.float32), np.arange(len(texts) + 1))

    with pytest.raises(ValueError, match="topics.size is 0"):
        Topics(Placed(), 0)
    with pytest.raises(ValueError, match="one vector each, which OfTokens does not give: use transformer"):
        Topics(OfTokens()).of(Queries(["q"], ["1"]))
