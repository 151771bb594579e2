"""Passages judged relevant that a source drops from its lists never become negatives of their query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from retrieval.collection import write_collection
from retrieval.corpus import Corpus
from retrieval.datasets.folder import Folder
from retrieval.lists import Lists, joined
from retrieval.types import Qrels, Queries, Run
from training.batches import labels_and_mask
from training.collections import Groups
from training.mining import Mining, mine
from training.negatives_file import read_negatives
from training.sources.filtered import Filtered
from training.sources.judged import lists_of
from training.sources.mixture import Mixture
from training.sources.ranked import Ranked
from training.sources.scored import Scored
from training.sources.selected import Selected
from training.sources.typos import Typos
from training.sources.union import Union

DOCUMENTS = 12
TOP = Mining(k=None, choice="top", near_duplicate=None)
PARTS = [
    {"min_label": 2},
    {"keep": "top", "k": 1},
    {"min_label": 2, "relabel": 1},
    {"max_label": 3, "keep": "top", "k": 1},
]


@dataclass
class Given:
    """A source of given lists."""

    given: Lists

    def lists(self):
        return self.given


class Constant:
    """A teacher of one score."""

    def __init__(self) -> None: ...

    def score(self, pairs):
        return np.ones(len(pairs), np.float32)


@pytest.fixture
def corpus(tmp_path):
    texts = ["otter", "comet", "violin", "volcano", "teapot", "harbour", "library", "kitchen", "aunt", "Mars", "a", "b"]
    return Corpus.build(((f"d{n}", "", f"{text} number {n}") for n, text in enumerate(texts)), tmp_path / "corpus")


@pytest.fixture
def judged(corpus):
    """A source: query q has d0 of grade 2, d1 and d2 of grade 1, d3 of grade 0; r has d4 of grade 2."""
    queries = Queries(["q", "r"], ["tell of otters", "tell of teapots"])
    grades = {"q": {"d0": 2, "d1": 1, "d2": 1, "d3": 0}, "r": {"d4": 2}}
    return Given(lists_of(corpus, queries, Qrels.from_dict(grades)))


@pytest.fixture
def best(judged):
    """The same without what is below grade 2."""
    return Given(Selected(judged, min_label=2).lists())


def ranked(lists: Lists, corpus: Corpus) -> Run:
    """A run that finds d0 to d5 for every query."""
    rows = np.tile(np.arange(6, dtype=np.int32), (len(lists), 1))
    return Run(lists.queries.ids, corpus.ids, rows, np.tile(np.arange(6, 0, -1, dtype=np.float32), (len(lists), 1)))


def known(lists: Lists, name: str) -> list[int]:
    groups = Groups(lists, size=1)
    found = {group["query_id"]: group["known"].tolist() for group in map(groups.__getitem__, range(len(groups)))}
    return found[name]


@pytest.mark.parametrize("part", PARTS)
def test_they_are_not_mined(judged, corpus, part):
    lists = Selected(judged, **part).lists()
    mined = mine(lists, ranked(lists, corpus), TOP)
    assert mined.rows[mined.offsets[0] : mined.offsets[1]].tolist() == [3, 4, 5]
    assert mined.counts["mining: positives in the window"] == 3 + 1


def test_what_is_relevant_from_a_higher_label_on_may_be_mined_below_it(best, corpus):
    mined = mine(best.lists(), ranked(best.lists(), corpus), Mining(None, "top", near_duplicate=None, relevant=2))
    assert mined.rows[: mined.offsets[1]].tolist() == [1, 2, 3, 4, 5]


def test_what_is_nearly_one_of_them_is_not_mined_and_the_score_is_held_against_what_is_listed(best, tmp_path):
    texts = ["otters eat fish", "comets have long tails", "they sleep", "none", "no", "comets have long tails!"]
    corpus = Corpus.build(((f"d{n}", "", text) for n, text in enumerate(texts)), tmp_path / "alike")
    grades = Qrels.from_dict({"q": {"d0": 2, "d1": 1}})
    lists = Selected(Given(lists_of(corpus, Queries(["q"], ["ask"]), grades)), min_label=2).lists()
    run = Run(["q"], corpus.ids, np.array([[1, 5, 2, 0, 3]], np.int32), np.array([[9, 8, 7, 4, 1]], np.float32))
    assert mine(lists, run, Mining(None, "top", near_duplicate=0.8)).rows.tolist() == [2, 3]
    assert mine(lists, run, Mining(None, "top", near_duplicate=None, margin=1.0)).rows.tolist() == [3]


def test_they_are_not_drawn_at_random_and_are_masked_in_the_batch(best):
    groups = Groups(best.lists(), size=DOCUMENTS - 2, negatives="random")
    for turn in range(3):
        first = groups.group(0, turn)
        assert sorted(first["rows"].tolist()) == [0, *range(3, DOCUMENTS)]
    assert first["known"].tolist() == [0, 1, 2]
    of_others = set()
    for turn in range(5):
        batch = [groups.group(0, turn), groups.group(1, turn)]
        mask, columns = labels_and_mask(batch)[1], np.concatenate([group["rows"] for group in batch])
        assert not mask[0, np.isin(columns, [1, 2])].any()
        of_others |= {*columns.tolist()} & {1, 2}
    assert of_others == {1, 2}


def test_what_is_below_the_relevant_label_is_not_drawn_either(best):
    for turn in range(3):
        rows = Groups(best.lists(), size=DOCUMENTS - 2, relevant=2, negatives="random").group(0, turn)["rows"]
        assert sorted(rows.tolist()) == [0, *range(3, DOCUMENTS)]
    with pytest.raises(ValueError, match="12 passages are too few to fill groups of 11"):
        Groups(best.lists(), size=DOCUMENTS - 1, relevant=2, negatives="random")


def test_what_two_sources_dropped_counts_once_with_its_highest_label(judged):
    both = Union([Selected(judged, min_label=2), Selected(judged, keep="bottom", k=1)]).lists()
    assert both.rows.tolist() == [0, 3, 4]
    assert both.dropped.rows.tolist() == [1, 2] and both.dropped.labels.tolist() == [1, 1]
    assert len(Groups(both, size=DOCUMENTS - 3, negatives="random").group(0, 0)["rows"]) == DOCUMENTS - 3


def test_too_few_passages_besides_them_are_an_error(best):
    with pytest.raises(ValueError, match="12 passages are too few to fill groups of 11"):
        Groups(best.lists(), size=DOCUMENTS - 1, negatives="random")


def test_a_file_of_negatives_that_has_one_is_refused(best, corpus, tmp_path):
    path = tmp_path / "negatives.jsonl"
    path.write_text('{"qid": "q", "docid": ["d5", "d2"]}\n')
    with pytest.raises(ValueError, match="query 'q' has 'd2' among its negatives, which is one of its positives"):
        read_negatives(path, best.lists(), corpus, 1.0)


@pytest.mark.parametrize(
    "made",
    [
        lambda best: Union([best, Given(best.lists().take(np.array([1])))]),
        lambda best: Mixture([Given(best.lists().take(np.array([n]))) for n in (1, 0)], [1, 2]),
        lambda best: Filtered(best),
        lambda best: Typos(best, share=1.0),
        lambda best: Scored(best, Constant()),
        lambda best: Selected(best, queries=["q"]),
        lambda best: Selected(best, max_label=9, keep="first", k=1),
    ],
    ids=["union", "mixture", "filtered", "typos", "scored", "queries", "selected again"],
)
def test_sources_made_of_others_know_them(best, made):
    assert known(made(best).lists(), "q") == [0, 1, 2]


def test_a_misspelt_copy_and_other_collections_know_them_too(best, tmp_path):
    assert known(Typos(best, share=1.0, added=True).lists(), "q-typo") == [0, 1, 2]
    other = Corpus.build([("x", "", "another")], tmp_path / "other")
    lists = best.lists()
    assert known(lists.over(joined([other, lists.passages])), "q") == [1, 2, 3]


def test_what_another_source_of_a_union_lists_has_the_label_that_it_gives(judged, best, corpus):
    qrels = Qrels.from_dict({"q": {"d1": 0}})
    given = Given(lists_of(corpus, Queries(["q"], ["tell of otters"]), qrels))
    assert known(Union([best, given]).lists(), "q") == [0, 2]


def test_lists_that_dropped_others_are_not_the_same(judged, best):
    lists = best.lists()
    assert lists.dropped.rows.tolist() == [1, 2] and lists.take(np.array([1])).dropped.rows.tolist() == []
    without = Selected(judged, min_label=2, max_label=3).lists()
    assert without.fingerprint() == lists.fingerprint()
    less = lists_of(
        lists.passages, Queries(["q", "r"], lists.queries.texts), Qrels.from_dict({"q": {"d0": 2}, "r": {"d4": 2}})
    )
    assert less.fingerprint() != lists.fingerprint()
    assert Groups(less, 1).settings() != Groups(lists, 1).settings()


@pytest.mark.parametrize(("score", "label", "expected"), [("similarity", 1, [0]), ("label", None, [0, 1, 2])])
def test_what_a_retriever_found_and_nobody_judged_is_not_known_once_it_is_left_out(tmp_path, score, label, expected):
    documents = [(f"d{n}", "", f"text {n}") for n in range(4)]
    write_collection(tmp_path / "toy", documents, {"q": "ask"}, {"train": {"q": {"d0": 1}}})
    (tmp_path / "ranked.jsonl").write_text('{"qid": "q", "docid": ["d0", "d1", "d2"], "score": [3, 2, 1]}\n')
    source = Ranked(Folder(str(tmp_path / "toy")), tmp_path / "ranked.jsonl", score, label)
    for one in (source, Union([source]), Mixture([source], [1])):
        assert known(Selected(one, keep="first", k=1).lists(), "q") == expected
