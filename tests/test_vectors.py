"""Vectors on disk: whole or absent, resumable, and of one corpus and encoder only."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from retrieval.corpus import Corpus, Document
from retrieval.encoders.transformer import Transformer
from retrieval.encoding import encode_corpus
from retrieval.indexes.flat import Flat
from retrieval.retrievers.dense import DenseRetriever
from retrieval.types import Queries
from retrieval.vectors import VectorStore
from tests.conftest import TEXTS


@pytest.fixture
def corpus(tmp_path):
    return Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(TEXTS)), tmp_path / "corpus")


@pytest.fixture
def encoder(tiny_model):
    return Transformer(str(tiny_model), pooling="mean", dtype="float32")


def stored(corpus, encoder, folder, shard=64, **settings):
    encode_corpus(corpus, encoder, folder, shard=shard, **settings)
    return VectorStore(folder)


def test_stored_vectors_are_the_encoders(corpus, encoder, tmp_path):
    store = stored(corpus, encoder, tmp_path / "store")
    expected = encoder.encode_docs(TEXTS).vectors
    rows = np.array([399, 0, 64, 63, 0])
    np.testing.assert_allclose(store.rows(rows), expected[rows], atol=1e-6)
    assert [start for start, _ in store.tiles()] == list(range(0, 400, 64))
    store.verify()


def test_a_killed_encode_goes_on_and_ends_with_the_same_bytes(corpus, encoder, tiny_model, tmp_path):
    whole = stored(corpus, encoder, tmp_path / "whole")
    script = f"""
import os, signal
from pathlib import Path
from retrieval.corpus import Corpus
from retrieval.encoders.transformer import Transformer
from retrieval.encoding import encode_corpus
class Dying:
    calls, transformer = 0, Transformer({str(tiny_model)!r}, pooling="mean", dtype="float32")
    contract = transformer.contract
    def encode_docs(self, texts):
        Dying.calls += 1
        if Dying.calls == 5: os.kill(os.getpid(), signal.SIGKILL)  # the first call looks at a few documents
        return self.transformer.encode_docs(texts)
encode_corpus(Corpus(Path({str(corpus.folder)!r})), Dying(), Path({str(tmp_path / "killed")!r}), shard=64)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    told = [path.with_suffix("") for path in (tmp_path / "killed").glob("shard-*.f32.json")]  # written last of a shard
    finished = {path.name: path.stat().st_mtime_ns for path in told}
    assert len(finished) in (2, 3)  # the third may have been on its way
    with pytest.raises(ValueError, match=r"shard-0000[23].f32 is missing; delete that shard and encode again"):
        VectorStore(tmp_path / "killed")
    resumed = stored(corpus, encoder, tmp_path / "killed")
    for start, tile in resumed.tiles():
        np.testing.assert_array_equal(tile, whole.rows(np.arange(start, start + len(tile))))
    for name, written in finished.items():
        assert (tmp_path / "killed" / name).stat().st_mtime_ns == written  # no finished piece is done twice


def test_a_shard_cut_short_or_changed_is_named(corpus, encoder, tmp_path):
    store = stored(corpus, encoder, tmp_path / "store")
    shard = tmp_path / "store" / "shard-00002.f32"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="shard-00002.f32 has changed since it was written"):
        store.verify()
    shard.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match=r"shard-00002.f32 has \d+ bytes and should have \d+; delete that shard"):
        VectorStore(tmp_path / "store")


def test_a_write_that_fails_in_the_middle_leaves_no_half_written_shard(corpus, encoder, tiny_model, tmp_path):
    """The system refuses to let a file grow past 5,000 bytes, as a full disk would; a shard needs 51,200."""
    script = f"""
import resource, signal
from pathlib import Path
from retrieval.corpus import Corpus
from retrieval.encoders.transformer import Transformer
from retrieval.encoding import encode_corpus
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
encoder = Transformer({str(tiny_model)!r}, pooling="mean", dtype="float32")
encode_corpus(Corpus(Path({str(corpus.folder)!r})), encoder, Path({str(tmp_path / "store")!r}), shard=64)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1 and "OSError" in done.stderr
    assert {path.name for path in (tmp_path / "store").iterdir()} == {"contract.json", "health.json"}
    assert len(stored(corpus, encoder, tmp_path / "store")) == len(corpus)  # the same command goes on


def test_vectors_of_another_corpus_are_refused(corpus, encoder, tmp_path):
    other = Corpus.build([Document("x", "", "another")], tmp_path / "other")
    stored(other, encoder, tmp_path / "store")
    retriever = DenseRetriever(encoder, Flat(), vectors=tmp_path / "store")
    with pytest.raises(ValueError, match=r"holds vectors of corpus .* \(1 documents\), not of .* \(400 documents\)"):
        retriever.open(corpus, tmp_path)
    with pytest.raises(ValueError, match="holds vectors of corpus"):
        stored(corpus, encoder, tmp_path / "store")


def test_vectors_of_another_encoder_are_refused_with_both_sides(corpus, encoder, tiny_model, tmp_path):
    stored(corpus, encoder, tmp_path / "store")
    prompted = Transformer(str(tiny_model), pooling="cls", doc_prompt="wild ", dtype="float32")
    message = "pooling: 'mean' there, 'cls' here; doc_prompt: '' there, 'wild ' here"
    with pytest.raises(ValueError, match=message):
        DenseRetriever(prompted, Flat(), vectors=tmp_path / "store").open(corpus, tmp_path)
    with pytest.raises(ValueError, match=message):
        stored(corpus, prompted, tmp_path / "store")


def test_a_folder_without_vectors_says_how_to_make_them(tmp_path):
    with pytest.raises(ValueError, match=r"holds no vectors \(no contract.json\); make them with retrieval.encode"):
        VectorStore(tmp_path)


def test_a_dense_retriever_finds_the_text_itself_and_encodes_once(corpus, encoder, tmp_path, monkeypatch):
    retriever = DenseRetriever(encoder, Flat("cosine"))
    retriever.open(corpus, tmp_path / "cache")
    run = retriever.retrieve(Queries(["q"], [TEXTS[123]]), k=1000)
    assert run.rows[0, 0] == 123 and run.rows.shape == (1, 400)  # k is larger than the corpus
    again = DenseRetriever(encoder, Flat("cosine"))
    monkeypatch.setattr(encoder, "encode_docs", None)
    again.open(corpus, tmp_path / "cache")
    assert json.dumps(again.provenance()) == json.dumps(retriever.provenance())


def test_feedback_gives_texts_and_vectors_of_what_was_found(corpus, encoder, tmp_path):
    retriever = DenseRetriever(encoder, Flat())
    retriever.open(corpus, tmp_path / "cache")
    queries = Queries(["q"], [TEXTS[7]])
    run = retriever.retrieve(queries, k=3)
    encoded, feedback = retriever.feedback(queries, run)
    np.testing.assert_array_equal(encoded.representations.vectors, encoder.encode_queries([TEXTS[7]]).vectors)
    assert feedback.texts(run.rows[0]) == [TEXTS[row] for row in run.rows[0]]
    np.testing.assert_allclose(feedback.vectors(run.rows[0]), retriever.store.rows(run.rows[0]))


def test_two_retrievers_that_share_an_index_search_their_own_vectors(corpus, encoder, tiny_model, tmp_path):
    """In a recipe equal blocks are one object, so `index: flat` may be the same index for both."""
    index, queries = Flat(), Queries(["q"], [TEXTS[7]])
    first = DenseRetriever(encoder, index)
    first.open(corpus, tmp_path)
    alone = first.retrieve(queries, 5)
    second = DenseRetriever(Transformer(str(tiny_model), pooling="weighted_mean", dtype="float32"), index)
    second.open(corpus, tmp_path)
    np.testing.assert_array_equal(first.retrieve(queries, 5).scores, alone.scores)
    assert (second.retrieve(queries, 5).scores != alone.scores).any()


def test_rows_that_are_not_there_have_no_vectors(corpus, encoder, tmp_path):
    store = stored(corpus, encoder, tmp_path / "store")
    with pytest.raises(IndexError, match="rows -1 to 3 of 400 vectors"):
        store.rows(np.array([3, -1]))
