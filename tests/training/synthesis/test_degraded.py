"""Levels by degrading judged documents, on a corpus whose neighbours are plain to see and on NFCorpus."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from retrieval.collection import Collection, write_collection
from retrieval.datasets.folder import Folder
from retrieval.locate import cache_folder
from retrieval.retrievers.bm25 import BM25
from retrieval.sentences import sentences
from retrieval.types import Queries
from training.synthesis.degraded import Degraded

DOCUMENTS = [
    ("a", "Otters", "Otters swim. Otters eat fish. Otters sleep. Otters dive. Otters play."),
    ("b", "", "Otters swim and otters eat fish in rivers"),
    ("c", "", "Otters swim"),
    ("copy", "Otters", "Otters swim. Otters eat fish. Otters sleep. Otters dive. Otters play."),
    ("empty", "", ""),
    ("d", "", "A comet was seen. It was bright."),
    ("e", "", "Comets are bright and were seen before"),
    ("f", "", "The teapot is cold"),
]
QUERIES = {"q1": "otters", "q2": "comets", "q3": "nothing", "q4": "unjudged"}
JUDGED = {
    "q1": {"a": 2, "b": 0, "gone": 1},
    "q2": {"d": 1, "c": 1},
    "q3": {"f": 0, "empty": 1},
}


@pytest.fixture
def toy(tmp_path):
    write_collection(tmp_path / "toy", DOCUMENTS, QUERIES, {"train": JUDGED})
    return Collection(tmp_path / "toy")


def labels(collection):
    return collection.qrels("train").to_dict()


def test_queries_keep_their_instructions(toy, tmp_path):
    write_collection(tmp_path / "own", DOCUMENTS, QUERIES, {"train": JUDGED}, instructions={"q1": "which animals"})
    Degraded().synthesize(Collection(tmp_path / "own"), tmp_path / "made")
    Degraded().synthesize(toy, tmp_path / "plain")
    assert Collection(tmp_path / "made").queries("train").instructions == ["which animals", ""]
    assert Collection(tmp_path / "plain").queries("train").instructions is None


def test_levels_are_the_document_its_half_its_neighbour_and_a_random_document(toy, tmp_path):
    counts = Degraded().synthesize(toy, tmp_path / "made")
    made = Collection(tmp_path / "made")
    first = labels(made)["q1"]
    random = next(name for name, label in first.items() if label == 0)
    assert first == {"a": 3, "a-half": 2, "c": 1, random: 0}  # b is judged, and the copy of a has its text
    assert random in ("d", "e", "f") and made.queries("train").ids == ["q1", "q2"]
    originals = {name: (title, text) for name, title, text in DOCUMENTS}
    for name, title, text in made.corpus:
        if not name.endswith("-half"):
            assert originals[name] == (title, text)
    assert counts == {
        **{"queries": 3, "kept": 2, "dropped": 1, "dropped: no relevant document that has text": 1},
        **{"judgements of unknown documents": 1, "positives": 3},
        "relevant documents without text, or with that of another": 1,
        **{"label 3": 3, "label 2": 2, "label 1": 3, "label 0": 3},
        **{"positives of one sentence": 1, "positives without neighbour": 0, "positives without random document": 0},
        "positives whose half says what another document of the query says": 0,
    }


def test_a_half_has_the_smaller_part_of_the_sentences_in_their_order_under_the_title(toy, tmp_path):
    kept = Counter()
    for seed in range(20):
        Degraded(seed=seed).synthesize(toy, tmp_path / str(seed))
        ((title, text),) = [
            (title, text) for name, title, text in Collection(tmp_path / str(seed)).corpus if name == "a-half"
        ]
        places = [sentences(DOCUMENTS[0][2]).index(one) for one in sentences(text)]
        assert title == "Otters" and len(places) == 2 and places == sorted(places)
        kept.update(places)
    assert len(kept) == 5  # every sentence has its turn


def test_a_document_of_one_sentence_stands_without_half(toy, tmp_path):
    Degraded().synthesize(toy, tmp_path / "made")
    assert labels(Collection(tmp_path / "made"))["q2"].get("c") == 3
    assert "c-half" not in labels(Collection(tmp_path / "made"))["q2"]


@pytest.mark.parametrize("first", ["Alpha beta.", "Epsilon zeta."])
def test_no_query_has_the_text_of_a_half_twice(tmp_path, first):
    """Of two sentences the half is one, which another document of the corpus says too: it is the nearest neighbour."""
    documents = [("a", "T", "Alpha beta. Epsilon zeta."), ("b", "T", first), ("c", "", "A comet"), ("d", "", "A pot")]
    for judged in ({"a": 1}, {"a": 1, "b": 1}):
        folder = tmp_path / f"toy-{len(judged)}"
        write_collection(folder, documents, {"q1": "alpha"}, {"train": {"q1": judged}})
        for seed in range(6):  # either half is drawn by some
            counts = Degraded(seed=seed).synthesize(Collection(folder), folder / f"made-{seed}")
            made = Collection(folder / f"made-{seed}")
            texts = {name: f"{title} {text}".strip() for name, title, text in made.corpus}
            assert len({texts[name] for name in labels(made)["q1"]}) == len(labels(made)["q1"]) == len(texts)
            same = counts["positives whose half says what another document of the query says"]
            assert counts["positives"] == counts["label 2"] + same + counts["positives of one sentence"]


def test_a_document_with_the_name_of_a_half_is_refused(tmp_path):
    documents = [("a", "", "Alpha beta. Epsilon zeta."), ("a-half", "", "Some alpha"), ("c", "", "A comet")]
    write_collection(tmp_path / "toy", documents, {"q1": "alpha"}, {"train": {"q1": {"a": 1, "a-half": 1}}})
    with pytest.raises(ValueError, match="has a document 'a-half', the name of the half of 'a': give it another id"):
        Degraded().synthesize(Collection(tmp_path / "toy"), tmp_path / "made")
    assert Degraded(levels=[3, 1, 0]).synthesize(Collection(tmp_path / "toy"), tmp_path / "whole")["kept"] == 1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(toy, tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("three", 5)):
        Degraded(seed=seed).synthesize(toy, tmp_path / name)
    one, two, three = ((tmp_path / name / "corpus.jsonl").read_bytes() for name in ("one", "two", "three"))
    assert one == two and one != three


def test_levels_may_be_left_out(toy, tmp_path):
    counts = Degraded(levels=[0, 3]).synthesize(toy, tmp_path / "made")
    assert {*labels(Collection(tmp_path / "made"))["q1"].values()} == {3, 0}
    assert "label 1" not in counts and "positives of one sentence" not in counts


def test_grades_below_relevant_make_no_positive(toy, tmp_path):
    Degraded(relevant=2).synthesize(toy, tmp_path / "made")
    assert list(labels(Collection(tmp_path / "made"))) == ["q1"]


def test_a_query_has_at_most_so_many_positives(toy, tmp_path):
    counts = Degraded(positives=1).synthesize(toy, tmp_path / "made")
    assert counts["positives"] == 2 and Counter(labels(Collection(tmp_path / "made"))["q2"].values())[3] == 1


def test_where_all_else_is_judged_there_is_no_neighbour_and_no_random_document(tmp_path):
    everything = {name: 1 if name == "a" else 0 for name, _, _ in DOCUMENTS}
    write_collection(tmp_path / "toy", DOCUMENTS, {"q1": "otters"}, {"train": {"q1": everything}})
    counts = Degraded().synthesize(Collection(tmp_path / "toy"), tmp_path / "made")
    assert counts["positives without neighbour"] == counts["positives without random document"] == 1
    assert labels(Collection(tmp_path / "made")) == {"q1": {"a": 3, "a-half": 2}}


def test_a_query_that_is_a_document_is_not_given_itself(tmp_path):
    write_collection(tmp_path / "toy", DOCUMENTS, {"c": "Otters swim"}, {"train": {"c": {"a": 1}}})
    own = Collection(tmp_path / "toy", excludes_self=True)
    Degraded().synthesize(own, tmp_path / "made")
    assert labels(Collection(tmp_path / "made"))["c"].get("b") == 1


def test_where_no_query_is_left_the_error_says_what_dropped_how_many(tmp_path):
    write_collection(tmp_path / "toy", DOCUMENTS, QUERIES, {"train": {"q3": JUDGED["q3"], "q1": {"gone": 1}}})
    with pytest.raises(ValueError, match="of 2 queries none is left; no relevant document that has text 2"):
        Degraded().synthesize(Collection(tmp_path / "toy"), tmp_path / "made")
    write_collection(
        tmp_path / "short", DOCUMENTS, QUERIES, {"train": {"q2": {name: int(name == "f") for name, _, _ in DOCUMENTS}}}
    )
    with pytest.raises(ValueError, match="of 1 queries none is left; no level of any positive 1"):
        Degraded(levels=[2, 1]).synthesize(Collection(tmp_path / "short"), tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_folder_of_other_settings_is_refused_and_one_of_these_left(toy, tmp_path):
    counts = Degraded().synthesize(toy, tmp_path / "made")
    assert Degraded().synthesize(toy, tmp_path / "made") == counts
    with pytest.raises(ValueError, match=r"made of something else \(words is 64 there, 8 here\)"):
        Degraded(words=8).synthesize(toy, tmp_path / "made")


class Searching:
    """A retriever without contract()."""

    def __init__(self, k1):
        self.k1, self.within = k1, BM25(k1=k1)

    def open(self, corpus, folder):
        self.within.open(corpus, folder)

    def retrieve(self, queries, k):
        return self.within.retrieve(queries, k)


def test_neighbours_of_a_retriever_of_other_settings_make_another_folder(toy, tmp_path):
    Degraded(retriever=Searching(1.2)).synthesize(toy, tmp_path / "made")
    with pytest.raises(ValueError, match="made of something else .retriever is .*k1.: 1.2.* there, .*k1.: 0.5.* here"):
        Degraded(retriever=Searching(0.5)).synthesize(toy, tmp_path / "made")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": [3]}, "at least two of 3, 2, 1 and 0"),
        ({"levels": [3, 3]}, "each once"),
        ({"levels": [4, 0]}, "at least two of 3, 2, 1 and 0"),
        ({"positives": 0}, "positives is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"words": 0}, "words is 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Degraded(**settings)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[3] / "configs/sycl").glob("nfcorpus-*-*.yaml")))
def test_the_recipes_leave_out_lists_that_are_too_short_whatever_the_labels(path):
    assert yaml.safe_load(path.read_text())["groups"]["short"] == "drop"


def test_every_list_of_nfcorpus_keeps_what_the_levels_promise(data, tmp_path):
    collection = Folder("nfcorpus").open()
    counts = Degraded().synthesize(collection, tmp_path / "made")
    assert (counts["queries"], counts["kept"], counts["dropped"]) == (2590, 2590, 0)
    assert [counts[f"label {level}"] for level in (3, 2, 1, 0)] == [9392, 9360, 9392, 9392]
    judged, texts = labels(collection), {name: f"{title} {text}".strip() for name, title, text in collection.corpus}
    for query, grades in labels(Collection(tmp_path / "made")).items():
        positives = {name for name, label in grades.items() if label == 3}
        others = [name for name, label in grades.items() if label < 2]
        assert positives <= {name for name, grade in judged[query].items() if grade > 0} and len(positives) <= 4
        assert not {*others} & {*judged[query]} and len({texts[name] for name in others}) == len(others)
        assert {name.removesuffix("-half") for name, label in grades.items() if label == 2} <= positives


def test_a_neighbour_is_the_first_that_a_search_by_hand_finds(data, tmp_path):
    """Of queries with one positive, where the query's list has taken no document before."""
    collection, bm25 = Folder("nfcorpus").open(), BM25()
    Degraded(positives=1).synthesize(collection, tmp_path / "made")
    bm25.open(collection.corpus, cache_folder())
    judged, made = labels(collection), labels(Collection(tmp_path / "made"))
    texts = {name: f"{title} {text}".strip() for name, title, text in collection.corpus}
    for query in list(made)[:20]:
        by_label = {label: name for name, label in made[query].items()}
        asked = " ".join(texts[by_label[3]].split()[:64])
        found = bm25.retrieve(Queries(["x"], [asked]), 200).rows[0]
        names, barred = collection.corpus.ids.take(found[found >= 0]), {texts[name] for name in judged[query]}
        assert by_label[1] == next(name for name in names if texts[name] not in barred)
