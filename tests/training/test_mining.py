"""Hard negatives out of a run, on lists of a few documents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from retrieval.ids import DocIds
from retrieval.lists import Lists
from retrieval.types import Queries, Run
from training import mining
from training.mining import Mining, mine, remine, shares, simans

WORDS = "otter comet violin volcano teapot harbour library kitchen winter marble copper ladder".split()
DOCS = [f"{word} {i} one {word} {i} two {word} {i} three" for i, word in enumerate(WORDS)]
DOCS[5] = DOCS[1].upper() + "!"  # of the same words as document 1


@dataclass
class Texts:
    held: list[str]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.held)

    def texts(self, rows) -> list[str]:
        return [self.held[row] for row in rows]


@dataclass
class Table:
    """A reranker that knows the score of each document."""

    scores: dict[str, float]
    read: list[str] = field(default_factory=list)

    def score(self, pairs):
        texts = [text for _, text in pairs]
        self.read += texts
        return np.array([self.scores.get(text, 0.0) for text in texts], np.float32)


IDS = DocIds.of([f"d{i:02}" for i in range(len(DOCS))])


def of(judged: list[dict[int, float]]) -> Lists:
    queries = Queries([f"q{i}" for i in range(len(judged))], [f"query {i}" for i in range(len(judged))])
    offsets = np.cumsum([0, *map(len, judged)])
    rows = np.array([row for one in judged for row in one], np.int32)
    labels = np.array([label for one in judged for label in one.values()], np.float32)
    return Lists(queries, Texts(DOCS, IDS.fingerprint), offsets, rows, labels, counts={"there before": 1})


def run_of(ranked: list[dict[int, float]]) -> Run:
    depth = max(map(len, ranked))
    rows, scores = np.full((len(ranked), depth), -1, np.int32), np.zeros((len(ranked), depth), np.float32)
    for i, one in enumerate(ranked):
        rows[i, : len(one)], scores[i, : len(one)] = list(one), list(one.values())
    return Run.ordered([f"q{i}" for i in range(len(ranked))], IDS, rows, scores)


def mined(lists, run, reranker=None, **settings) -> list[list[int]]:
    found = mine(lists, run, Mining(**({"k": None, "choice": "top"} | settings)), reranker)
    return [found.rows[a:b].tolist() for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


LISTS = of([{1: 2.0, 8: 0.0}, {9: 1.0}])
# positive 1 has 0.9; 5 is a near-duplicate of it; 8 is listed with label 0. The second query's positive isn't found
RUN = run_of([{0: 1.0, 1: 0.9, 5: 0.8, 2: 0.75, 8: 0.7, 3: 0.5, 4: 0.1}, {3: 0.6, 2: 0.5, 1: 0.4}])


def test_neither_positives_nor_their_near_duplicates_nor_what_is_listed_are_mined():
    assert mined(LISTS, RUN) == [[0, 2, 3, 4], [3, 2, 1]]
    assert mined(LISTS, RUN, near_duplicate=None) == [[0, 5, 2, 3, 4], [3, 2, 1]]
    assert mined(LISTS, RUN, relevant=3.0, near_duplicate=None)[0] == [0, 5, 2, 3, 4]  # listed all the same


@pytest.mark.parametrize("choice", ["top", "random", "simans"])
def test_no_positive_is_ever_mined(choice):
    rng = np.random.default_rng(5)
    judged = [dict.fromkeys(rng.choice(12, 4, replace=False).tolist(), 1.0) for _ in range(30)]
    ranked = [dict(zip(rng.permutation(12).tolist(), rng.normal(size=12), strict=True)) for _ in range(30)]
    run = run_of(ranked)
    for settings in ({}, {"share": 0.9}, {"margin": 0.1, "against": "lowest"}, {"first_rank": 3, "last_rank": 9}):
        found = mined(of(judged), run, choice=choice, k=5, **settings)
        for one, query in zip(found, judged, strict=True):
            assert not {*one} & {*query} and len({*one}) == len(one)
            assert not (5 in one and 1 in query) and not (1 in one and 5 in query)  # near-duplicates


def test_ranks_are_those_of_the_run_positives_included():
    assert mined(LISTS, RUN, first_rank=2, last_rank=6) == [[2, 3], [2, 1]]


def test_scores_near_the_positive_are_dropped_by_margin_and_share_and_the_first_rank_stands_in_for_it():
    assert mined(LISTS, RUN, margin=0.14) == [[2, 3, 4], [1]]  # 0.9 - 0.14, 0.6 - 0.14
    assert mined(LISTS, RUN, share=0.6) == [[3, 4], []]  # 0.54, 0.36
    two = of([{0: 1.0, 3: 1.0}, {9: 1.0}])
    assert mined(two, RUN, margin=0.19, near_duplicate=None)[0] == [5, 2, 8, 4]  # of 1.0
    assert mined(two, RUN, margin=0.19, near_duplicate=None, against="lowest")[0] == [4]  # of 0.5
    below = run_of([{1: -1.0, 0: -1.1, 2: -1.5}, {3: 1.0}])
    assert mined(LISTS, below, share=0.75)[0] == [2]  # -1.25: as far below -1 as 0.75 is below 1


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("margin", [0.0, 0.1, 0.2, 0.5, 2.0]),
        ("share", [1.0, 0.9, 0.7, 0.2]),
        ("near_duplicate", [1.0, 0.8, 0.3, 0.01]),
        ("last_rank", [7, 5, 2, 1]),
        ("first_rank", [1, 2, 4, 7]),
    ],
)
def test_a_stricter_threshold_keeps_a_part_in_the_same_order(name, values):
    before = mined(LISTS, RUN)
    for value in values:
        now = mined(LISTS, RUN, **{name: value})
        for less, more in zip(now, before, strict=True):
            assert less == [row for row in more if row in less]
        before = now


def test_the_denoiser_is_monotone_and_reads_no_more_than_it_takes():
    scores = {text: float(i) for i, text in enumerate(DOCS)}
    before = mined(LISTS, RUN)
    for threshold in (20.0, 3.0, 2.5, 0.0, -1.0):
        now = mined(LISTS, RUN, Table(scores), reranker_above=threshold)
        assert now == [[row for row in one if row <= threshold] for one in before]
    reader = Table(scores)
    assert mined(LISTS, RUN, reader, reranker_above=2.0, k=1) == [[0], [2]]
    assert sorted(reader.read) == sorted([DOCS[0], DOCS[3], DOCS[2]])  # of the second query, 3 and then 2


def test_what_a_reranker_left_is_kept_block_by_block(monkeypatch):
    monkeypatch.setattr(mining, "BLOCK", 1)

    class Killed(Table):
        def score(self, pairs):
            if "query 1" in {query for query, _ in pairs}:
                raise KeyboardInterrupt
            return super().score(pairs)

    settings = Mining(k=None, choice="top", reranker_above=2.5)
    scores = {text: float(i) for i, text in enumerate(DOCS)}
    monkeypatch.setattr(Table, "contract", lambda self: {"reranker": "table", **self.scores}, raising=False)
    with pytest.raises(KeyboardInterrupt):
        mine(LISTS, RUN, settings, Killed(scores))
    reader, again = Table(scores), Table(scores)
    found = mine(LISTS, RUN, settings, reader)
    assert sorted(reader.read) == sorted([DOCS[3], DOCS[2], DOCS[1]])  # of the second query alone
    assert found.rows.tolist() == [0, 2, 2, 1] and found.offsets.tolist() == [0, 2, 4]
    assert found.counts["mining: read by the reranker"] == 4 + 3
    assert mine(LISTS, RUN, settings, again).counts == found.counts and not again.read
    for other in ({"reranker": Table({})}, {"mining": replace(settings, reranker_above=1.5)}, {"run": shifted(RUN)}):
        given = {"run": RUN, "mining": settings, "reranker": Table(scores)} | other
        mine(LISTS, **given)
        assert given["reranker"].read


def shifted(run: Run) -> Run:
    return replace(run, scores=run.scores - 1)


def test_with_random_choice_denoising_first_or_last_gives_the_same():
    scores = {text: float(i % 3) for i, text in enumerate(DOCS)}
    lists, run = of([{9: 1.0}]), run_of([{row: 1 - row / 20 for row in range(12)}])
    every = mine(lists, run, Mining(k=None, choice="random", reranker_above=1.0), Table(scores)).rows
    some = mine(lists, run, Mining(k=3, choice="random", reranker_above=1.0), Table(scores)).rows
    assert {*some.tolist()} < {*every.tolist()} and len(some) == 3


def test_the_probabilities_of_simans_sum_to_one_and_peak_at_the_positive_plus_b():
    scores = np.linspace(-3, 3, 61)
    p = simans(scores, positive=1.0, a=0.7, b=-0.5)
    assert p.sum() == pytest.approx(1) and scores[p.argmax()] == pytest.approx(0.5)
    np.testing.assert_allclose(p[40] / p[20], np.exp(-0.7 * (0.5**2 - 1.5**2)))  # scores 1 and -1
    assert simans(np.array([0.0, 900.0]), 0.0, 10.0, 0.0).tolist() == [1, 0]


def test_simans_draws_each_document_as_often_as_its_probability():
    lists, run = of([{9: 1.0}] * 4000), run_of([{9: 2.0, 0: 1.5, 2: 1.0, 3: 0.0}] * 4000)
    settings = {"k": 1, "choice": "simans", "simans": Mining().simans.__class__(a=1.0, b=-0.5)}
    drawn = np.bincount(mine(lists, run, Mining(**settings)).rows, minlength=4)[[0, 2, 3]] / 4000
    np.testing.assert_allclose(drawn, simans(np.array([1.5, 1.0, 0.0]), 2.0, 1.0, -0.5), atol=0.03)


def test_a_choice_by_chance_follows_seed_and_query_alone():
    one = mined(LISTS, RUN, choice="random", k=2)
    assert one == mined(LISTS, RUN, choice="random", k=2)
    alone = LISTS.take(np.array([1]))
    only = Run(["q1"], IDS, RUN.rows[1:], RUN.scores[1:])
    assert mined(alone, only, choice="random", k=2) == one[1:]
    assert any(mined(LISTS, RUN, choice="random", k=2, seed=seed) != one for seed in range(1, 9))


def test_what_was_dropped_and_what_is_short_is_counted():
    found = mine(LISTS, RUN, Mining(k=3, choice="top", margin=0.05, reranker_above=0.5), Table({DOCS[2]: 1.0}))
    counts = {what.removeprefix("mining: "): count for what, count in found.counts.items()}
    assert counts == {
        "mined negatives": 2 + 1,
        "queries with fewer than k": 2,
        "queries without results": 0,
        "queries without a positive in the run": 1,
        "positives in the window": 1,
        "listed already": 1,
        "of the id of a positive": 0,
        "candidates": 5 + 3,
        "scored too near the positive": 1 + 1,
        "near-duplicates of positives": 1,
        "read by the reranker": 3 + 2,
        "called relevant by the reranker": 1 + 1,
    }
    assert shares(found.counts) == {
        "share of near-duplicates of positives": 1 / 8,
        "share scored too near the positive": 2 / 8,
        "share the reranker calls relevant": 2 / 5,
    }


def test_mining_again_leaves_the_lists_as_they_were_and_puts_negatives_after_them():
    rows = LISTS.rows.copy()
    found = remine(LISTS, RUN, Mining(k=1, choice="top", label=-1.0))
    assert found.rows.tolist() == [1, 8, 0, 9, 3] and found.labels.tolist() == [2, 0, -1, 1, -1]
    assert found.offsets.tolist() == [0, 3, 5] and found.counts["there before"] == 1
    np.testing.assert_array_equal(LISTS.rows, rows)


def test_a_query_without_results_gets_no_negatives_and_is_counted():
    found = mine(LISTS, run_of([{0: 1.0}, {}]), Mining(margin=0.0))
    assert found.offsets.tolist() == [0, 1, 1] and found.counts["mining: queries without results"] == 1


def test_a_run_of_other_queries_or_documents_is_refused():
    with pytest.raises(ValueError, match="the run is of 2 queries from 'a' on, and the lists of 2 from 'q0' on"):
        mine(LISTS, replace(RUN, query_ids=["a", "b"]), Mining())
    other = DocIds.of([f"x{i:02}" for i in range(len(DOCS))])
    with pytest.raises(ValueError, match="search the corpus of the lists"):
        mine(LISTS, replace(RUN, docs=other), Mining())


def test_a_teachers_scores_do_not_get_gaps():
    with pytest.raises(ValueError, match="mine first"):
        remine(replace(LISTS, targets=LISTS.labels), RUN, Mining())


def test_a_reranker_needs_a_threshold_and_a_threshold_a_reranker():
    for settings, reranker in (({"reranker_above": 0.0}, None), ({}, Table({}))):
        with pytest.raises(ValueError, match="give both"):
            mine(LISTS, RUN, Mining(**settings), reranker)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_rank": 0}, "ranks 0 to 100"),
        ({"first_rank": 9, "last_rank": 8}, "ranks 9 to 8"),
        ({"k": 0}, "k is 0"),
        ({"share": 0}, "share is 0"),
        ({"margin": -1}, "margin is -1"),
        ({"near_duplicate": 2}, "near_duplicate is 2"),
        ({"label": 1.0}, "label 1.0 of negatives would be relevant"),
        ({"choice": "best"}, "choice is one of top, random, simans"),
        ({"against": "mean"}, "against is one of highest, lowest"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Mining(**settings)
