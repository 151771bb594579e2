"""Training groups, batches of them, and the labels and mask of a batch."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.corpus import Corpus
from retrieval.types import Qrels, Queries
from training.batches import Batches, labels_and_mask
from training.collections import Group, Groups
from training.sources.judged import lists_of

QUERIES = Queries(["q1", "q2", "q3", "q4"], ["one", "two", "three", "four"])
QRELS = Qrels.from_dict(
    {
        "q1": {"d0": 3, "d1": 2, "d2": 1, "d3": 0},
        "q2": {"d4": 1},
        "q3": {"d5": 0, "d6": 0},  # no positive
        "q4": {"d7": 2, "d8": 1, "d9": -1, "gone": 1},
        "q5": {"d0": 1},  # no such query
    }
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    documents = ((f"d{n}", f"title {n}", f"text {n}") for n in range(20))
    return Corpus.build(documents, tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture(scope="module")
def lists(corpus):
    return lists_of(corpus, QUERIES, QRELS)


def listed(group: Group) -> dict[int, float]:
    return dict(zip(group["rows"].tolist(), group["labels"].tolist(), strict=True))


def epochs(groups: Groups, number: int, count: int) -> list[Group]:
    return [groups.group(number, epoch) for epoch in range(count)]


# ---- groups ------------------------------------------------------------------------------------------------------


def test_what_is_left_out_is_counted(lists):
    groups = Groups(lists, size=2)
    assert len(groups) == 3
    assert groups.counts == {
        "groups": 3,
        "queries without enough positives": 1,
        "queries with too few passages": 0,
        "judgements without query": 1,
        "judgements without document": 1,
        "groups that repeat passages": 1,
    }


def test_a_group_holds_all_levels_of_its_query(lists):
    group = Groups(lists, size=4, relevant=3)[0]
    assert (group["query_id"], group["query"]) == ("q1", "one")
    assert listed(group) == {0: 3, 1: 2, 2: 1, 3: 0}
    assert group["rows"].dtype == np.int32 and group["labels"].dtype == np.float32
    assert group["rows"][0] == 0
    assert group["known"].tolist() == [0]


def test_grades_below_zero_are_label_zero(lists):
    assert listed(Groups(lists, size=3)[2]) == {7: 2, 8: 1, 9: 0}


def test_binary_labels_are_one_from_relevant_on(lists):
    group = Groups(lists, size=4, relevant=2, graded=False)[0]
    assert listed(group) == {0: 1, 1: 1, 2: 0, 3: 0}


def test_positives_come_first_and_negatives_before_further_positives(lists):
    groups = Groups(lists, size=2)
    for group in epochs(groups, 0, 6):
        assert group["labels"][0] > 0
        assert group["rows"][1] == 3


def test_every_positive_has_its_turn(lists):
    first = [group["rows"][0] for group in epochs(Groups(lists, size=2), 0, 6)]
    assert sorted(first[:3]) == [0, 1, 2] == sorted(first[3:])


def test_every_negative_has_its_turn(corpus):
    qrels = Qrels.from_dict({"q1": {"d0": 1} | {f"d{n}": 0 for n in range(1, 7)}})
    rows = [group["rows"][1:] for group in epochs(Groups(lists_of(corpus, QUERIES, qrels), size=3), 0, 3)]
    assert sorted(np.concatenate(rows)) == [1, 2, 3, 4, 5, 6]


def test_too_few_judged_passages_repeat_cyclically(lists):
    groups = Groups(lists, size=5)
    rows = groups[0]["rows"]
    assert sorted(rows[:4]) == [0, 1, 2, 3] and rows[4] == rows[0]
    assert groups[1]["rows"].tolist() == [4] * 5
    assert groups.counts["groups that repeat passages"] == 3


def test_random_negatives_are_documents_not_judged(lists):
    groups = Groups(lists, size=12, negatives="random")
    assert groups.counts["groups filled at random"] == 3
    drawn = set()
    for group in epochs(groups, 0, 30):
        rows = group["rows"]
        assert len(set(rows.tolist())) == 12
        assert group["labels"][0] > 0 and not group["labels"][1:].any()
        assert rows[1] == 3 and not {0, 1, 2} & set(rows[1:].tolist())
        drawn |= set(rows[2:].tolist())
    assert drawn == set(range(4, 20))


def test_no_negatives_lists_positives_only(lists):
    groups = Groups(lists, size=3, negatives="none")
    assert listed(groups[0]) == {0: 3, 1: 2, 2: 1}
    assert groups[2]["rows"].tolist() in ([7, 8, 7], [8, 7, 8])


def test_queries_with_fewer_positives_than_asked_are_left_out(lists):
    groups = Groups(lists, size=3, positives=3)
    assert [group["query_id"] for group in (groups[0],)] == ["q1"] and len(groups) == 1
    assert groups.counts["queries without enough positives"] == 3


def test_a_group_depends_on_seed_and_epoch_and_not_on_the_order_of_access(lists):
    def all_rows(groups, order):
        return {n: groups[n]["rows"].tolist() for n in order}

    groups, same = (Groups(lists, size=6, negatives="random", seed=3) for _ in range(2))
    groups.set_epoch(5)
    same.set_epoch(5)
    assert all_rows(groups, [0, 1, 2]) == all_rows(same, [2, 0, 1])
    same.set_epoch(6)
    assert all_rows(groups, [0, 1, 2]) != all_rows(same, [0, 1, 2])
    other = Groups(lists, size=6, negatives="random", seed=4)
    assert all_rows(groups, [0, 1, 2]) != {n: other.group(n, 5)["rows"].tolist() for n in range(3)}


def test_the_order_of_judgements_does_not_matter_and_the_last_of_repeated_ones_wins(corpus):
    back = np.arange(len(QRELS))[::-1].copy()
    ordered = back[np.argsort(QRELS.query[back], kind="stable")]
    turned = Qrels(QRELS.query_ids, QRELS.query[ordered], QRELS.doc_ids.take(ordered), QRELS.grades[ordered])
    one, two = (Groups(lists_of(corpus, QUERIES, qrels), size=3) for qrels in (QRELS, turned))
    assert [listed(one[n]) for n in range(3)] == [listed(two[n]) for n in range(3)]
    assert one.settings() == two.settings()
    twice = Qrels(("q1",), np.zeros(2, np.int32), QRELS.doc_ids.take([0, 0]), np.array([1, 2], np.int32))
    groups = Groups(lists_of(corpus, QUERIES, twice), size=1)
    assert listed(groups[0]) == {0: 2} and groups.counts["passages listed again"] == 1


def test_settings_tell_different_data_apart(corpus, lists):
    plain = Groups(lists, size=2).settings()
    texts = Queries(QUERIES.ids, ["uno", *QUERIES.texts[1:]])
    grades = Qrels(QRELS.query_ids, QRELS.query, QRELS.doc_ids, np.maximum(QRELS.grades, 1))
    for other in (
        Groups(lists, size=3),
        Groups(lists_of(corpus, texts, QRELS), size=2),
        Groups(lists_of(corpus, QUERIES, grades), size=2),
    ):
        assert other.settings() != plain


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": 2, "positives": 3}, "group of 2 passages cannot hold 3"),
        ({"size": 2, "relevant": 0}, "labels above 0 can be"),
        ({"size": 2, "negatives": "hard"}, "choose from judged, random, none"),
        ({"size": 2, "short": "pad"}, "choose from repeat, drop"),
        ({"size": 2, "positives": 0, "negatives": "none"}, "drawn from the whole list"),
        ({"size": 2, "relevant": 4}, "none of 4 queries has 1 passages labelled 4 or higher"),
        ({"size": 19, "negatives": "random"}, "20 passages are too few"),
    ],
)
def test_groups_that_cannot_be_are_errors(lists, wrong, says):
    with pytest.raises(ValueError, match=says):
        Groups(lists, **wrong)


def test_a_group_past_the_last_is_an_error_so_that_iteration_ends(lists):
    groups = Groups(lists, size=1)
    assert len(list(groups)) == 3


def test_with_no_place_for_positives_a_group_is_drawn_from_the_whole_list_in_turn(corpus):
    qrels = Qrels.from_dict({"q1": {f"d{n}": n % 4 for n in range(7)}})
    groups = Groups(lists_of(corpus, QUERIES, qrels), size=3, positives=0)
    turns = np.concatenate([group["rows"] for group in epochs(groups, 0, 7)])
    assert sorted(turns[:7]) == list(range(7)) == sorted(turns[7:14]) == sorted(turns[14:])
    assert all(listed(group) == {row: row % 4 for row in group["rows"]} for group in epochs(groups, 0, 7))
    assert set(groups[0]["known"].tolist()) == {1, 2, 3, 5, 6}


def test_a_query_without_positives_stays_where_none_is_asked_for(lists):
    groups = Groups(lists, size=2, positives=0)
    assert [group["query_id"] for group in groups] == ["q1", "q2", "q3", "q4"]
    assert listed(groups[2]) == {5: 0, 6: 0} and groups[2]["known"].tolist() == []


def test_a_list_too_short_is_repeated_or_left_out_and_both_are_counted(lists):
    repeated = Groups(lists, size=4)
    assert repeated.counts["groups that repeat passages"] == 2 and repeated.counts["queries with too few passages"] == 0
    dropped = Groups(lists, size=4, short="drop")
    assert [group["query_id"] for group in dropped] == ["q1"]
    assert dropped.counts["groups that repeat passages"] == 0 and dropped.counts["queries with too few passages"] == 2
    positives = Groups(lists, size=3, negatives="none", short="drop")
    assert [group["query_id"] for group in positives] == ["q1"]
    assert len(Groups(lists, size=4, negatives="random", short="drop")) == 3  # filled, so none is short


def test_where_all_lists_are_too_short_the_error_says_so(lists):
    with pytest.raises(ValueError, match="and 5 in all: .*'queries with too few passages': 3"):
        Groups(lists, size=5, short="drop")


def test_labels_outside_the_declared_levels_are_refused_with_query_and_label(lists):
    assert len(Groups(lists, size=2, levels=[-1, 0, 1, 2, 3])) == 3
    with pytest.raises(ValueError, match=r"query 'q1' has a passage labelled 2, which is none of the levels 0, 1, 3 "):
        Groups(lists, size=2, levels=[0, 1, 3])
    with pytest.raises(ValueError, match=r"query 'q4' has a passage labelled -1, .*\(1 passages in all\)"):
        Groups(lists, size=2, levels=[0, 1, 2, 3])


def test_a_teachers_scores_go_with_their_passages_and_labels_say_what_is_relevant(lists):
    scored = replace(lists, targets=lists.rows.astype(np.float32) / 10)
    groups = Groups(scored, size=3)
    for group in epochs(groups, 0, 4):
        np.testing.assert_array_equal(group["targets"], np.float32(group["rows"]) / np.float32(10))
        assert group["labels"][0] > 0 and group["known"].tolist() == [0, 1, 2]
    assert groups.settings() != Groups(lists, size=3).settings()
    with pytest.raises(ValueError, match="passages drawn at random have no teacher's score"):
        Groups(scored, size=3, negatives="random")


# ---- batches -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(corpus):
    queries = Queries([f"q{n}" for n in range(7)], [f"query {n}" for n in range(7)])
    qrels = Qrels.from_dict({f"q{n}": {f"d{n}": 1, "d19": 0} for n in range(7)})
    return Groups(lists_of(corpus, queries, qrels), size=2)


def test_an_epoch_of_batches_takes_each_query_at_most_once(many):
    batches = Batches(many, size=3)
    assert batches.per_epoch == 2
    ids = [[group["query_id"] for number in (2 * e, 2 * e + 1) for group in batches[number]] for e in range(8)]
    assert all(len(set(epoch)) == 6 for epoch in ids)
    assert len(set(map(tuple, ids))) == 8
    assert {query for epoch in ids for query in epoch} == {f"q{n}" for n in range(7)}


def test_a_batch_follows_from_its_number_alone(many):
    straight, jumping = Batches(many, size=3, seed=1), Batches(many, size=3, seed=1)
    expected = [[group["query_id"] for group in straight[number]] for number in range(6)]
    for number in (5, 0, 3):
        assert [group["query_id"] for group in jumping[number]] == expected[number]


def test_too_few_groups_for_a_batch_are_an_error(many):
    with pytest.raises(ValueError, match="7 training groups do not make a batch of 8: lower batch_size"):
        Batches(many, size=8)


def drawn(groups: Groups, epoch: int) -> list[tuple[str, tuple[int, ...]]]:
    """What an epoch holds, in its order."""
    batches = Batches(groups, size=1, seed=2)
    numbers = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
    return [(group["query_id"], tuple(group["rows"].tolist())) for number in numbers for group in batches[number]]


@given(st.lists(st.floats(0, 3), min_size=7, max_size=7).filter(lambda times: sum(times) >= 1))
@settings(max_examples=40, deadline=None)
def test_each_query_comes_as_often_as_it_should_rounded_down_or_up(many, times):
    groups = Groups(replace(many.lists, times=np.array(times)), size=2)
    for epoch in range(3):
        names = [name for name, _ in drawn(groups, epoch)]
        assert len(names) == int(sum(times) + 1e-6)  # the same in every epoch
        assert all(int(one) <= names.count(f"q{n}") <= int(np.ceil(one)) for n, one in enumerate(times))


def test_over_many_epochs_the_times_add_up(many):
    times = np.array([0.25, 0.25, 0.5, 1, 1.5, 2, 0.5])
    groups = Groups(replace(many.lists, times=times), size=2)
    names = [name for epoch in range(800) for name, _ in drawn(groups, epoch)]
    found = np.array([names.count(f"q{n}") for n in range(7)]) / 800
    np.testing.assert_allclose(found, times, atol=5 * 0.5 / 800**0.5)
    assert len(names) == 6 * 800


def test_a_query_that_comes_twice_in_an_epoch_has_other_passages_the_second_time(corpus):
    qrels = Qrels.from_dict({"q1": {f"d{n}": 1 for n in range(4)}})
    lists = replace(lists_of(corpus, QUERIES.take([0]), qrels), times=np.array([2.0]))
    rows = [drawn(Groups(lists, size=1), epoch) for epoch in range(2)]
    assert sorted(row for epoch in rows for _, (row,) in epoch) == [0, 1, 2, 3]


def test_once_each_is_what_no_times_mean(many):
    once = Groups(replace(many.lists, times=np.ones(7)), size=2)
    for epoch in range(3):
        assert sorted(drawn(once, epoch)) == sorted(drawn(many, epoch))


def test_times_that_make_no_batch_are_an_error(many):
    with pytest.raises(ValueError, match="2 training groups do not make a batch of 3"):
        Batches(Groups(replace(many.lists, times=np.full(7, 0.4)), size=2), size=3)
    with pytest.raises(ValueError, match="a number of at least 0"):
        replace(many.lists, times=np.array([1, 1, 1, 1, 1, 1, np.nan]))


# ---- labels and mask ---------------------------------------------------------------------------------------------


def group(rows, labels, known) -> Group:
    return Group(
        query_id="q",
        query="text",
        rows=np.array(rows, np.int32),
        labels=np.array(labels, np.float32),
        known=np.array(known, np.int32),
    )


def test_labels_and_mask_of_a_batch_made_by_hand():
    batch = [
        group([1, 2, 3], [3, 1, 0], known=[1, 2, 9]),
        group([4, 3, 1], [2, 0, 0], known=[4]),  # lists two documents of the first
        group([9, 6, 9], [1, 0, 1], known=[9, 4]),  # repeats one; knows 4 to be relevant; 9 is relevant to the first
    ]
    labels, mask = labels_and_mask(batch)
    assert labels.dtype == np.float32 and mask.dtype == bool
    assert labels.tolist() == [
        [3, 1, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 2, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0, 1],
    ]
    #    1  2  3    4  3  1    9  6  9
    assert mask.astype(int).tolist() == [
        [1, 1, 1, 1, 0, 0, 0, 1, 0],
        [0, 1, 0, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 0, 1, 1, 0],
    ]


def test_labels_and_mask_agree_with_the_definition_cell_by_cell():
    rng = np.random.default_rng(0)
    for _ in range(50):
        batch = [
            group(
                rows := rng.integers(8, size=3), rng.integers(3, size=3), np.unique([rows[0], *rng.integers(8, size=2)])
            )
            for _ in range(4)
        ]
        labels, mask = labels_and_mask(batch)
        columns = [(owner, row) for owner, member in enumerate(batch) for row in member["rows"].tolist()]
        for query, member in enumerate(batch):
            for place, (owner, row) in enumerate(columns):
                earlier = [c for c in columns[:place] if c[1] == row]
                if owner == query:
                    assert labels[query, place] == member["labels"][place - 3 * query]
                    assert mask[query, place] == (not [c for c in earlier if c[0] == query])
                else:
                    assert labels[query, place] == 0
                    assert mask[query, place] == (
                        not earlier and row not in member["rows"] and row not in member["known"]
                    )


def test_without_the_batch_a_query_sees_its_own_list_alone():
    batch = [group([1, 2, 1], [3, 0, 3], known=[1, 7]), group([1, 4, 5], [1, 0, 0], known=[1, 2])]
    labels, mask = labels_and_mask(batch, in_batch=False)
    assert labels.tolist() == [[3, 0, 3], [1, 0, 0]] and labels.dtype == np.float32
    assert mask.tolist() == [[True, True, False], [True, True, True]]


def test_labels_are_the_teachers_scores_where_there_are_any():
    one = group([1, 2], [3, 0], known=[1]) | {"targets": np.array([-1.5, 2.5], np.float32)}
    other = group([3, 4], [1, 0], known=[3]) | {"targets": np.array([0.5, 0.25], np.float32)}
    assert labels_and_mask([one, other])[0].tolist() == [[-1.5, 2.5, 0, 0], [0, 0, 0.5, 0.25]]
    assert labels_and_mask([one, other], in_batch=False)[0].tolist() == [[-1.5, 2.5], [0.5, 0.25]]
