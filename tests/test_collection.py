"""Collections: BEIR folders, the sources they come from, and what is odd in them."""

from __future__ import annotations

import json

import pytest

from retrieval.collection import Collection, write_collection
from retrieval.datasets.beir import Beir
from retrieval.datasets.folder import Folder
from retrieval.datasets.ir_datasets import IrDatasets
from retrieval.datasets.limit import HUB, Limit

DOCUMENTS = [("d1", "Otters", "swim"), ("d 2", "", "comets fly"), ("d3", "", "")]
QUERIES = {"q1": "what swims", "q2": "what flies", "q3": ""}
QRELS = {"test": {"q2": {"d 2": 2, "gone": 1}, "q1": {"d1": 1}}, "train": {"q3": {"d3": 1}}}


@pytest.fixture
def folder(tmp_path):
    write_collection(tmp_path / "toy", DOCUMENTS, QUERIES, QRELS)
    return tmp_path / "toy"


def test_a_folder_is_read(folder):
    toy = Collection(folder)
    assert toy.name == "toy" and toy.splits() == ["test", "train"]
    assert list(toy.corpus)[1] == ("d 2", "", "comets fly")
    assert list(toy.queries("test").texts) == ["what swims", "what flies"]
    assert toy.qrels("test").to_dict() == QRELS["test"]


def test_judged_documents_that_the_corpus_lacks_and_empty_queries_are_counted(folder):
    toy = Collection(folder)
    assert toy.counts("test") == {
        "queries": 2,
        "judgements": 3,
        "judgements of unknown documents": 1,
        "empty queries": 0,
    }
    assert toy.counts("train")["empty queries"] == 1
    assert toy.provenance()["empty documents"] == 1


def test_a_split_that_does_not_exist_lists_those_that_do(folder):
    with pytest.raises(ValueError, match=r"toy has no split 'dev'; .*qrels holds: test, train"):
        Collection(folder).qrels("dev")


def test_an_id_given_twice_is_named_with_both_lines(folder):
    with open(folder / "corpus.jsonl", "a") as file:
        file.write('\n{"_id": "d1", "text": "again"}\n')
    with pytest.raises(ValueError, match=r"corpus.jsonl:5: document id 'd1' is given twice, first on line 1"):
        _ = Collection(folder).corpus


def test_an_empty_corpus_file_is_refused(folder):
    (folder / "corpus.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"corpus.jsonl: no documents"):
        _ = Collection(folder).corpus


def test_a_judged_query_without_text_is_refused(folder):
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "what swims"}) + "\n")
    with pytest.raises(ValueError, match=r"test.tsv judges 1 queries that are not in queries.jsonl, such as 'q2'"):
        Collection(folder).queries("test")


def test_a_changed_file_is_ingested_anew(folder):
    first = Collection(folder).corpus.fingerprint
    assert Collection(folder).corpus.fingerprint == first
    with open(folder / "corpus.jsonl", "a") as file:
        file.write('{"_id": "d9", "text": "new"}\n')
    assert Collection(folder).corpus.fingerprint != first


def test_a_folder_is_found_by_its_name_below_retrieval_data(folder, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_DATA", str(folder.parent))
    assert Folder("toy").open().name == Beir("toy").open().name == "toy"
    monkeypatch.setenv("RETRIEVAL_DATA", str(folder / "nowhere"))
    with pytest.raises(FileNotFoundError, match="RETRIEVAL_DATA is .*nowhere', which is not a folder"):
        Folder("toy").open()


def test_a_folder_that_is_not_there_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"no collection: .*/absent has no corpus.jsonl nor {tmp_path}/absent"):
        Folder("absent").open()


@pytest.mark.parametrize("dataset", [Beir("trec-covid"), Limit("limit")])
def test_without_network_the_error_says_where_the_file_may_be_put(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    message = f"not on disk and could not be downloaded .* put its files at {tmp_path}/{dataset.name}/corpus.jsonl"
    with pytest.raises(FileNotFoundError, match=message):
        dataset.open()


def test_arguana_and_quora_leave_out_the_query_itself(folder, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_DATA", str(folder.parent))
    folder.rename(folder.parent / "arguana")
    assert Beir("arguana").open().excludes_self and not Folder("arguana").open().excludes_self


def test_a_collection_comes_through_hugging_face_datasets(folder, tmp_path, monkeypatch):
    """A local account stands for the hub; the loading code is the real one."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    hub, original = tmp_path / "hub", Collection(folder)
    _as_hub_repository(hub, "toy", original)
    found = Beir("toy", hub=str(hub)).open()
    assert list(found.corpus) == list(original.corpus)
    assert found.splits() == ["test", "train"]
    assert found.qrels("test").to_dict() == original.qrels("test").to_dict()
    assert list(found.queries("test").texts) == list(original.queries("test").texts)
    assert Beir("toy", hub=str(hub)).open().corpus.fingerprint == found.corpus.fingerprint  # from the cache


def test_limit_comes_through_hugging_face_datasets(tmp_path, monkeypatch):
    """A local folder of three configurations stands for the hub; the loading code is the real one."""
    rows = {
        "corpus": {"_id": "Ann Lee", "title": "", "text": "Ann Lee likes Otters."},
        "queries": {"_id": "query_0", "text": "Who likes Otters?"},
        "default": {"query-id": "query_0", "corpus-id": "Ann Lee", "score": 1},
    }
    configs = ""
    for part, row in rows.items():
        (tmp_path / f"{part}.jsonl").write_text(json.dumps(row) + "\n")
        configs += f"- config_name: {part}\n  data_files:\n  - split: test\n    path: {part}.jsonl\n"
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setitem(HUB, "limit", str(tmp_path))
    found = Limit("limit").open()
    assert list(found.corpus) == [("Ann Lee", "", "Ann Lee likes Otters.")]
    assert found.qrels("test").to_dict() == {"query_0": {"Ann Lee": 1}}
    assert list(found.queries("test").texts) == ["Who likes Otters?"]


def _as_hub_repository(hub, name, collection):
    main, judged = hub / name, hub / f"{name}-qrels"
    main.mkdir(parents=True)
    judged.mkdir()
    for part in ("corpus", "queries"):
        (main / f"{part}.jsonl").write_text((collection.folder / f"{part}.jsonl").read_text())
    files = "".join(
        f"- config_name: {p}\n  data_files:\n  - split: {p}\n    path: {p}.jsonl\n" for p in ("corpus", "queries")
    )
    (main / "README.md").write_text(f"---\nconfigs:\n{files}---\n")
    for split in collection.splits():
        (judged / f"{split}.tsv").write_text((collection.folder / "qrels" / f"{split}.tsv").read_text())


def test_an_ir_datasets_id_is_read(tmp_path, monkeypatch):
    import ir_datasets

    (tmp_path / "docs.tsv").write_text("d1\totters swim\nd2\tcomets fly\n")
    (tmp_path / "queries.tsv").write_text("q1\twhat swims\n")
    (tmp_path / "qrels").write_text("q1 0 d1 1\nq1 0 d2 0\n")
    made = ir_datasets.create_dataset(
        docs_tsv=str(tmp_path / "docs.tsv"),
        queries_tsv=str(tmp_path / "queries.tsv"),
        qrels_trec=str(tmp_path / "qrels"),
    )
    ir_datasets.registry.register("toy/test", made)
    ir_datasets.registry.register("toy/arguana", made)
    assert IrDatasets("toy/arguana").open().excludes_self and not IrDatasets("toy/test").open().excludes_self
    found = IrDatasets("toy/test").open()
    assert [document.text for document in found.corpus] == ["otters swim", "comets fly"]
    assert found.qrels("test").to_dict() == {"q1": {"d1": 1, "d2": 0}}
    with pytest.raises(ValueError, match="ir_datasets .* knows no dataset 'no/such'"):
        IrDatasets("no/such").open()


# What each real collection must hold: documents; per split queries and judgements; first and last document id.
PINNED = {
    "scifact": (5183, {"train": (809, 919), "test": (300, 339)}, "4983", "198309074"),
    "nfcorpus": (3633, {"train": (2590, 110575), "dev": (324, 11385), "test": (323, 12334)}, "MED-10", "MED-961"),
    "limit-small": (46, {"test": (1000, 2000)}, "Geneva Durben", "Theola Laudermilk"),
    "trec-dl-pool": (30005, {"dl19": (43, 4342), "dl20": (54, 5148), "test": (97, 9490)}, "421", "8841030"),
}


@pytest.mark.parametrize("name", PINNED)
def test_a_real_collection_holds_what_it_should(name, data):
    documents, splits, first, last = PINNED[name]
    found = Collection(data / name)
    assert len(found.corpus) == documents
    assert found.corpus.ids[0] == first
    assert found.corpus.ids[documents - 1] == last
    for split, (queries, judgements) in splits.items():
        assert found.counts(split)["queries"] == queries and found.counts(split)["judgements"] == judgements
