"""Fusion by ranks, scores and turns, against worked values and sums over dictionaries."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.composed import settings as made_with
from retrieval.corpus import Corpus, Document
from retrieval.ids import DocIds
from retrieval.protocols import FeedbackSource, Retriever
from retrieval.registry import find
from retrieval.retrievers.reciprocal_rank import ReciprocalRank
from retrieval.retrievers.round_robin import RoundRobin
from retrieval.retrievers.weighted_sum import WeightedSum
from retrieval.types import Dense, Queries, Run
from tests.tables import Shown, Table, lists

DOCS = [Document(name, "", f"text of {name}") for name in "abcdef"]
QUERY = Queries(["q"], ["words"])
FUSIONS = {"reciprocal_rank": ReciprocalRank, "weighted_sum": WeightedSum, "round_robin": RoundRobin}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Corpus.build(DOCS, tmp_path_factory.mktemp("fusion") / "corpus")


@pytest.fixture
def opened(corpus, tmp_path):
    def opened(fusion):
        fusion.open(corpus, tmp_path)
        return fusion

    return opened


def ranked(*ids):
    """A retriever that finds these in this order."""
    return Table({"q": {name: float(len(ids) - place) for place, name in enumerate(ids)}})


@pytest.mark.parametrize("name", FUSIONS)
def test_a_recipe_finds_it_by_its_file(name):
    assert find(Retriever, name) is FUSIONS[name] is find(FeedbackSource, name)


def test_reciprocal_ranks_give_the_worked_values(opened):
    fused = opened(ReciprocalRank([ranked("a", "b", "c"), ranked("b", "d", "a")])).retrieve(QUERY, 10)
    found = fused.to_dict()["q"]
    assert list(found) == ["b", "a", "d", "c"]
    assert list(found.values()) == pytest.approx([0.032522, 0.032266, 0.016129, 0.015873], abs=1e-6)


def test_ranks_from_0_are_ranks_from_1_with_one_less(opened):
    fused = opened(ReciprocalRank([ranked("a", "b", "c"), ranked("b", "d", "a")], k_rrf=59)).retrieve(QUERY, 10)
    assert list(fused.to_dict()["q"].values()) == pytest.approx([0.033060, 0.032796, 0.016393, 0.016129], abs=1e-6)


def test_the_hybrid_of_min_max_scores_gives_the_worked_values_and_ties_by_id(opened):
    dense = Table({"q": {"a": 0.8, "b": 0.6, "c": 0.4}}, "dense")
    sparse = Table({"q": {"b": 300, "a": 200, "d": 100}}, "sparse")
    run = opened(WeightedSum([dense, sparse], [0.5, 0.5])).retrieve(QUERY, 10)
    assert run.to_dict()["q"] == pytest.approx({"b": 0.75, "a": 0.75, "d": 0, "c": 0}, abs=1e-6)
    assert run.name == "dense+sparse+weightedsum"


def test_tied_sums_are_in_the_one_order(opened):
    first, second = Table({"q": {"a": 2, "b": 1, "c": 0}}), Table({"q": {"b": 2, "a": 1, "d": 0}})
    assert lists(opened(WeightedSum([first, second])).retrieve(QUERY, 10))["q"] == ["b", "a", "d", "c"]


@pytest.mark.parametrize("normalise", ["min_max", "z_score", "sum"])
def test_a_run_of_one_hit_gives_it_0_and_no_nan(opened, normalise):
    run = opened(WeightedSum([Table({"q": {"a": 7.0}})], normalise=normalise)).retrieve(QUERY, 10)
    assert run.to_dict() == {"q": {"a": 0.0}}


def test_turns_skip_what_was_taken_to_the_next_new_document(opened):
    run = opened(RoundRobin([ranked("a", "b", "c"), ranked("b", "d")])).retrieve(QUERY, 10)
    assert run.to_dict()["q"] == pytest.approx({"a": 1, "b": 1 / 2, "c": 1 / 3, "d": 1 / 4})


def test_turns_of_one_list_or_of_equal_lists_are_that_list(opened):
    for retrievers in ([ranked("c", "a", "b")], [ranked("c", "a", "b"), ranked("c", "a", "b")]):
        assert lists(opened(RoundRobin(retrievers)).retrieve(QUERY, 10)) == {"q": ["c", "a", "b"]}


def test_equal_runs_rank_as_one_of_them(opened):
    run = opened(ReciprocalRank([ranked("c", "a", "f", "b")] * 3)).retrieve(QUERY, 10)
    assert lists(run) == {"q": ["c", "a", "f", "b"]}


def by_dictionaries(fusion, tables, weights):
    """Sums per document, as the definitions have them; tables are query -> document -> score."""
    total = defaultdict(float)
    for table, weight in zip(tables, weights, strict=True):
        best = sorted(table, key=lambda name: (table[name], name), reverse=True)
        scores = np.array([table[name] for name in best])
        norms = {
            "rank": lambda s: 1 / (60 + np.arange(1, len(s) + 1)),
            "min_max": lambda s: (s - s.min()) / max(np.ptp(s), 1e-9),
            "z_score": lambda s: (s - s.mean()) / max(s.std(), 1e-9),
            "sum": lambda s: (s - s.min()) / max((s - s.min()).sum(), 1e-9),
            None: lambda s: s,
        }
        for name, value in zip(best, norms[fusion](scores) if len(best) else [], strict=True):
            total[name] += weight * value
    return total


table = st.dictionaries(st.sampled_from("abcdef"), st.integers(-4, 4).map(float), max_size=6)


@given(
    st.lists(st.lists(table, min_size=2, max_size=2), min_size=1, max_size=4),
    st.sampled_from(["rank", "min_max", "z_score", "sum", None]),
    st.lists(st.sampled_from([0.3, 1.0, 2.0]), min_size=4, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_sums_are_those_over_dictionaries(corpus, tmp_path_factory, tables, fusion, weights):
    queries, weights = Queries(["p", "q"], ["", ""]), weights[: len(tables)]
    parts = [Table(dict(zip("pq", both, strict=True))) for both in tables]
    if fusion == "rank":
        fused = ReciprocalRank(parts, weights=weights)
    else:
        fused = WeightedSum(parts, weights, normalise=fusion)
    fused.open(corpus, tmp_path_factory.getbasetemp())
    found = fused.retrieve(queries, 10).to_dict()
    for i, query in enumerate("pq"):
        wanted = by_dictionaries(fusion, [both[i] for both in tables], weights)
        assert found[query] == pytest.approx(dict(wanted), abs=1e-5)


@given(st.lists(st.permutations("abcdef").map(lambda one: one[:4]), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_turns_hold_every_document_once(corpus, tmp_path_factory, orders):
    fused = RoundRobin([ranked(*one) for one in orders])
    fused.open(corpus, tmp_path_factory.getbasetemp())
    found = lists(fused.retrieve(QUERY, 10))["q"]
    assert sorted(found) == sorted({name for one in orders for name in one})
    assert found[0] == orders[0][0]


@pytest.mark.parametrize("fusion", FUSIONS.values())
def test_queries_without_results_stay_and_no_queries_are_no_error(opened, fusion):
    fused = opened(fusion([ranked("a"), Table({})]))
    run = fused.retrieve(Queries(["q", "none"], ["", ""]), 3)
    assert lists(run) == {"q": ["a"], "none": []}
    assert len(fused.retrieve(Queries([], []), 3).query_ids) == 0
    assert lists(opened(fusion([Table({})])).retrieve(QUERY, 3)) == {"q": []}


@pytest.mark.parametrize("fusion", FUSIONS.values())
def test_each_retriever_is_read_to_the_depth_and_the_k_best_are_given(opened, fusion):
    first, second = ranked("a", "b", "c"), ranked("d", "e")
    run = opened(fusion([first, second], depth=2)).retrieve(QUERY, 3)
    assert first.depths == second.depths == [2]
    assert len(lists(run)["q"]) == 3 and "c" not in lists(run)["q"]


def test_a_retriever_that_is_named_twice_is_opened_and_counted_once(opened):
    one, other = Table({}, "one", {"truncated queries": 2}), Table({}, "other", {"truncated queries": 3})
    fused = opened(ReciprocalRank([one, other, one]))
    assert one.opened == 1
    about = {"name": "one", "truncated queries": 2}
    assert fused.provenance() == {
        "retrievers.0": about,
        "retrievers.1": {"name": "other", "truncated queries": 3},
        "retrievers.2": about,
        "truncated queries": 5,
    }


def test_feedback_is_that_of_the_first_retriever_that_has_any_with_the_texts_of_the_corpus(opened):
    fused = opened(RoundRobin([Table({}), Shown({}, "shown"), Shown({}, "later")]))
    _, found = fused.feedback(QUERY, fused.retrieve(QUERY, 3))
    assert found.terms(np.array([0])) == [{"shown": 1}]
    assert found.texts(np.array([2, 0])) == ["text of c", "text of a"]
    plain = opened(RoundRobin([Table({})]))
    own, found = plain.feedback(QUERY, plain.retrieve(QUERY, 3))
    assert own is QUERY and found.terms is None and found.texts(np.array([1])) == ["text of b"]


def test_a_retriever_over_documents_of_its_own_is_refused(opened):
    class Own(Table):
        def retrieve(self, queries, k):
            docs = DocIds.of(["x"])
            return Run.ordered(queries.ids, docs, np.zeros((1, 1), np.int32), np.ones((1, 1), np.float32), "own")

    with pytest.raises(ValueError, match="own finds documents of its own, not those of .*corpus: leave it out"):
        opened(ReciprocalRank([ranked("a"), Own({})])).retrieve(QUERY, 3)


class Made:
    def __init__(self, name):
        self.name = name

    def contract(self):
        return {"name": self.name}


def reader(name):
    one = Table({"q": {"a": 1.0}})
    one.reads, one.encoder = ("representations", "texts"), Made(name)
    return one


def test_vectors_of_one_encoder_are_not_searched_by_the_retriever_of_another(opened):
    moved = Queries(["q"], ["words"], representations=Dense(np.ones((1, 2), np.float32)))
    opened(ReciprocalRank([reader("x"), reader("x"), ranked("a")])).retrieve(moved, 3)
    fused = opened(ReciprocalRank([reader("x"), reader("y")]))
    assert fused.reads == ("representations", "texts")
    fused.retrieve(QUERY, 3)
    with pytest.raises(ValueError, match="carry representations, and the retrievers that read them have another enc"):
        fused.retrieve(moved, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReciprocalRank([]), "fusion needs at least 1 retriever"),
        (lambda: ReciprocalRank([Table({})], k_rrf=-1), "k_rrf is -1; it is 0 or more"),
        (lambda: RoundRobin([Table({})], depth=0), "depth is 0; each retriever gives at least 1 document"),
        (lambda: WeightedSum([Table({})], [1.0, 2.0]), "2 weights for 1 retrievers: give each one"),
        (lambda: WeightedSum([Table({})], [float("nan")]), r"weights are numbers, not \[nan\]"),
        (lambda: WeightedSum([Table({})], normalise="minmax"), "normalise is min_max, z_score, sum or None, not 'minm"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_a_retriever_was_made_with_is_read_from_its_arguments():
    fused = ReciprocalRank([Table({"q": {"a": 1.0}}, "one")], weights=[2.0])
    about = made_with(fused)
    assert about["type"] == "retrieval.retrievers.reciprocal_rank:ReciprocalRank"
    assert (about["k_rrf"], about["weights"], about["depth"]) == (60, [2.0], 1000)
    assert about["retrievers"][0]["found"] == {"q": {"a": 1.0}}


def test_an_argument_that_is_not_kept_is_said():
    class Forgetful:
        def __init__(self, depth=3):
            self.other = depth

    with pytest.raises(ValueError, match="Forgetful has no contract.., nor does it keep its argument 'depth'"):
        made_with(Forgetful())
