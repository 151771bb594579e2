"""Encoding a corpus: killed at any moment, by several processes, in every number format, and looked at beforehand."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from retrieval import health
from retrieval.corpus import Corpus, Document
from retrieval.encoders.transformer import Transformer
from retrieval.encoding import encode_corpus, open_store
from retrieval.indexes.flat import Flat
from retrieval.number_formats import narrow, widen
from retrieval.retrievers.dense import DenseRetriever
from retrieval.sparse_vectors import SparseStore
from retrieval.token_vectors import TokenStore
from retrieval.types import Dense, Hybrid, Queries, Sparse, Tokens
from retrieval.vectors import VectorStore
from tests.conftest import TEXTS

ENCODE = """
import sys
from pathlib import Path
from retrieval.corpus import Corpus
from retrieval.encoders.transformer import Transformer
from retrieval.encoding import encode_corpus
encoder = Transformer(sys.argv[2], pooling="mean", dtype="float32", device="cpu")
encode_corpus(Corpus(Path(sys.argv[1])), encoder, Path(sys.argv[3]), "float16", shard=16)
"""


@pytest.fixture
def corpus(tmp_path):
    return Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(TEXTS)), tmp_path / "corpus")


@pytest.fixture
def encoder(tiny_model):
    return Transformer(str(tiny_model), pooling="mean", dtype="float32", device="cpu")


class Given:
    """An encoder of fixed answers: row i of `found` for the text "i"."""

    def __init__(self, found, **contract):
        self.found, self.about = found, contract

    def encode_docs(self, texts):
        return self.found.take([int(text) for text in texts])

    def contract(self):
        return {"encoder": "given", **self.about}


def numbered(folder, count):
    return Corpus.build((Document(f"d{i}", "", str(i)) for i in range(count)), folder)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_killed_at_random_moments_it_ends_with_the_bytes_of_an_uninterrupted_run(corpus, encoder, tiny_model, tmp_path):
    encode_corpus(corpus, encoder, tmp_path / "whole", "float16", shard=16)
    command = [sys.executable, "-c", ENCODE, str(corpus.folder), str(tiny_model), str(tmp_path / "killed")]
    moments, finished = random.Random(7), {}
    for _ in range(4):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        here = tmp_path / "killed"
        while process.poll() is None and not (here / "contract.json").is_file():
            time.sleep(0.01)  # what comes before is loading: a kill there would test nothing
        time.sleep(moments.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in here.glob("shard-*.json"):
            finished.setdefault(path.name, path.stat().st_mtime_ns)
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    for name, written in finished.items():
        assert (tmp_path / "killed" / name).stat().st_mtime_ns == written  # no finished shard is done twice


def test_two_ranks_part_the_shards_and_give_the_run_of_one(tiny_model, tmp_path):
    folder = tmp_path / "collection"
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": f"d{i}", "title": "", "text": text}) for i, text in enumerate(TEXTS)]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": TEXTS[5]}))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td5\t1\n")
    recipe = tmp_path / "encode.yaml"
    recipe.write_text(
        f"dataset: {{type: folder, path: {folder}}}\nshard: 16\n"
        f"encoder: {{type: transformer, model: {tiny_model}, pooling: mean, dtype: float32, device: cpu}}\n"
    )
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--mixed_precision",
        "no",
    ]
    launch += ["--num_machines", "1", "--dynamo_backend", "no", "--main_process_port", "0"]
    for name, command in (("one", [sys.executable]), ("two", launch)):
        command = [*command, "-m", "retrieval.encode", str(recipe), f"out={tmp_path / name}"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, two = (VectorStore(tmp_path / name / "vectors") for name in ("one", "two"))
    np.testing.assert_allclose(two.rows(np.arange(400)), one.rows(np.arange(400)), atol=1e-6, rtol=0)
    runs = []
    for store in (one, two):
        flat = Flat("cosine", device="cpu")
        flat.build(store, np.arange(400, dtype=np.int32))
        runs.append(flat.search(Dense(one.rows(np.arange(0, 400, 40))), 20)[0])
    np.testing.assert_array_equal(*runs)


def test_a_shard_that_a_living_process_encodes_is_left_to_it_and_a_dead_ones_is_done(corpus, encoder, tmp_path):
    folder = tmp_path / "store"
    encode_corpus(corpus, encoder, folder, shard=64, numbers=[0])
    script = (
        "import sys, time; from pathlib import Path; from retrieval.shards import Claim\n"
        f"claim = Claim.take(Path({str(folder)!r}), 3, wait=False); print('has it', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        os.environ["RANK"] = "1"  # a rank that does not wait
        encode_corpus(corpus, encoder, folder, shard=64)
        assert not list(folder.glob("shard-00003*")) and len(list(folder.glob("shard-*.f32"))) == 6
    finally:
        del os.environ["RANK"]
        other.kill()
        other.wait()
    encode_corpus(corpus, encoder, folder, shard=64)
    assert VectorStore(folder).rows(np.arange(400)).shape == (400, 32)
    assert not list(folder.glob(".shard*"))


def test_what_a_killed_process_had_begun_to_write_is_cleared_away(corpus, encoder, tmp_path):
    encode_corpus(corpus, encoder, tmp_path / "store", shard=64, numbers=[0, 1])
    left = tmp_path / "store" / ".shard-00002.f32.4711.part"
    left.write_bytes(b"half a shard")
    encode_corpus(corpus, encoder, tmp_path / "store", shard=64)
    assert not list((tmp_path / "store").glob(".*"))


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, (5, 3), elements=st.floats(-1000, 1000, width=32)))
@example(np.full((5, 3), 1e-45, np.float32))
@example(np.full((5, 3), 3e-43, np.float32))
def test_numbers_come_back_within_the_rounding_of_their_format(vectors):
    import torch

    (half,), (brain,) = narrow(vectors, "float16"), narrow(vectors, "bfloat16")
    np.testing.assert_array_equal(widen(half, "float16", None), torch.tensor(vectors).half().float().numpy())
    np.testing.assert_array_equal(widen(brain, "bfloat16", None), torch.tensor(vectors).bfloat16().float().numpy())
    scales, codes = narrow(vectors, "int8")
    assert (np.abs(widen(codes, "int8", scales) - vectors) <= scales * 0.5001).all()
    assert widen(narrow(vectors, "float32")[0], "float32", None) is not None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_a_store_of_each_format_gives_the_same_rows_whole_and_in_part(corpus, encoder, tmp_path, dtype):
    encode_corpus(corpus, encoder, tmp_path / "exact", shard=64)
    encode_corpus(corpus, encoder, tmp_path / dtype, dtype, shard=64)
    store, exact = VectorStore(tmp_path / dtype), VectorStore(tmp_path / "exact").rows(np.arange(400))
    rows = np.array([399, 3, 64, 63, 3])
    whole = np.concatenate([tile for _, tile in store.tiles()])
    np.testing.assert_array_equal(store.rows(rows), whole[rows])
    np.testing.assert_allclose(whole, exact, atol=np.abs(exact).max() / 100)
    size = sum(path.stat().st_size for path in (tmp_path / dtype).glob("shard-*[68]"))
    assert size == (400 * 32 + 7 * 32 * 4 if dtype == "int8" else 400 * 32 * 2)


def test_a_store_of_another_dtype_or_shard_size_is_refused(corpus, encoder, tmp_path):
    encode_corpus(corpus, encoder, tmp_path / "store", "float16")
    with pytest.raises(ValueError, match="holds float16, not int8: change dtype, or encode into another folder"):
        encode_corpus(corpus, encoder, tmp_path / "store", "int8")
    with pytest.raises(ValueError, match="holds float16, not float32"):
        DenseRetriever(encoder, Flat(), tmp_path / "store", dtype="float32").open(corpus, tmp_path)
    with pytest.raises(ValueError, match="has shards of 8192 documents, not 64"):
        encode_corpus(corpus, encoder, tmp_path / "store", "float16", shard=64)
    retriever = DenseRetriever(encoder, Flat(), tmp_path / "store")
    retriever.open(corpus, tmp_path)
    assert retriever.provenance()["stored as"] == "float16"


def test_a_number_too_large_for_float16_is_refused(tmp_path):
    corpus, found = numbered(tmp_path / "corpus", 3), Dense(np.array([[1, 2], [3, -70000], [5, 1]], np.float32))
    with pytest.raises(ValueError, match="70000 is more than float16 can hold: store bfloat16 or float32"):
        encode_corpus(corpus, Given(found, dimensions=2), tmp_path / "store", "float16")


def test_one_pass_of_an_encoder_of_two_kinds_writes_both(tmp_path):
    corpus, generator = numbered(tmp_path / "corpus", 50), np.random.default_rng(0)
    vectors = generator.normal(size=(50, 4)).astype(np.float32)
    weights = csr_array((generator.random((50, 9)) * (generator.random((50, 9)) < 0.4)).astype(np.float32))
    encoder = Given(Hybrid(Dense(vectors), Sparse(weights)), dimensions=4, vocabulary=9)
    encode_corpus(corpus, encoder, tmp_path / "store", shard=16)
    np.testing.assert_array_equal(VectorStore(tmp_path / "store").rows(np.arange(50)), vectors)
    np.testing.assert_array_equal(SparseStore(tmp_path / "store").rows(np.arange(50)).toarray(), weights.toarray())
    assert isinstance(open_store(tmp_path / "store"), VectorStore)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_token_vectors_are_stored_packed(tmp_path, dtype):
    corpus, generator = numbered(tmp_path / "corpus", 50), np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(generator.integers(0, 5, 50))])
    tokens = Tokens(generator.normal(size=(offsets[-1], 4)).astype(np.float32), offsets)
    encode_corpus(corpus, Given(tokens, token_dimensions=4), tmp_path / "store", dtype, shard=16)
    store = TokenStore(tmp_path / "store")
    np.testing.assert_array_equal(store.offsets, offsets)
    rows = np.array([49, 3, 16, 15, 3])
    found, expected = store.rows(rows), tokens.take(rows)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_allclose(
        found.vectors, expected.vectors, atol={"float32": 0, "float16": 2e-3, "int8": 0.02}[dtype]
    )
    whole = np.concatenate([part.vectors for _, part in store.tiles()])
    np.testing.assert_allclose(whole, tokens.vectors, atol=0.02)
    assert store.tokens == offsets[-1] and store.zero == np.count_nonzero(np.diff(offsets) == 0)
    store.verify()


def test_an_encoder_that_gives_nan_is_stopped_before_the_corpus_and_named_after(tmp_path):
    corpus, vectors = numbered(tmp_path / "corpus", 100), np.random.default_rng(0).normal(size=(100, 4))
    seen = vectors.astype(np.float32)
    seen[0] = np.nan
    with pytest.raises(ValueError, match="gives NaN or infinity for 1 of 32 texts"):
        encode_corpus(corpus, Given(Dense(seen), dimensions=4), tmp_path / "seen")
    unseen = vectors.astype(np.float32)
    unseen[1] = np.inf  # row 1 is none of the documents that are looked at first
    with pytest.raises(ValueError, match="the vector of document 'd1' is NaN or infinite"):
        encode_corpus(corpus, Given(Dense(unseen), dimensions=4), tmp_path / "unseen")
    assert not list((tmp_path / "unseen").glob("shard*"))


def test_collapsed_vectors_stop_the_encoding_with_their_cosine(tmp_path, caplog):
    corpus = numbered(tmp_path / "corpus", 100)
    vectors = (1 + np.random.default_rng(0).normal(size=(100, 16)) / 1000).astype(np.float32)
    encoder = Given(Dense(vectors), dimensions=16)
    with pytest.raises(ValueError, match=r"mean cosine of 32 texts is 1\.00000 .*health=warn goes on all the same"):
        encode_corpus(corpus, encoder, tmp_path / "store")
    with caplog.at_level(logging.WARNING):
        encode_corpus(corpus, encoder, tmp_path / "store", health="warn")
    assert "have collapsed" in caplog.text and len(VectorStore(tmp_path / "store")) == 100


def test_the_mean_pairwise_cosine_is_that_of_all_pairs():
    vectors = np.random.default_rng(1).normal(size=(20, 5)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    expected = cosines[~np.eye(20, dtype=bool)].mean()
    assert health.measure(Dense(vectors)).cosine == pytest.approx(expected, abs=1e-6)


def test_norms_that_drift_and_texts_that_are_cut_are_told(tmp_path, caplog):
    corpus, vectors = numbered(tmp_path / "corpus", 64), np.random.default_rng(0).normal(size=(64, 8))
    vectors[16:32] *= 9
    found = Dense(vectors.astype(np.float32), truncated=0)
    with caplog.at_level(logging.WARNING):
        encode_corpus(corpus, Given(found, dimensions=8), tmp_path / "store", shard=16)
    assert "shard-00001.f32: the mean norm is" in caplog.text
    about = health.measure(Dense(found.vectors, truncated=48))
    with caplog.at_level(logging.WARNING):
        health.report(about, {}, "stop")
    assert "75 % of 64 texts are cut at max_length" in caplog.text


def test_an_encoder_that_says_normalised_and_is_not_is_stopped(tmp_path):
    corpus, vectors = numbered(tmp_path / "corpus", 64), np.random.default_rng(0).normal(size=(64, 8))
    encoder = Given(Dense(vectors.astype(np.float32)), dimensions=8, normalize=True)
    with pytest.raises(ValueError, match="vectors that should have length 1 differ in it by"):
        encode_corpus(corpus, encoder, tmp_path / "store")


def test_a_width_that_is_not_the_contracts_is_refused(tmp_path):
    corpus = numbered(tmp_path / "corpus", 40)
    found = Dense(np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32))
    with pytest.raises(ValueError, match="gave vectors of 40 documents, 8 wide, not 7 wide"):
        encode_corpus(corpus, Given(found, dimensions=7), tmp_path / "store")
    with pytest.raises(ValueError, match="names none of dimensions, vocabulary, token_dimensions"):
        encode_corpus(corpus, Given(found), tmp_path / "nothing")


def test_texts_without_tokens_have_the_zero_vector_and_are_counted(tiny_model, tmp_path):
    corpus = Corpus.build([Document("a", "", "a small otter"), Document("b", "", "")], tmp_path / "corpus")
    found = Dense(np.array([[1, 0], [0, 0]], np.float32))

    class Empty(Given):
        def encode_docs(self, texts):
            return Dense(found.vectors[[int(not text) for text in texts]])

    retriever = DenseRetriever(Empty(found, dimensions=2), Flat(device="cpu"))
    retriever.open(corpus, tmp_path / "cache")
    assert retriever.provenance()["zero vectors"] == 1


def test_queries_with_instructions_need_an_encoder_that_takes_them(tmp_path):
    corpus = numbered(tmp_path / "corpus", 3)
    retriever = DenseRetriever(Given(Dense(np.eye(3, dtype=np.float32)), dimensions=3), Flat(device="cpu"))
    retriever.open(corpus, tmp_path / "cache")
    with pytest.raises(ValueError, match="the queries carry instructions, which Given does not take"):
        retriever.retrieve(Queries(["q"], ["1"], instructions=["find it"]), 2)
