"""Decoders as encoders: left padding, the last token, end tokens, instructions, prompts that are not pooled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from retrieval.bi_encoder import BiEncoder, Settings
from retrieval.encoders.transformer import Transformer
from tests.conftest import TEXTS

SAMPLE = [*TEXTS[:12], "otter", "a longer text " * 30, TEXTS[0]]
SHAPE = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
)


def decoder(folder, tokenizer_of, kind="Llama", **more):
    """A decoder of two layers; its tokenizer adds no special token, and [SEP] ends a text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_of, padding_side="left", eos_token="[SEP]")
    tokenizer.backend_tokenizer.post_processor = None
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer), **(SHAPE | more))
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def llama(tiny_model, tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("llama") / "m", tiny_model)


def last(model, **more):
    return Transformer(model, pooling="last", dtype="float32", **more)


def peer(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize(("kind", "more"), [("Llama", {}), ("Mistral", {}), ("Qwen3", {"head_dim": 8})])
def test_a_decoder_gives_the_same_vectors_in_any_batch_and_in_sentence_transformers(tiny_model, tmp_path, kind, more):
    folder = decoder(tmp_path / "m", tiny_model, kind, **more)
    encoder = last(folder, normalize=True)
    assert encoder.contract()["padding_side"] == "left"
    found = encoder.encode_docs(SAMPLE).vectors
    alone = np.concatenate([encoder.encode_docs([text]).vectors for text in SAMPLE])
    np.testing.assert_allclose(found, alone, atol=1e-5)
    encoder.bi_encoder.save(tmp_path / "saved")
    np.testing.assert_allclose(found, peer(tmp_path / "saved").encode(SAMPLE), atol=1e-5)


@pytest.mark.parametrize("starts", [False, True])
def test_the_end_token_is_the_last_one_also_of_a_text_that_is_cut(tiny_model, tmp_path, starts):
    folder = decoder(tmp_path / "m", tiny_model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if starts:
        from tokenizers.processors import TemplateProcessing

        begin = ("[CLS]", tokenizer.cls_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[begin])
        tokenizer.save_pretrained(folder)
    encoder = last(folder, append_eos=True, max_length=8)
    ended = encoder.bi_encoder.tokenizer
    cut = ended("a longer text " * 30, truncation=True, max_length=8).input_ids
    assert len(cut) == 8 and cut[-1] == tokenizer.eos_token_id and cut.count(cut[-1]) == 1
    assert ended("otter").input_ids == [*tokenizer("otter").input_ids, tokenizer.eos_token_id]
    plain = last(folder, max_length=9).encode_docs(["a small otter[SEP]"]).vectors
    np.testing.assert_allclose(encoder.encode_docs(["a small otter"]).vectors, plain, atol=1e-6)
    assert encoder.encode_docs(SAMPLE).truncated == sum(len(ended(text).input_ids) > 8 for text in SAMPLE)


def test_an_end_token_that_the_tokenizer_adds_is_not_added_twice_and_is_saved(llama, tmp_path):
    last(llama, append_eos=True).bi_encoder.save(tmp_path / "saved")
    again = last(str(tmp_path / "saved"), append_eos=True)
    end = again.bi_encoder.tokenizer.eos_token_id
    assert again.bi_encoder.tokenizer("otter").input_ids.count(end) == 1
    np.testing.assert_allclose(again.encode_docs(SAMPLE).vectors, peer(tmp_path / "saved").encode(SAMPLE), atol=1e-5)


def test_a_tokenizer_without_an_end_token_is_refused(tiny_model):
    with pytest.raises(ValueError, match=r"append_eos: the tokenizer of .* has no end token"):
        Transformer(str(tiny_model), pooling="mean", append_eos=True).encode_docs(["otter"])


def test_an_instruction_stands_in_its_place_in_the_prompt(llama):
    asked = last(llama, query_prompt="old {instruction} near ", instruction="violin")
    plain = last(llama)
    np.testing.assert_array_equal(
        asked.encode_queries(["otter"]).vectors, plain.encode_queries(["old violin near otter"]).vectors
    )
    own = asked.encode_instructed(["otter", "comet"], ["teapot", "violin"]).vectors
    expected = plain.encode_queries(["old teapot near otter", "old violin near comet"]).vectors
    np.testing.assert_array_equal(own, expected)
    np.testing.assert_array_equal(asked.encode_docs(["otter"]).vectors, plain.encode_docs(["otter"]).vectors)


def test_an_instruction_without_a_place_is_refused_and_a_place_without_one(llama):
    with pytest.raises(ValueError, match=r"query_prompt 'old ' has no \{instruction\} for 'find'"):
        last(llama, query_prompt="old ", instruction="find").encode_docs(["otter"])
    with pytest.raises(ValueError, match=r"has \{instruction\}, and no instruction is given"):
        last(llama, query_prompt="{instruction} ").encode_queries(["otter"])
    with pytest.raises(ValueError, match=r"query_prompt '' has no \{instruction\} for 'find'"):
        last(llama).encode_instructed(["otter"], ["find"])


def test_documents_do_not_depend_on_what_queries_are_asked_with(llama):
    plain = dict(last(llama, query_prompt="old {instruction} ", instruction="violin").contract())
    other = dict(last(llama, query_prompt="wild ").contract())
    assert plain.pop("queries") == {"query_prompt": "old {instruction} ", "instruction": "violin", "adapter": None}
    assert other.pop("queries") == {"query_prompt": "wild ", "instruction": None, "adapter": None}
    assert plain == other


@pytest.mark.parametrize(("pooling", "side"), [("mean", "left"), ("mean", "right"), ("last", "left")])
def test_a_prompt_that_is_not_pooled_gives_sentence_transformers_vectors(llama, tmp_path, pooling, side):
    chosen = Settings(pooling=pooling, query_prompt="the wild ", include_prompt=False, padding_side=side)
    BiEncoder.load(Path(llama), chosen).save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "1_Pooling" / "config.json").read_text())["include_prompt"] is False
    ours = Transformer(str(tmp_path / "saved"), dtype="float32")
    expected = peer(tmp_path / "saved").encode_query(SAMPLE)
    np.testing.assert_allclose(ours.encode_queries(SAMPLE).vectors, expected, atol=1e-5)


def test_a_prompt_that_is_not_pooled_by_hand_where_each_query_has_its_own(llama):
    encoder = Transformer(llama, "mean", query_prompt="{instruction} ", include_prompt=False, dtype="float32")
    texts, instructions = ["a small otter", "comet"], ["wild", "the old violin"]
    model = encoder.bi_encoder
    expected = []
    for text, instruction in zip(texts, instructions, strict=True):
        ids = model.tokenizer(f"{instruction} {text}", return_tensors="pt").input_ids
        with torch.inference_mode():
            states = model.transformer(ids).last_hidden_state[0]
        expected.append(states[len(model.tokenizer(instruction).input_ids) :].mean(0).numpy())
    np.testing.assert_allclose(encoder.encode_instructed(texts, instructions).vectors, expected, atol=1e-5)


def test_a_batch_for_training_leaves_the_prompt_out_too(llama):
    encoder = Transformer(llama, "mean", query_prompt="the wild ", include_prompt=False, dtype="float32")
    with torch.inference_mode():
        found = encoder.bi_encoder(encoder.bi_encoder.tokenize_queries(SAMPLE)).numpy()
    np.testing.assert_allclose(found, encoder.encode_queries(SAMPLE).vectors, atol=1e-5)
