"""What the doctor says of collections made with one fault each, and of real ones as brute force counts them."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest

from retrieval.analyzers.wordpiece import WordPiece
from retrieval.cli import run
from retrieval.collection import Collection, write_collection
from retrieval.datasets.folder import Folder
from retrieval.doctor import doctor, examined

DOCUMENTS = [
    ("a", "Otters", "An otter sleeps near the harbour of a small town in Norway"),
    ("b", "", "The comet was seen above the quiet library by nobody at all"),
    ("c", "", "A violin is painted in the kitchen of my aunt every other year"),
]
QUERIES = {"q": "otter harbour", "r": "comet library"}
JUDGED = {"test": {"q": {"a": 1}, "r": {"b": 1, "c": 0}}}


def collection(folder, documents=DOCUMENTS, queries=QUERIES, judged=JUDGED, **more):
    write_collection(folder, documents, queries, judged)
    return Collection(folder, **more)


def look(one, splits=None, most=1000, limits=(256,)):
    return examined(one, splits, 0.8, most, WordPiece(), limits)


def finding(found, words):
    """The one finding that says so, without its advice."""
    said = [one for one in found["findings"] if words in one["what"]]
    assert len(said) == 1, [one["what"] for one in found["findings"]]
    return said[0]["severity"], said[0]["count"], said[0]["examples"]


def test_a_sound_collection_has_nothing_but_its_lengths(tmp_path):
    found = look(collection(tmp_path / "sound"))
    assert [one["severity"] for one in found["findings"]] == ["note"] * 3
    finding(found, "no known values for 'sound'")
    assert found["counts"] == {"documents": 3, "queries": 2, "test queries": 2, "test judgements": 3}
    assert "duplicate documents" in found["nothing found"] and not found["not looked at"]


def test_counts_off_the_known_ones_are_an_error_with_both_figures(tmp_path):
    severity, count, shown = finding(look(collection(tmp_path / "scifact")), "counts are not those of scifact")
    assert (severity, count) == ("error", 3)
    assert shown == ["documents 3, not 5,183", "test queries 2, not 300", "test judgements 3, not 339"]


def test_a_changed_text_is_told_by_its_digest_though_the_counts_are_right(tmp_path, data):
    held = [json.loads(line) for line in (data / "limit-small" / "corpus.jsonl").read_text().splitlines()]
    queries = Folder(str(data / "limit-small")).open()
    documents = [(one["_id"], one["title"], one["text"] + ("!" if n == 7 else "")) for n, one in enumerate(held)]
    judged = {"test": queries.qrels("test").to_dict()}
    found = look(collection(tmp_path / "limit-small", documents, queries.every_query(), judged))
    severity, count, shown = finding(found, "contents are not those of limit-small")
    assert (severity, count) == ("warning", 1) and shown[0].startswith("corpus ")
    assert "counts" in found["nothing found"]


def test_the_order_of_lines_is_no_other_content(tmp_path, data):
    one = Folder(str(data / "limit-small")).open()
    documents = [(doc.id, doc.title, doc.text) for doc in one.corpus]
    queries = dict(reversed(one.every_query().items()))
    judged = {"test": dict(reversed(one.qrels("test").to_dict().items()))}
    found = look(collection(tmp_path / "limit-small", documents, queries, judged))
    assert {"counts", "contents"} <= {*found["nothing found"]}


def test_empty_documents_count_more_where_they_are_relevant(tmp_path):
    empty = [("a", "", " "), *DOCUMENTS[1:]]
    assert finding(look(collection(tmp_path / "x", empty)), "documents are empty") == ("warning", 1, ["a"])
    padding = [*DOCUMENTS, ("d", "", "")]
    assert finding(look(collection(tmp_path / "y", padding)), "documents are empty") == ("note", 1, ["d"])


def test_twins_of_relevant_documents_that_are_not_judged_are_listed(tmp_path):
    twins = [*DOCUMENTS, ("d", "Otters", "An otter sleeps near  the harbour of a small town in Norway")]
    found = look(collection(tmp_path / "x", twins))
    assert finding(found, "documents repeat the text of another") == ("note", 1, ["a = d"])
    assert finding(found, "a twin that is not judged") == ("warning", 1, ["query q: a, not d"])
    judged = {"test": JUDGED["test"] | {"q": {"a": 1, "d": 1}}}
    assert not [
        one for one in look(collection(tmp_path / "y", twins, judged=judged))["findings"] if "twin" in one["what"]
    ]


def test_near_duplicates_are_found_whatever_their_case_and_one_word(tmp_path):
    near = [*DOCUMENTS, ("d", "", DOCUMENTS[2][2].lower() + " again")]
    assert finding(look(collection(tmp_path / "x", near)), "documents nearly repeat") == ("note", 1, ["c ~ d"])


def test_a_large_corpus_is_not_searched_for_near_duplicates_and_says_so(tmp_path):
    found = look(collection(tmp_path / "x"), most=2)
    assert "more than 2 documents" in found["not looked at"]["near-duplicate documents"]
    finding(found, "documents (2 looked at)")


def test_training_queries_in_the_test_are_found_the_same_and_nearly(tmp_path):
    queries = QUERIES | {"s": "Otter, harbour!", "t": "library comet by the"}
    queries["r"] = "library comet by the sea"
    judged = JUDGED | {"train": {"s": {"c": 1}, "t": {"b": 1}}}
    found = look(collection(tmp_path / "x", queries=queries, judged=judged))
    assert finding(found, "test queries are train queries") == ("warning", 1, ["q = s"])
    near = ["r ~ t (library comet by the sea ~ library comet by the)"]
    assert finding(found, "test queries are nearly train queries") == ("note", 1, near)
    assert finding(found, "of 3 documents judged in test, judged in train too")[1] == 2


def test_a_query_id_in_train_and_test_is_an_error_and_in_parts_a_note(tmp_path):
    judged = JUDGED | {"train": {"q": {"b": 1}}, "part": {"r": {"b": 1}}}
    found = look(collection(tmp_path / "x", judged=judged))
    assert finding(found, "test and train judge the same queries") == ("error", 1, ["q"])
    assert finding(found, "part and test judge the same queries") == ("note", 1, ["r"])
    assert look(collection(tmp_path / "y", judged=judged), ["test"])["splits"] == ["test"]


def test_judged_documents_that_are_absent_are_an_error_only_if_relevant(tmp_path):
    judged = {"test": {"q": {"a": 1, "gone": 0}}, "other": {"r": {"lost": 2}}}
    found = look(collection(tmp_path / "x", judged=judged))
    assert finding(found, "test: judged documents are not in the corpus") == ("note", 1, ["gone"])
    assert finding(found, "other: judged documents are not in the corpus") == ("error", 1, ["lost"])


def test_judged_queries_without_text_or_record_are_told(tmp_path):
    judged = {"test": {"q": {"a": 1}, "r": {"b": 1}, "nowhere": {"c": 1}}}
    found = look(collection(tmp_path / "x", queries={"q": "otter", "r": " "}, judged=judged))
    assert finding(found, "are not in queries.jsonl") == ("error", 1, ["nowhere"])
    assert finding(found, "queries have no text") == ("warning", 1, ["r"])


def test_a_split_that_cannot_be_trained_on_is_told_with_all_else(tmp_path):
    judged = JUDGED | {"train": {"gone": {"a": 1}}}
    found = look(collection(tmp_path / "x", judged=judged))
    assert finding(found, "train cannot be trained on: none of 0 training queries")[0] == "error"
    assert finding(found, "train: judged queries are not in queries.jsonl")[1] == 1


def test_queries_without_relevant_documents_and_odd_grades_are_told(tmp_path):
    found = look(collection(tmp_path / "x", judged={"test": {"q": {"a": 0, "b": -2}, "r": {"b": 5}}}))
    assert finding(found, "queries have no relevant document") == ("warning", 1, ["q"])
    assert finding(found, "grades off 0 to 4") == ("warning", 2, ["-2: 1", "5: 1"])


def test_queries_of_equal_words_are_told(tmp_path):
    found = look(collection(tmp_path / "x", queries={"q": "an otter", "r": "An  otter"}))
    assert finding(found, "test: queries repeat") == ("note", 1, ["q = r"])


SELF = {"a": DOCUMENTS[0][2], "r": "comet library"}
SELF_JUDGED = {"test": {"a": {"b": 1}, "r": {"b": 1}}}


def test_queries_that_are_documents_are_an_error_unless_they_are_left_out(tmp_path):
    kept = look(collection(tmp_path / "x", queries=SELF, judged=SELF_JUDGED))
    assert finding(kept, "queries are documents of the corpus") == ("error", 1, ["a"])
    left_out = look(collection(tmp_path / "y", queries=SELF, judged=SELF_JUDGED, excludes_self=True))
    assert finding(left_out, "queries are documents of the corpus") == ("note", 1, ["a"])


def test_equal_ids_of_other_texts_matter_only_where_they_are_left_out(tmp_path):
    other = {"a": "something else", "r": "comet library"}
    kept = look(collection(tmp_path / "x", queries=other, judged=SELF_JUDGED))
    assert not [one for one in kept["findings"] if "share their id" in one["what"]]
    left_out = look(collection(tmp_path / "y", queries=other, judged=SELF_JUDGED, excludes_self=True))
    assert finding(left_out, "share their id with another text") == ("warning", 1, ["a"])


def test_a_query_that_is_a_document_under_another_id_is_told(tmp_path):
    found = look(collection(tmp_path / "x", queries=QUERIES | {"q": DOCUMENTS[1][2]}))
    assert finding(found, "queries have the text of a document") == ("note", 1, ["q"])


def test_ids_with_blanks_are_told(tmp_path):
    documents = [("a b", "", "text"), *DOCUMENTS]
    assert finding(look(collection(tmp_path / "x", documents)), "ids hold blanks") == ("note", 1, ["a b"])


@pytest.mark.parametrize(
    ("name", "judged", "more", "words", "severity"),
    [
        ("webis-touche2020", JUDGED, {}, "is none of v1, v2, v3", "warning"),
        ("msmarco", {"test": {f"q{n}": {"a": 3} for n in range(43)}}, {}, "test is TREC DL 2019", "warning"),
        ("trec-dl-2019", {"test": {"q": {"a": 3, "b": 1}}}, {}, "judgements of TREC DL's grade 1", "note"),
        ("arguana", JUDGED, {}, "queries are documents, and published figures", "error"),
        ("quora", JUDGED, {}, "queries are documents, and published figures", "error"),
        ("cqadupstack/android", JUDGED, {}, "android is one of CQADupStack's 12 parts", "note"),
        ("trec-covid", {"test": {"q": {"a": 1, "b": 2}}}, {}, "up to 2 relevant documents", "note"),
        (
            "nfcorpus",
            {"train": {"q": {"a": 1}}, "test": {"r": {"a": 1, "b": 2}}},
            {},
            "grades 1 alone in train",
            "note",
        ),
    ],
)
def test_a_trap_is_known_by_the_name_of_its_collection(tmp_path, name, judged, more, words, severity):
    queries = {query: f"{query} text" for grades in judged.values() for query in grades}
    found = look(collection(tmp_path / name, queries=queries, judged=judged, **more))
    assert finding(found, words)[0] == severity


@pytest.mark.parametrize(
    ("documents", "judged", "version", "severity"),
    [
        (382_545, 2_962, "v1", "warning"),
        (382_545, 2_214, "v2, that", "note"),
        (303_732, 2_849, "v3", "note"),
        (382_545, 5, "none of", "warning"),
    ],
)
def test_the_versions_of_touche_are_told_by_documents_and_judgements(documents, judged, version, severity):
    from types import SimpleNamespace

    from retrieval.traps import touche

    patient = SimpleNamespace(
        collection=SimpleNamespace(corpus=range(documents), name="webis-touche2020"), qrels={"test": range(judged)}
    )
    (found,) = touche(patient)  # type: ignore[arg-type]
    assert version in found.what and found.severity == severity


def test_left_out_self_hits_are_no_trap(tmp_path):
    found = look(collection(tmp_path / "arguana", excludes_self=True))
    assert not [one for one in found["findings"] if "published figures leave" in one["what"]]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("corpus.jsonl", '{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n', "corpus.jsonl:2"),
        ("queries.jsonl", "not json\n", "queries.jsonl:1: not JSON"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\ta\t1\nq\ta\t2\n", "test.tsv:3"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_finding_with_its_line(tmp_path, name, text, said):
    one = collection(tmp_path / "x")
    (tmp_path / "x" / name).write_text(text)
    found = look(one)
    severity, _, _ = finding(found, said)
    assert severity == "error" and len(found["findings"]) == 1 and "counts" in found["not looked at"]


def test_a_collection_without_judgements_is_a_finding(tmp_path):
    assert finding(look(collection(tmp_path / "x", judged={})), "there are no judgements")[0] == "error"


def test_an_unknown_split_and_odd_settings_are_refused(tmp_path):
    one = collection(tmp_path / "x")
    with pytest.raises(ValueError, match="x has no split 'dev'; it has test"):
        look(one, ["dev"])
    with pytest.raises(ValueError, match="near is above 0"):
        doctor(Folder(str(tmp_path / "x")), near=0.0)


def test_the_verb_prints_a_table_and_writes_the_same_as_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    collection(tmp_path / "toy", judged={"test": {"q": {"gone": 1}}})
    (tmp_path / "toy.yaml").write_text("# 1\ndataset: {type: folder, path: toy}\n")
    found = run(doctor, ["toy.yaml", "out=found"])
    assert json.loads((tmp_path / "found" / "doctor.json").read_text()) == json.loads(json.dumps(found))
    assert json.loads((tmp_path / "found" / "manifest.json").read_text())["results"] == found
    shown = capsys.readouterr().out
    assert "toy: 3 documents" in shown and "judged documents are not in the corpus" in shown
    assert shown.index("error") < shown.index("note") and "nothing found: " in shown


def test_nfcorpus_is_as_brute_force_counts_it(data):
    found = look(Folder(str(data / "nfcorpus")).open(), most=4000)
    twins = defaultdict(list)
    for line in (data / "nfcorpus" / "corpus.jsonl").read_text().splitlines():
        one = json.loads(line)
        twins[" ".join(f"{one['title']} {one['text']}".split())].append(one["_id"])
    assert finding(found, "documents repeat")[1] == sum(len(names) - 1 for names in twins.values()) == 40
    of = {name: [other for other in names if other != name] for names in twins.values() for name in names}
    missed = set()
    for split in ("train", "dev", "test"):
        judged = defaultdict(dict)
        for line in (data / "nfcorpus" / "qrels" / f"{split}.tsv").read_text().splitlines()[1:]:
            query, doc, grade = line.split("\t")
            judged[query][doc] = int(grade)
        missed |= {
            (query, doc, twin)
            for query, grades in judged.items()
            for doc, grade in grades.items()
            for twin in of[doc]
            if grade > 0 and twin not in grades
        }
    assert finding(found, "twin that is not judged")[1] == len(missed) == 2449


@pytest.mark.parametrize("name", ["scifact", "limit-small", "cranfield", "vaswani", "mtrb-restbench"])
def test_real_collections_are_the_known_ones(data, name):
    found = look(Folder(str(data / name)).open(), most=1)
    assert {"counts", "contents"} <= {*found["nothing found"]}
