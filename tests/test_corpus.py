"""Ingest: bounded, exact, and clear about what it refuses."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest

from retrieval.corpus import Corpus, Document, read_documents

DOCUMENTS = [Document("a", "Otters", "swim"), Document("b c", "", "Ünïcode – text"), Document("d", "", "")]


def test_a_corpus_gives_back_what_was_ingested(tmp_path):
    corpus = Corpus.build(DOCUMENTS, tmp_path / "corpus")
    assert list(corpus) == DOCUMENTS and len(corpus) == 3
    assert corpus.documents([2, 0]) == [DOCUMENTS[2], DOCUMENTS[0]]
    assert corpus.texts([0, 1, 2]) == ["Otters swim", "Ünïcode – text", ""]
    assert corpus.empty == 1
    assert corpus.ids.take(np.array([1])) == ["b c"]


def test_rows_of_several_chunks_come_in_the_order_asked(tmp_path):
    corpus = Corpus.build((Document(str(i), "", f"text {i}") for i in range(10_000)), tmp_path / "corpus")
    rows = np.random.default_rng(0).permutation(10_000)[:500]
    assert corpus.texts(rows) == [f"text {row}" for row in rows]
    assert [document.id for document in corpus.documents(rows)] == [str(row) for row in rows]


def test_the_fingerprint_follows_the_content(tmp_path):
    first, again = Corpus.build(DOCUMENTS, tmp_path / "1"), Corpus.build(DOCUMENTS, tmp_path / "2")
    other = Corpus.build([Document("a", "Otter", "sswim"), *DOCUMENTS[1:]], tmp_path / "3")
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_append_keeps_rows_and_makes_a_new_fingerprint(tmp_path):
    corpus = Corpus.build(DOCUMENTS, tmp_path / "corpus")
    larger = corpus.append([Document("e", "", "more")], tmp_path / "larger")
    assert list(larger)[:3] == DOCUMENTS and len(larger) == 4
    assert larger.fingerprint != corpus.fingerprint
    assert larger.fingerprint == Corpus.build([*DOCUMENTS, Document("e", "", "more")], tmp_path / "x").fingerprint


def test_an_id_given_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'a' is given twice"):
        Corpus.build([*DOCUMENTS, Document("a", "", "")], tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []  # nothing half-made is left


def test_an_empty_corpus_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no documents"):
        Corpus.build([], tmp_path / "corpus")


def test_a_folder_cut_short_is_refused(tmp_path):
    Corpus.build(DOCUMENTS, tmp_path / "corpus")
    path = tmp_path / "corpus" / "documents.arrow"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"documents\.arrow has \d+ bytes and should have \d+: delete the folder"):
        Corpus(tmp_path / "corpus")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"_id": "2", "text": ', r"corpus.jsonl:3: not JSON \(Expecting value at column 22\)"),
        ('{"id": "2", "text": "x"}', 'corpus.jsonl:3: no "_id"'),
        ('["2", "x"]', 'corpus.jsonl:3: no "_id"'),
        ('{"_id": "2", "title": "x"}', "corpus.jsonl:3: document '2' has no \"text\""),
        ('{"_id": ["2"], "text": "x"}', 'corpus.jsonl:3: no "_id"'),
        ('{"_id": "2", "title": 5, "text": "x"}', "corpus.jsonl:3: document '2' has a \"title\" that is no text: 5"),
        ('{"_id": "2", "text": "\\ud800"}', "corpus.jsonl:3: document '2' holds half a surrogate pair"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"_id": "1", "text": "x"}\n\n' + line + "\n")
    with pytest.raises(ValueError, match=message):
        list(read_documents(path))


def test_a_compressed_file_reads_the_same(tmp_path):
    lines = "".join(json.dumps({"_id": d.id, "title": d.title, "text": d.text}) + "\n" for d in DOCUMENTS)
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert list(read_documents(tmp_path / "corpus.jsonl.gz")) == DOCUMENTS


def test_ingest_does_not_hold_the_text(tmp_path):
    """120 MB of text pass through a process that may grow by less than half of it."""
    script = f"""
import resource, pathlib
from retrieval.corpus import Corpus
def documents(n):
    for i in range(n):
        yield str(i), "", "word " * 200
Corpus.build(documents(5000), pathlib.Path({str(tmp_path)!r}) / "warm")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Corpus.build(documents(120_000), pathlib.Path({str(tmp_path)!r}) / "corpus")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert grown < 60_000  # KiB; ids and their order take about 15 MB


def test_a_kill_while_ingesting_leaves_nothing_that_counts_as_whole(tmp_path):
    script = f"""
import os, pathlib, signal
from retrieval.corpus import Corpus
def documents():
    for i in range(20_000):
        if i == 15_000: os.kill(os.getpid(), signal.SIGKILL)
        yield str(i), "", "text"
Corpus.build(documents(), pathlib.Path({str(tmp_path)!r}) / "corpus")
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert not (tmp_path / "corpus").exists()
    assert len(Corpus.build(DOCUMENTS, tmp_path / "corpus")) == 3


def test_bytes_that_are_not_utf8_are_named(tmp_path):
    (tmp_path / "corpus.jsonl").write_bytes(b'{"_id": "1", "text": "x"}\n{"_id": "2", "text": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"corpus.jsonl:2: not UTF-8 \(byte 26\)"):
        list(read_documents(tmp_path / "corpus.jsonl"))


def test_a_compressed_file_cut_short_is_named(tmp_path):
    whole = gzip.compress(b'{"_id": "1", "text": "x"}\n' * 100)
    (tmp_path / "corpus.jsonl.gz").write_bytes(whole[:-12])
    with pytest.raises(ValueError, match=r"corpus.jsonl.gz is not a whole gzip file"):
        list(read_documents(tmp_path / "corpus.jsonl.gz"))


def test_a_folder_that_holds_something_is_not_written_over(tmp_path):
    corpus = Corpus.build(DOCUMENTS, tmp_path / "corpus")
    with pytest.raises(FileExistsError, match="corpus exists already: choose another folder, or delete it"):
        corpus.append([Document("e", "", "more")], tmp_path / "corpus")
    assert len(Corpus(tmp_path / "corpus")) == 3
    assert (tmp_path / "corpus").stat().st_mode & 0o055  # others may read it
