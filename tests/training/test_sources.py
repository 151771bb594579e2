"""Sources made of others, of judgements, and of ranked documents."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.collection import write_collection
from retrieval.corpus import Corpus
from retrieval.datasets.folder import Folder
from retrieval.lists import Joined, Lists, joined
from retrieval.types import Queries
from training.sources.judged import Judged
from training.sources.mixture import Mixture
from training.sources.ranked import Ranked
from training.sources.selected import Selected
from training.sources.union import Union


class Given:
    """A source with lists given beforehand."""

    def __init__(self, lists: Lists):
        self.given = lists

    def lists(self) -> Lists:
        return self.given


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    return [
        Corpus.build(((f"{name}{n}", "", f"text {name}{n}") for n in range(size)), folder / name)
        for name, size in (("a", 9), ("b", 5), ("c", 7))
    ]


def of(corpus, entries: dict[str, dict[int, float]]) -> Lists:
    """Lists from query id -> row -> label."""
    query = np.repeat(np.arange(len(entries)), [len(one) for one in entries.values()])
    rows = np.array([row for one in entries.values() for row in one], np.int32)
    labels = np.array([label for one in entries.values() for label in one.values()], np.float32)
    return Lists.of(Queries(list(entries), [f"text of {name}" for name in entries]), corpus, query, rows, labels)


def entries(lists: Lists) -> dict[str, list[tuple[str, float]]]:
    """Query id -> texts and labels of its list, in order."""
    texts = lists.passages.texts(lists.rows)
    spans = zip(lists.queries.ids, lists.offsets[:-1], lists.offsets[1:], strict=True)
    return {name: list(zip(texts[a:b], lists.labels[a:b].tolist(), strict=True)) for name, a, b in spans}


EXAMPLE = {"q1": {3: 3, 1: 0, 2: 2, 0: 2, 4: 1.5}, "q2": {5: 0, 6: 1}, "q3": {7: 0}}


def rows_of(source) -> dict[str, list[int]]:
    lists = source.lists()
    return {
        name: lists.rows[lists.offsets[place] : lists.offsets[place + 1]].tolist()
        for place, name in enumerate(lists.queries.ids)
    }


@pytest.fixture(scope="module")
def example(corpora):
    return Given(of(corpora[0], EXAMPLE))


# ---- selected ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        ({}, {"q1": [3, 1, 2, 0, 4], "q2": [5, 6], "q3": [7]}),
        ({"min_label": 2}, {"q1": [3, 2, 0]}),  # inclusive
        ({"max_label": 2}, {"q1": [1, 4], "q2": [5, 6], "q3": [7]}),  # exclusive
        ({"min_label": 1, "max_label": 2}, {"q1": [4], "q2": [6]}),
        ({"keep": "top", "k": 2}, {"q1": [3, 2], "q2": [5, 6], "q3": [7]}),  # of equals the first
        ({"keep": "bottom", "k": 2}, {"q1": [1, 4], "q2": [5, 6], "q3": [7]}),
        ({"keep": "first", "k": 1}, {"q1": [3], "q2": [5], "q3": [7]}),
        ({"queries": ["q3", "q2"]}, {"q2": [5, 6], "q3": [7]}),
        ({"queries": ["q2", "q3"], "min_label": 1}, {"q2": [6]}),
        ({"share": 1.0}, {"q1": [3, 1, 2, 0, 4], "q2": [5, 6], "q3": [7]}),
    ],
)
def test_a_selection_made_by_hand(example, arguments, rows):
    assert rows_of(Selected(example, **arguments)) == rows


@pytest.mark.parametrize(
    ("relabel", "labels"),
    [(3, [3] * 5), ("floor", [3, 0, 2, 2, 1]), ("ceil", [3, 0, 2, 2, 2]), (None, [3, 0, 2, 2, 1.5])],
)
def test_new_labels_come_after_the_choice(example, relabel, labels):
    lists = Selected(example, relabel=relabel).lists()
    assert lists.labels[:5].tolist() == labels and lists.labels.dtype == np.float32
    assert Selected(example, max_label=1, relabel=3).lists().labels.tolist() == [3, 3, 3]
    assert example.given.labels[:5].tolist() == [3, 0, 2, 2, 1.5]


def test_what_was_left_out_is_counted(example):
    lists = Selected(Selected(example, queries=["q1", "q3", "gone"]), min_label=1, keep="top", k=3).lists()
    assert lists.counts == {
        "queries asked for that are not there": 1,
        "queries not asked for": 1,
        "passages labelled outside [1, inf)": 2,
        "queries without a passage": 1,
        "passages not among the top 3": 1,
    }


def test_an_empty_selection_says_which_step_left_out_how_many(example):
    nested = Selected(Selected(example, max_label=2), min_label=2)
    says = (
        r"none of 3 .*: passages labelled outside \[-inf, 2\) 3, passages labelled outside \[2, inf\) 5, queries .* 3"
    )
    with pytest.raises(ValueError, match=says):
        nested.lists()
    with pytest.raises(ValueError, match="none of 3 .*'queries asked for that are not there': 1"):
        Selected(example, queries=["gone"]).lists()


def test_queries_may_come_from_a_file(example, tmp_path):
    (tmp_path / "ids.txt").write_text("q2\n\n q3 \n")
    assert list(rows_of(Selected(example, queries=tmp_path / "ids.txt"))) == ["q2", "q3"]
    with pytest.raises(FileNotFoundError, match="no file .*none.txt"):
        Selected(example, queries=tmp_path / "none.txt").lists()


def test_queries_drawn_at_random_are_as_many_as_asked(corpora):
    source = Given(of(corpora[0], {f"q{n}": {n % 9: 1} for n in range(40)}))
    assert len(Selected(source, number=7).lists()) == 7 and len(Selected(source, share=0.3).lists()) == 12
    five, seven = (list(rows_of(Selected(source, number=number))) for number in (5, 7))
    assert set(five) < set(seven) and five == sorted(five, key=lambda name: int(name[1:]))
    assert list(rows_of(Selected(source, number=5, seed=1))) != five
    with pytest.raises(ValueError, match="41 queries are wanted and there are 40"):
        Selected(source, number=41).lists()


def test_a_random_choice_takes_every_passage_as_often(corpora):
    source = Given(of(corpora[0], {f"q{n}": dict.fromkeys(range(9), 1) for n in range(600)}))
    rows = Selected(source, keep="random", k=3).lists().rows
    assert len(rows) == 1800
    assert abs(np.bincount(rows) - 200).max() < 5 * (600 * 2 / 9) ** 0.5


def test_targets_and_times_stay_with_their_passages_and_queries(example):
    lists = replace(example.given, targets=example.given.rows.astype(np.float32), times=np.array([1.0, 2.0, 3.0]))
    some = Selected(Given(lists), max_label=1).lists()
    assert some.rows.tolist() == [1, 5, 7] == some.targets.tolist() and some.times.tolist() == [1, 2, 3]
    assert Selected(Given(lists), queries=["q2"]).lists().times.tolist() == [2]


LISTS = st.dictionaries(
    st.sampled_from([f"q{n}" for n in range(5)]),
    st.dictionaries(st.integers(0, 8), st.sampled_from([0, 0.5, 1, 2, 3]), min_size=1),
    min_size=1,
)


@given(LISTS, st.sampled_from(["top", "bottom", "random", "first"]), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_k_a_list_keep_order_grow_with_k_and_do_nothing_twice(corpora, made, keep, k, seed):
    source = Given(of(corpora[0], made))
    all_rows, once = rows_of(source), Selected(source, keep=keep, k=k, seed=seed)
    some, more = rows_of(once), rows_of(Selected(source, keep=keep, k=k + 1, seed=seed))
    for name, rows in some.items():
        assert len(rows) == min(k, len(all_rows[name])) and set(rows) <= set(more[name])
        assert [row for row in all_rows[name] if row in rows] == rows
    assert rows_of(Selected(once, keep=keep, k=k, seed=seed)) == some


@given(LISTS, st.sampled_from([0.5, 1, 2]))
@settings(max_examples=30, deadline=None)
def test_two_ranges_of_labels_part_the_passages(corpora, made, cut):
    source = Given(of(corpora[0], made))
    low, high = ([] for _ in range(2))
    for found, arguments in ((low, {"max_label": cut}), (high, {"min_label": cut})):
        try:
            lists = Selected(source, **arguments).lists()
        except ValueError:
            continue
        found += [(lists.queries.ids[q], int(row)) for q, row in zip(lists.query, lists.rows, strict=True)]
    assert sorted(low + high) == sorted((name, row) for name, one in made.items() for row in one)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"keep": "best"}, "choose from all, top, bottom, random, first"),
        ({"keep": "top"}, '"all" takes no k'),
        ({"k": 2}, '"all" takes no k'),
        ({"keep": "top", "k": 0}, "at least 1"),
        ({"min_label": 2, "max_label": 2}, "no label is from 2 on and below 2"),
        ({"share": 0.5, "number": 2}, "give one of them"),
        ({"share": 1.5}, r"a share is in \(0, 1\]"),
        ({"number": 0}, "a number at least 1"),
    ],
)
def test_selections_that_cannot_be_are_errors(example, arguments, says):
    with pytest.raises(ValueError, match=says):
        Selected(example, **arguments)


# ---- union -------------------------------------------------------------------------------------------------------


def test_lists_of_the_same_query_are_joined_and_the_last_label_counts(corpora):
    a, b, _ = corpora
    one = of(a, {"q1": {0: 3, 1: 0}, "q2": {2: 1}})
    two = of(b, {"q3": {4: 1}, "q1": {0: 2}})
    three = of(a, {"q1": {1: 1, 5: 0}})
    lists = Union([Given(one), Given(two), Given(three)]).lists()
    assert entries(lists) == {
        "q1": [("text a0", 3), ("text a1", 1), ("text b0", 2), ("text a5", 0)],
        "q2": [("text a2", 1)],
        "q3": [("text b4", 1)],
    }
    assert len(lists.passages) == len(a) + len(b)  # the same corpus is not joined twice
    assert lists.counts == {"passages listed again": 1}


@given(LISTS, LISTS, LISTS)
@settings(max_examples=30, deadline=None)
def test_it_does_not_matter_which_of_three_are_joined_first(corpora, first, second, third):
    fit = {name: {row % 5: label for row, label in one.items()} for name, one in second.items()}
    one, two, three = Given(of(corpora[0], first)), Given(of(corpora[1], fit)), Given(of(corpora[0], third))
    left, right = Union([Union([one, two]), three]).lists(), Union([one, Union([two, three])]).lists()
    assert entries(left) == entries(right) == entries(Union([one, two, three]).lists())


def test_an_id_with_two_texts_is_an_error(corpora):
    one = of(corpora[0], {"q1": {0: 1}})
    other = replace(one, queries=Queries(["q1"], ["something else"]))
    with pytest.raises(ValueError, match="query 'q1' is 'text of q1' in one source and 'something else' in another"):
        Union([Given(one), Given(other)]).lists()


def test_targets_are_joined_where_all_have_them(corpora):
    one = of(corpora[0], {"q1": {0: 1, 1: 0}})
    scored = replace(one, targets=np.array([5, 6], np.float32))
    again = replace(of(corpora[0], {"q1": {1: 1, 2: 0}}), targets=np.array([7, 8], np.float32))
    assert Union([Given(scored), Given(again)]).lists().targets.tolist() == [5, 7, 8]
    for kind in (Union, lambda sources: Mixture(sources, [1, 1])):
        with pytest.raises(ValueError, match="score them all, or none"):
            kind([Given(scored), Given(of(corpora[0], {"q2": {0: 1}}))]).lists()
    with pytest.raises(ValueError, match="no sources"):
        Union([])


def test_joined_passages_are_those_of_their_parts_in_any_order_of_rows(corpora):
    a, b, c = corpora
    both, all_three = joined([a, b]), joined([c, joined([b, a]), a])
    assert [len(part) for part in all_three.parts] == [7, 5, 9] and len(all_three) == 21
    rows = np.array([13, 0, 8, 9, 0, 13], np.int32)
    assert both.texts(rows) == ["text b4", "text a0", "text a8", "text b0", "text a0", "text b4"]
    assert all_three.texts(all_three.moved(rows, both)) == both.texts(rows)
    assert joined([a]).texts(all_three.moved(np.array([2]), a) - 12) == ["text a2"]
    assert len({Joined([a, b]).fingerprint, Joined([b, a]).fingerprint, both.fingerprint}) == 2


# ---- mixture -----------------------------------------------------------------------------------------------------


def test_each_source_has_its_share_of_an_epoch(corpora):
    few = of(corpora[0], {"q1": {0: 1}, "q2": {1: 1}})
    many = of(corpora[1], {f"w{n}": {n % 5: 1, (n + 1) % 5: 0} for n in range(6)})
    lists = Mixture([Given(few), Given(many)], [1, 3]).lists()
    np.testing.assert_allclose(lists.times, [1, 1, *[1] * 6])
    even = Mixture([Given(few), Given(many)], [2, 2]).lists()
    np.testing.assert_allclose(even.times, [2, 2, *[4 / 6] * 6])
    assert entries(even) == entries(few) | entries(many)
    nested = Mixture([Given(even), Given(of(corpora[2], {"v": {0: 1}}))], [8, 1]).lists()
    np.testing.assert_allclose(nested.times, [*even.times, 1])
    with pytest.raises(ValueError, match="make a mixture of unions"):
        Union([Given(even)]).lists()


def test_a_query_of_two_sources_has_no_place_in_a_mixture(corpora):
    one = Given(of(corpora[0], {"q1": {0: 1}}))
    with pytest.raises(ValueError, match="query 'q1' is in two of the sources: a union makes one list"):
        Mixture([one, one], [1, 1]).lists()
    for weights in ([1], [1, 0], [1, float("nan")]):
        with pytest.raises(ValueError, match="weights"):
            Mixture([one, one], weights)


# ---- judged and ranked -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection") / "toy"
    qrels = {
        "train": {"q1": {"d3": 1, "d1": 2}, "q2": {"d0": 1}, "q3": {"d5": 0}},
        "dev": {"q2": {"d0": 1}},
        "test": {"q3": {"d4": 1}, "q1": {"d1": 1}},
    }
    documents = [(f"d{n}", "", f"text {n}") for n in range(6)]
    write_collection(folder, documents, {f"q{n}": f"text of q{n}" for n in (1, 2, 3)}, qrels)
    return Folder(str(folder))


def test_judged_documents_come_in_the_order_of_the_judgements(dataset):
    assert rows_of(Judged(dataset)) == {"q1": [3, 1], "q2": [0], "q3": [5]}
    assert Judged(dataset).lists().labels.tolist() == [1, 2, 1, 0]
    assert rows_of(Judged(dataset, split="test")) == {"q1": [1], "q3": [4]}


def test_queries_of_other_splits_are_left_out_and_counted(dataset):
    source = Judged(dataset, without=["dev"])
    assert rows_of(source) == {"q1": [3, 1], "q3": [5]} and source.lists().counts["queries of other splits"] == 1
    with pytest.raises(ValueError, match="all 3 queries of toy train are in dev, test too"):
        Judged(dataset, without=["dev", "test"]).lists()
    with pytest.raises(ValueError, match="toy has no split 'de'"):
        Judged(dataset, without=["de"]).lists()


RECORDS = [
    {"qid": "q2", "docid": ["d4", "d2", "d1"], "score": [3, 1, 2]},
    {"qid": "q9", "docid": ["d1"], "score": [1]},
    {"qid": "q1", "docid": ["d0", "gone"], "score": [1, 2]},
]


@pytest.fixture
def ranked(tmp_path):
    path = tmp_path / "ranked.jsonl"
    path.write_text("\n".join(map(json.dumps, RECORDS)) + "\n")
    return path


def test_ranks_and_similarities_order_a_list_and_labels_are_labels(dataset, ranked):
    assert rows_of(Ranked(dataset, ranked, "rank", 1)) == {"q1": [0], "q2": [2, 1, 4]}
    assert rows_of(Ranked(dataset, ranked, "similarity", 1)) == {"q1": [0], "q2": [4, 1, 2]}
    assert Ranked(dataset, ranked, "rank", 1).lists().labels.tolist() == [1] * 4
    labelled = Ranked(dataset, ranked, "label").lists()
    assert labelled.rows.tolist() == [0, 4, 1, 2] and labelled.labels.tolist() == [1, 3, 2, 1]


def test_ranked_documents_and_queries_that_are_not_there_are_counted(dataset, ranked, monkeypatch):
    monkeypatch.setattr("training.sources.ranked.BLOCK", 2)
    lists = Ranked(dataset, ranked, "rank", 0).lists()
    assert lists.rows.tolist() == [0, 2, 1, 4]
    assert lists.counts == {
        "ranked queries not in train": 1,
        "ranked documents not in the corpus": 1,
        "queries without a passage": 1,
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"qid": "q1", "docid": ["d0"]}', "ranked.jsonl:2: a line is"),
        ('{"qid": "q1", "docid": ["d0"], "score": []}', "as many of both"),
        ('{"qid": "q1", "docid": ["d0"], "score": ["1"]}', "ranked.jsonl:2: scores are to be numbers"),
        ('{"qid": ', "ranked.jsonl:2: not JSON"),
    ],
)
def test_a_line_that_is_no_ranking_is_named(dataset, tmp_path, line, says):
    path = tmp_path / "ranked.jsonl"
    path.write_text(json.dumps(RECORDS[0]) + f"\n{line}\n")
    with pytest.raises(ValueError, match=says):
        Ranked(dataset, path, "rank", 0).lists()


def test_what_a_score_is_has_to_be_said(dataset, ranked):
    with pytest.raises(ValueError, match="choose from rank, similarity, label"):
        Ranked(dataset, ranked, "bm25", 0)
    for score, label in (("label", 1), ("rank", None)):
        with pytest.raises(ValueError, match="give a label unless the scores are labels"):
            Ranked(dataset, ranked, score, label)
    (empty := ranked.with_name("empty.jsonl")).write_text("")
    with pytest.raises(ValueError, match="none of 3 training queries has a passage: queries without a passage 3"):
        Ranked(dataset, empty, "rank", 0).lists()
