"""Sparse vectors on disk: whole or absent, resumable, and of one corpus and encoder only."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.sparse import csr_array

from retrieval.cli import run
from retrieval.corpus import Corpus, Document
from retrieval.encode import encode
from retrieval.encoders.splade import Splade
from retrieval.encoders.transformer import Transformer
from retrieval.encoding import encode_corpus
from retrieval.sparse_vectors import SparseStore
from retrieval.types import Sparse
from retrieval.vectors import VectorStore
from tests.conftest import TEXTS


@pytest.fixture
def corpus(tmp_path):
    return Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(TEXTS)), tmp_path / "corpus")


@pytest.fixture
def encoder(tiny_mlm):
    return Splade(str(tiny_mlm), dtype="float32")


def encode_sparse(corpus, encoder, folder, shard=64):
    encode_corpus(corpus, encoder, folder, shard=shard)
    return SparseStore(folder)


class Fixed:
    """An encoder that gives the rows of a matrix, whatever the texts."""

    def __init__(self, matrix):
        self.matrix, self.done = csr_array(np.array(matrix, np.float32)), 0

    def encode_docs(self, texts):
        self.done += len(texts)
        return Sparse(self.matrix[self.done - len(texts) : self.done], truncated=1)

    def contract(self):
        return {"encoder": "fixed", "vocabulary": self.matrix.shape[1]}


def test_stored_weights_are_the_encoders(corpus, encoder, tmp_path):
    store = encode_sparse(corpus, encoder, tmp_path / "store")
    expected = encoder.encode_docs(TEXTS).matrix.toarray()
    assert store.shape == expected.shape and len(store) == 400
    blocks = list(store.chunks())
    assert [block.shape[0] for block in blocks] == [64] * 6 + [16]
    np.testing.assert_allclose(np.concatenate([block.toarray() for block in blocks]), expected, atol=1e-5)
    assert store.entries == np.count_nonzero(expected) and store.truncated == 0 and store.empty == 0
    np.testing.assert_array_equal(store.frequencies, np.count_nonzero(expected, axis=0))
    store.verify()


def test_rows_come_in_the_order_asked(corpus, encoder, tmp_path):
    store = encode_sparse(corpus, encoder, tmp_path / "store")
    whole = np.concatenate([block.toarray() for block in store.chunks()])
    rows = np.array([399, 0, 64, 63, 0, 398], np.int32)
    found = store.rows(rows)
    assert found.dtype == np.float32 and found.has_sorted_indices
    np.testing.assert_array_equal(found.toarray(), whole[rows])
    assert store.rows(rows[:0]).shape == (0, store.shape[1])
    with pytest.raises(IndexError, match="rows -1 to 3 of 400 vectors"):
        store.rows(np.array([3, -1]))


def test_chunks_are_mapped_and_not_read(corpus, encoder, tmp_path):
    block = next(encode_sparse(corpus, encoder, tmp_path / "store").chunks())
    for array in (block.data, block.indices):
        while not isinstance(array, np.memmap) and array.base is not None:
            array = array.base
        assert isinstance(array, np.memmap) and not array.flags.writeable


def test_documents_without_weights_have_rows(tmp_path, monkeypatch):
    corpus = Corpus.build([Document(f"d{i}", "", "x") for i in range(5)], tmp_path / "corpus")
    matrix = [[0, 2, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 3, 0]]
    store = encode_sparse(corpus, Fixed(matrix), tmp_path / "store", shard=2)
    assert [block.toarray().tolist() for block in store.chunks()] == [matrix[:2], matrix[2:4], matrix[4:]]
    assert store.rows(np.array([4, 2, 0])).toarray().tolist() == [matrix[4], matrix[2], matrix[0]]
    assert (store.empty, store.entries, store.truncated) == (3, 3, 3) and store.frequencies.tolist() == [1, 2, 0]


@pytest.mark.parametrize("weight", [np.nan, np.inf, -1])
def test_a_weight_that_cannot_be_is_refused_with_its_document(tmp_path, weight):
    corpus = Corpus.build([Document("a", "", "x"), Document("b", "", "y")], tmp_path / "corpus")
    with pytest.raises(ValueError, match=rf"document 'b': vocabulary entry 2 weighs {weight}"):
        encode_sparse(corpus, Fixed([[1, 2, 0], [0, 1, weight]]), tmp_path / "store")


def test_a_killed_encode_goes_on_and_ends_with_the_same_bytes(corpus, encoder, tiny_mlm, tmp_path):
    encode_sparse(corpus, encoder, tmp_path / "whole")
    script = f"""
import os, signal
from pathlib import Path
from retrieval.corpus import Corpus
from retrieval.encoders.splade import Splade
from retrieval.encoding import encode_corpus
class Dying:
    calls, splade = 0, Splade({str(tiny_mlm)!r}, dtype="float32")
    contract = splade.contract
    def encode_docs(self, texts):
        Dying.calls += 1
        if Dying.calls == 4: os.kill(os.getpid(), signal.SIGKILL)
        return self.splade.encode_docs(texts)
encode_corpus(Corpus(Path({str(corpus.folder)!r})), Dying(), Path({str(tmp_path / "killed")!r}), shard=64)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    told = [path.with_suffix("") for path in (tmp_path / "killed").glob("shard-*.csr.json")]  # written last of a shard
    finished = {path.name: path.stat().st_mtime_ns for path in told}
    assert len(finished) in (2, 3)  # the third may have been on its way
    with pytest.raises(ValueError, match=r"shard-0000[23].csr is missing; delete that shard and encode again"):
        SparseStore(tmp_path / "killed")
    encode_sparse(corpus, encoder, tmp_path / "killed")
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "killed").iterdir()) and len(names) == 15
    for name in names:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for name, written in finished.items():
        assert (tmp_path / "killed" / name).stat().st_mtime_ns == written  # no finished piece is done twice


def test_a_shard_cut_short_or_changed_is_named(corpus, encoder, tmp_path):
    store = encode_sparse(corpus, encoder, tmp_path / "store")
    shard = tmp_path / "store" / "shard-00002.csr"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="shard-00002.csr has changed since it was written"):
        store.verify()
    shard.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match=r"shard-00002.csr has \d+ bytes and should have \d+; delete that shard"):
        SparseStore(tmp_path / "store")


def test_a_write_that_fails_in_the_middle_leaves_no_half_written_shard(corpus, encoder, tiny_mlm, tmp_path):
    """The system refuses to let a file grow past 5,000 bytes, as a full disk would."""
    script = f"""
import resource, signal
from pathlib import Path
from retrieval.corpus import Corpus
from retrieval.encoders.splade import Splade
from retrieval.encoding import encode_corpus
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
encoder = Splade({str(tiny_mlm)!r}, dtype="float32")
encode_corpus(Corpus(Path({str(corpus.folder)!r})), encoder, Path({str(tmp_path / "store")!r}), shard=64)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1 and "OSError" in done.stderr
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["contract.json"]
    assert len(encode_sparse(corpus, encoder, tmp_path / "store")) == len(corpus)  # the same command goes on


def test_weights_of_another_corpus_are_refused(corpus, encoder, tmp_path):
    other = Corpus.build([Document("x", "", "another")], tmp_path / "other")
    store = encode_sparse(other, encoder, tmp_path / "store")
    message = r"holds vectors of corpus .* \(1 documents\), not of .* \(400 documents\)"
    with pytest.raises(ValueError, match=message):
        store.expect(corpus, encoder.contract())
    with pytest.raises(ValueError, match=message):
        encode_sparse(corpus, encoder, tmp_path / "store")


def test_weights_of_another_encoder_are_refused_with_both_sides(corpus, encoder, tiny_mlm, tmp_path):
    store = encode_sparse(corpus, encoder, tmp_path / "store")
    pruned = Splade(str(tiny_mlm), doc_terms=3, max_length=9, dtype="float32")
    message = "max_length: 32 there, 9 here; doc_terms: None there, 3 here"
    with pytest.raises(ValueError, match=message):
        store.expect(corpus, pruned.contract())
    with pytest.raises(ValueError, match=message):
        encode_sparse(corpus, pruned, tmp_path / "store")


def test_another_query_side_takes_the_same_documents(corpus, encoder, tiny_mlm, tmp_path):
    store = encode_sparse(corpus, encoder, tmp_path / "store")
    assert store.expect(corpus, Splade(str(tiny_mlm), queries="binary", query_terms=3, dtype="float32").contract())


def test_a_folder_of_the_other_kind_is_refused(corpus, encoder, tiny_model, tmp_path):
    dense = Transformer(str(tiny_model), pooling="mean", dtype="float32")
    encode_corpus(corpus, dense, tmp_path / "dense")
    with pytest.raises(ValueError, match=r"another kind \(encoder 'transformer'\), which have no vocabulary"):
        SparseStore(tmp_path / "dense")
    with pytest.raises(ValueError, match="encoder: 'transformer' there, 'splade' here"):
        encode_sparse(corpus, encoder, tmp_path / "dense")
    encode_sparse(corpus, encoder, tmp_path / "sparse")
    with pytest.raises(ValueError, match=r"another kind \(encoder 'splade'\), which have no dimensions"):
        VectorStore(tmp_path / "sparse")
    with pytest.raises(ValueError, match=r"holds no vectors \(no contract.json\); make them with retrieval.encode"):
        SparseStore(tmp_path)


def test_the_encode_recipe_writes_a_sparse_store(tiny_mlm, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(
        "dataset: {type: generated_limit, documents: 8, queries: 28, distractors: 40, items: 8, train_queries: 28, "
        f"dev_queries: 10}}\nencoder: {{type: splade, model: {tiny_mlm}, dtype: float32, doc_terms: 20}}\n"
    )
    results = run(encode, ["recipe.yaml", "out=encoded"])
    store = SparseStore(tmp_path / "encoded" / "vectors")
    assert results["documents"] == len(store) == 61 and results["dimensions"] == store.shape[1]
    assert results["contract"] == dict(store.contract) and "queries" not in results["contract"]
