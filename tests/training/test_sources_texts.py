"""Training data in JSONL files that hold the texts themselves."""

import gzip
import json
from pathlib import Path

import pytest

from retrieval.corpus import Corpus
from training.sources.graded import Graded
from training.sources.selected import Selected
from training.sources.triples import Triples
from training.sources.union import Union


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RETRIEVAL_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def write(tmp_path):
    def written(*records, name="data.jsonl"):
        path = tmp_path / name
        lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return written


def read(source) -> dict[str, list[tuple[str, float]]]:
    """Query text -> texts and labels of its list, in order."""
    lists = source.lists()
    texts = lists.passages.texts(lists.rows)
    spans = zip(lists.queries.texts, lists.offsets[:-1], lists.offsets[1:], strict=True)
    return {name: list(zip(texts[a:b], lists.labels[a:b].tolist(), strict=True)) for name, a, b in spans}


# ---- triples -----------------------------------------------------------------------------------------------------


def test_triples_of_the_same_query_are_one_list(write):
    path = write(
        {"query": "otters", "positive": "an otter", "negative": "a comet"},
        {"query": "comets", "positive": "a comet", "negative": ["an otter", "a violin"]},
        {"query": "otters", "positive": "an otter", "negative": "a violin"},
    )
    source = Triples(path)
    assert read(source) == {
        "otters": [("an otter", 1), ("a comet", 0), ("a violin", 0)],
        "comets": [("a comet", 1), ("an otter", 0), ("a violin", 0)],
    }
    lists = source.lists()
    assert len(lists.passages) == 3 and lists.targets is None
    assert lists.counts == {"passages listed again": 1}


def test_what_is_positive_in_any_line_is_positive(write):
    one = {"query": "otters", "positive": "an otter", "negative": "sea otters"}
    two = {"query": "otters", "positive": "sea otters", "negative": "an otter"}
    wanted = {"otters": [("an otter", 1), ("sea otters", 1)]}
    assert read(Triples(write(one, two))) == wanted


def test_ids_and_a_teachers_scores_may_be_given(write):
    path = write(
        {
            "query": "otters",
            "query_id": 7,
            "positive": "an otter",
            "positive_id": "p1",
            "negative": ["a comet", "a violin"],
            "negative_id": ["p2", 3],
            "scores": [4.5, -1, 0],
        }
    )
    lists = Triples(path).lists()
    assert lists.queries.ids == ["7"] and lists.passages.ids.take([0, 1, 2]) == ["p1", "p2", "3"]
    assert lists.targets.tolist() == [4.5, -1, 0] and lists.labels.tolist() == [1, 0, 0]


GOOD = {"query": "otters", "positive": "an otter", "negative": "a comet"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"query": "q", "positive": "p"}, 'a line is {"query": text, "positive": text, "negative": '),
        (GOOD | {"positve_id": 1}, "a line is"),
        ([1], "a line is"),
        (GOOD | {"query": " "}, "\"query\" is to be a text, not ' '"),
        (GOOD | {"negative": None}, "a passage is to be a text, not None"),
        (GOOD | {"negative_id": ["a", "b"]}, "1 negatives take as many ids, and one score more"),
        (GOOD | {"scores": [1]}, "one score more"),
        (GOOD | {"scores": [1, "2"]}, "\"scores\" are to be numbers, not \\[1, '2'\\]"),
        (GOOD | {"scores": [1, 2]}, "a score is given for all passages of a file or for none"),
        (GOOD | {"query_id": 1.5}, "an id is a text or an integer, not 1.5"),
        (GOOD | {"query": "half \ud800"}, "half a surrogate pair is no text"),
        ("{", "not JSON"),
    ],
)
def test_a_line_that_is_no_triple_is_named(write, line, says):
    with pytest.raises(ValueError, match=f"data.jsonl:2: .*{says}"):
        Triples(write(GOOD, line)).lists()


def test_an_id_is_of_one_text(write):
    with pytest.raises(ValueError, match="data.jsonl:2: query '1' has another text than before: 'b', not 'a'"):
        Triples(write(GOOD | {"query_id": 1, "query": "a"}, GOOD | {"query_id": 1, "query": "b"})).lists()
    with pytest.raises(ValueError, match="data.jsonl:2: passage 'p' has another text than before: 'b'"):
        Triples(write(GOOD | {"positive_id": "p"}, GOOD | {"positive_id": "p", "positive": "b"})).lists()


# ---- graded lists ------------------------------------------------------------------------------------------------


def graded(query: str, *labels: float) -> dict:
    return {"query": query, "passages": [{"text": f"{query} {n}", "label": label} for n, label in enumerate(labels)]}


def test_graded_lists_keep_their_order_and_labels(write):
    path = write(graded("otters", 3, 2.5, 0), graded("comets", 1), graded("otters", 1))
    assert read(Graded(path)) == {
        "otters": [("otters 0", 1), ("otters 1", 2.5), ("otters 2", 0)],  # the last label counts
        "comets": [("comets 0", 1)],
    }


def test_passages_may_have_ids_titles_and_scores(write):
    passage = {"text": "an otter", "label": 2, "id": "p1", "title": "Otters", "score": 0.5}
    lists = Graded(write({"query": "otters", "query_id": "q", "passages": [passage]})).lists()
    assert lists.passages.texts([0]) == ["Otters an otter"] and lists.passages.ids.take([0]) == ["p1"]
    assert lists.targets.tolist() == [0.5] and lists.queries.ids == ["q"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"query": "q", "passages": []}, "query 'q' lists no passage: give it one, or leave the line out"),
        ({"query": "q", "passages": "p"}, 'a line is {"query": text, "passages": '),
        ({"query": "q", "passages": [{"text": "p"}]}, "a line is"),
        ({"query": "q", "passages": [{"text": "p", "label": "3"}]}, "\"label\" is to be a number, not '3'"),
        ({"query": "q", "passages": [{"text": "p", "label": True}]}, '"label" is to be a number, not True'),
        ('{"query": "q", "passages": [{"text": "p", "label": NaN}]}', '"label" is to be a number, not nan'),
        ({"query": "q", "passages": [{"text": "p", "label": 1, "score": 1}]}, "all passages of a file or for none"),
        ({"query": "q", "passages": [{"text": 3, "label": 1}]}, "a passage is to be a text, not 3"),
    ],
)
def test_a_line_that_is_no_graded_list_is_named(write, line, says):
    with pytest.raises(ValueError, match=f"data.jsonl:2: .*{says}"):
        Graded(write(graded("otters", 1), line)).lists()


# ---- files -------------------------------------------------------------------------------------------------------


def test_texts_are_ingested_once_for_each_content_of_the_file(write, cache, monkeypatch):
    path = write(graded("otters", 3, 0))
    first = Graded(path).lists()
    with monkeypatch.context() as patch:
        patch.setattr(Corpus, "build", None)
        again = Graded(path).lists()
    assert again.fingerprint() == first.fingerprint() and again.passages.folder == first.passages.folder
    path = write(graded("otters", 3, 0), graded("comets", 1))
    assert Graded(path).lists().passages.folder != first.passages.folder
    assert len(list((cache / "corpora").iterdir())) == 2


def test_a_file_without_records_is_an_error_and_leaves_nothing(write, cache):
    for kind in (Graded, Triples):
        with pytest.raises(ValueError, match="data.jsonl holds no records"):
            kind(write("", " ")).lists()
    assert not list((cache / "corpora").glob("*"))
    with pytest.raises(FileNotFoundError, match="no file .*gone.jsonl, nor .* below RETRIEVAL_DATA"):
        Graded(cache / "gone.jsonl").lists()


def test_a_file_is_found_below_the_data_folder_and_may_be_gzipped(tmp_path, monkeypatch):
    (tmp_path / "sets").mkdir()
    with gzip.open(tmp_path / "sets" / "data.jsonl.gz", "wt") as file:
        file.write(json.dumps(GOOD))
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    source = Triples(Path("sets/data.jsonl.gz"))
    assert read(source) == {"otters": [("an otter", 1), ("a comet", 0)]}
    assert len(source.provenance()["sha256"]) == 64


def test_the_same_passage_of_a_file_selected_twice_and_joined_is_one(write):
    source = Graded(write(graded("otters", 3, 2, 1, 0)))
    low, high = Selected(source, max_label=2, relabel=0), Selected(source, min_label=2, relabel=1)
    lists = Union([source, low, high]).lists()
    assert len(lists.passages) == 4 and lists.labels.tolist() == [1, 1, 0, 0]
