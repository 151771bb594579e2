"""The transformer encoder: published weights, sentence-transformers' vectors, pooling, prompts, batches."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from retrieval.bi_encoder import BiEncoder, Projection, Settings, pool
from retrieval.encoders.transformer import Transformer
from tests.conftest import TEXTS

SAMPLE = [*TEXTS[:40], "", "x", "a longer text " * 30, TEXTS[0]]


def minilm_folder():
    return Transformer().folder


def peer(folder, **settings):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", **settings)


def test_minilm_gives_sentence_transformers_vectors():
    found = Transformer(dtype="float32").encode_docs(SAMPLE)
    expected = peer(minilm_folder()).encode(SAMPLE)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
    assert found.vectors.dtype == np.float32


def test_bfloat16_stays_close_to_float32():
    found = Transformer(dtype="bfloat16").encode_docs(TEXTS[:40]).vectors
    expected = Transformer(dtype="float32").encode_docs(TEXTS[:40]).vectors
    assert (found * expected).sum(axis=1).min() >= 0.999


def test_equal_texts_get_equal_vectors_and_order_is_kept(tiny_model):
    encoder = Transformer(str(tiny_model), pooling="mean", dtype="float32")
    found = encoder.encode_docs(SAMPLE).vectors
    np.testing.assert_array_equal(found[0], found[-1])
    one_by_one = np.concatenate([encoder.encode_docs([text]).vectors for text in SAMPLE])
    np.testing.assert_allclose(found, one_by_one, atol=1e-5)


def test_texts_that_are_cut_are_counted(tiny_model):
    encoder = Transformer(str(tiny_model), pooling="mean", max_length=12)
    assert encoder.encode_docs(SAMPLE).truncated == sum(
        len(ids) > 12 for ids in encoder.bi_encoder.tokenizer(SAMPLE).input_ids
    )
    assert Transformer(str(tiny_model), pooling="mean").encode_docs(["otter"]).truncated == 0


def test_prompts_are_put_before_the_text(tiny_model):
    plain = Transformer(str(tiny_model), pooling="mean", dtype="float32")
    prompted = Transformer(str(tiny_model), pooling="mean", query_prompt="old ", doc_prompt="wild ", dtype="float32")
    np.testing.assert_array_equal(
        prompted.encode_queries(["otter"]).vectors, plain.encode_queries(["old otter"]).vectors
    )
    np.testing.assert_array_equal(prompted.encode_docs(["otter"]).vectors, plain.encode_docs(["wild otter"]).vectors)


STATES = torch.tensor([[[1.0], [2.0], [4.0], [9.0]], [[1.0], [2.0], [4.0], [9.0]]])


@pytest.mark.parametrize("pooling", ["cls", "mean", "last", "weighted_mean"])
def test_a_text_without_tokens_has_the_zero_vector_in_any_company(tiny_model, pooling):
    encoder = Transformer(str(tiny_model), pooling=pooling, dtype="float32")
    encoder.bi_encoder.tokenizer.backend_tokenizer.post_processor = None  # no special tokens
    found = encoder.encode_docs(["", "otter", "a small otter"]).vectors
    assert not found[0].any() and found[1:].any(axis=1).all()
    assert not encoder.encode_docs([""]).vectors.any()


@pytest.mark.parametrize(
    ("pooling", "right", "left"),
    [("cls", 1, 2), ("last", 4, 9), ("mean", 7 / 3, 15 / 3), ("weighted_mean", 17 / 6, 37 / 6)],
)
def test_pooling_by_hand_with_padding_on_either_side(pooling, right, left):
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])
    assert pool(STATES, mask, pooling).flatten().tolist() == pytest.approx([right, left])


@pytest.mark.parametrize("pooling", ["cls", "mean", "last", "weighted_mean"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_saved_model_gives_the_same_vectors_in_sentence_transformers_and_back(tiny_model, tmp_path, pooling, side):
    chosen = Settings(pooling=pooling, normalize=True, query_prompt="old ", padding_side=side, max_length=16)
    model = BiEncoder.load(tiny_model, chosen)
    model.projections.append(Projection(torch.nn.Linear(32, 8), torch.nn.Tanh()))
    model.save(tmp_path / "saved")
    ours = Transformer(str(tmp_path / "saved"), dtype="float32")
    theirs = peer(tmp_path / "saved")
    np.testing.assert_allclose(ours.encode_queries(SAMPLE).vectors, theirs.encode_query(SAMPLE), atol=1e-5)
    np.testing.assert_allclose(ours.encode_docs(SAMPLE).vectors, theirs.encode_document(SAMPLE), atol=1e-5)
    theirs.save(str(tmp_path / "theirs"))
    back = Transformer(str(tmp_path / "theirs"), dtype="float32")
    np.testing.assert_allclose(back.encode_queries(SAMPLE).vectors, theirs.encode_query(SAMPLE), atol=1e-5)
    assert back.contract()["max_length"] == 16


def test_a_plain_model_needs_a_pooling(tiny_model):
    with pytest.raises(ValueError, match="does not say how its vectors are pooled; give pooling: cls, mean, last"):
        Transformer(str(tiny_model)).encode_docs(["otter"])


def test_a_folder_without_weights_is_refused(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model has no weights: model.safetensors is missing"):
        Transformer(str(tmp_path / "model"), pooling="mean").encode_docs(["otter"])
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(FileNotFoundError, match=r"only pytorch_model.bin, a pickle, which is never loaded"):
        Transformer(str(tmp_path / "model"), pooling="mean").encode_docs(["otter"])


def test_weights_with_another_hash_are_refused(tiny_model):
    with pytest.raises(ValueError, match=r"model.safetensors has SHA-256 [0-9a-f]{64}, expected 00"):
        Transformer(str(tiny_model), pooling="mean", sha256="00" * 32).encode_docs(["otter"])


def test_minilms_weights_are_the_published_ones():
    assert Transformer().contract()["weights"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_a_model_that_is_nowhere_says_where_it_may_be_put(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=f"put its files at {tmp_path}/lab/model/config.json, or give their path"
    ):
        Transformer("lab/model").encode_docs(["otter"])


def test_a_module_that_is_not_known_is_refused(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    modules = [{"path": "", "type": "x.Transformer"}, {"path": "1", "type": "x.Whitening"}]
    (tmp_path / "model" / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(
        ValueError, match=r"modules.json: x.Whitening: known are Transformer, Pooling, Dense, Normalize"
    ):
        Transformer(str(tmp_path / "model")).encode_docs(["otter"])


def test_a_model_that_gives_nan_is_refused_with_the_text(tiny_model, tmp_path):
    model = BiEncoder.load(tiny_model, Settings(pooling="mean"))
    with torch.no_grad():
        model.transformer.embeddings.word_embeddings.weight[:] = float("nan")
    model.save(tmp_path / "broken")
    with pytest.raises(ValueError, match="gives NaN or infinity for 'otter'"):
        Transformer(str(tmp_path / "broken")).encode_docs(["otter"])


def test_a_cuda_device_that_is_absent_is_refused(tiny_model):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match="device 'cuda': this machine, or this build of torch, has no CUDA device"):
        Transformer(str(tiny_model), pooling="mean", device="cuda").encode_docs(["otter"])


def test_a_hash_is_checked_before_training_too(tiny_model):
    with pytest.raises(ValueError, match="model.safetensors has SHA-256"):
        Transformer(str(tiny_model), pooling="mean", sha256="00" * 32).trainable()


def test_a_model_of_ones_own_may_be_named_like_the_packaged_one(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "my-all-MiniLM-L6-v2")
    assert Transformer(str(tmp_path / "my-all-MiniLM-L6-v2"), pooling="mean").contract()["dimensions"] == 32


def test_a_path_that_is_no_model_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no model folder {tmp_path}/absent"):
        Transformer(f"{tmp_path}/absent").encode_docs(["otter"])


def test_a_revision_of_a_model_on_disk_is_refused(tiny_model):
    with pytest.raises(ValueError, match="revision 'main' is one of the hub's, and .* is on disk: leave it out"):
        Transformer(str(tiny_model), pooling="mean", revision="main").encode_docs(["otter"])


def test_more_tokens_than_the_model_takes_are_refused(tiny_model):
    with pytest.raises(ValueError, match="max_length 65 is more than the 64 tokens"):
        Transformer(str(tiny_model), pooling="mean", max_length=65).encode_docs(["otter"])


def pooled(tiny_model, folder, about, **text):
    shutil.copytree(tiny_model, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(about))
    (folder / "modules.json").write_text(
        json.dumps([{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}])
    )
    (folder / "sentence_roberta_config.json").write_text(json.dumps(text))
    return Transformer(str(folder))


def test_the_length_is_read_whatever_the_family_of_the_model(tiny_model, tmp_path):
    encoder = pooled(tiny_model, tmp_path / "m", {"pooling_mode_mean_tokens": True}, max_seq_length=9)
    assert encoder.contract()["max_length"] == 9


def test_two_poolings_at_once_are_refused(tiny_model, tmp_path):
    both = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    with pytest.raises(ValueError, match=r"pooling \['pooling_mode_cls_token', .* is not supported, only one of cls"):
        pooled(tiny_model, tmp_path / "m", both).encode_docs(["otter"])


def test_a_model_of_which_only_a_part_is_cached_is_not_taken_for_whole(tmp_path, monkeypatch):
    """A hub cache that holds the config alone: the weights are asked for, which needs the network."""
    snapshot = tmp_path / "hub" / "models--lab--model" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(FileNotFoundError, match=r"no weights: model.safetensors is missing|could not be downloaded"):
        Transformer("lab/model", pooling="mean").encode_docs(["otter"])


def test_chunks_have_the_vectors_of_their_documents_bit_for_bit(tiny_model):
    encoder = Transformer(str(tiny_model), pooling="mean", dtype="float32", doc_prompt="old ", max_length=12)
    chunks = [SAMPLE[:17], [], SAMPLE[17:19], SAMPLE[19:]]
    found = list(encoder.encode_chunks(iter(chunks)))
    assert len(found) == len(chunks)
    for chunk, one in zip(chunks, found, strict=True):
        expected = encoder.encode_docs(chunk)
        np.testing.assert_array_equal(one.vectors, expected.vectors)
        assert one.truncated == expected.truncated


def test_queries_may_be_encoded_between_chunks(tiny_model):
    encoder = Transformer(str(tiny_model), pooling="mean", dtype="float32")
    for found in encoder.encode_chunks([TEXTS[:40]] * 4):
        np.testing.assert_array_equal(encoder.encode_queries(TEXTS[:40]).vectors, found.vectors)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_first_dimensions_are_cut_as_sentence_transformers_cuts_them(tiny_model, tmp_path, normalize):
    whole = Transformer(str(tiny_model), pooling="mean", dtype="float32")
    whole.bi_encoder.save(tmp_path / "saved")
    ours = Transformer(str(tmp_path / "saved"), normalize=normalize, dimensions=8, dtype="float32")
    theirs = peer(tmp_path / "saved", truncate_dim=8).encode(SAMPLE, normalize_embeddings=normalize)
    np.testing.assert_allclose(ours.encode_docs(SAMPLE).vectors, theirs, atol=1e-5)
    assert ours.contract()["dimensions"] == 8
    ours.bi_encoder.save(tmp_path / "short")
    back = Transformer(str(tmp_path / "short"), dtype="float32").encode_docs(SAMPLE).vectors
    np.testing.assert_array_equal(back, ours.encode_docs(SAMPLE).vectors)


@pytest.mark.parametrize("dimensions", [0, 33])
def test_dimensions_that_the_model_does_not_have_are_refused(tiny_model, dimensions):
    with pytest.raises(ValueError, match=f"dimensions is {dimensions}, and the model's vectors have 32"):
        Transformer(str(tiny_model), pooling="mean", dimensions=dimensions).encode_docs(["otter"])


def test_out_of_memory_changes_no_vector_and_is_told(tiny_model, monkeypatch):
    encoder = Transformer(str(tiny_model), pooling="mean", dtype="float32", batch_tokens=256)
    expected = encoder.encode_docs(SAMPLE).vectors
    forward = BiEncoder.forward

    def small(self, batch, queries=False):
        if batch["input_ids"].numel() > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, batch, queries)

    monkeypatch.setattr(BiEncoder, "forward", small)
    np.testing.assert_allclose(encoder.encode_docs(SAMPLE).vectors, expected, atol=1e-5)
    about = encoder.provenance()
    assert (about["batch_tokens"], about["batch tokens halved to"]) == (256, 64)


def test_what_only_queries_depend_on_is_told_apart(tiny_model):
    asked = dict(Transformer(str(tiny_model), pooling="mean", query_prompt="old ").contract())
    plain = dict(Transformer(str(tiny_model), pooling="mean").contract())
    assert asked.pop("queries")["query_prompt"] == "old " and plain.pop("queries")["query_prompt"] == ""
    assert asked == plain


def test_a_compiled_model_gives_the_same_vectors(tiny_model, tmp_path, monkeypatch):
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # no pool of processes for one small graph
    shallow = BiEncoder.load(tiny_model, Settings(pooling="mean"))
    shallow.transformer.encoder.layer = shallow.transformer.encoder.layer[:1]
    shallow.transformer.config.num_hidden_layers = 1
    shallow.save(tmp_path / "shallow")
    found, expected = (
        Transformer(str(tmp_path / "shallow"), dtype="float32", compiled=compiled).encode_docs(["otter", TEXTS[0]])
        for compiled in (True, False)
    )
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-5)
