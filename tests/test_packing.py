"""Attention without padding: texts in one row give the vectors that they have in a padded batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from retrieval.encoders.transformer import Transformer
from tests.test_decoders import SAMPLE, decoder


def both(model, pooling, **more):
    return [
        Transformer(str(model), pooling=pooling, dtype="float32", attention=attention, **more).encode_docs(SAMPLE)
        for attention in ("packed", "padded")
    ]


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_packed_texts_have_the_vectors_of_padded_ones(tiny_model, pooling):
    packed, padded = both(tiny_model, pooling)
    np.testing.assert_allclose(packed.vectors, padded.vectors, atol=1e-5)


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
def test_a_rotary_decoder_is_packed_causally_with_shared_heads(tiny_model, tmp_path, kind):
    packed, padded = both(decoder(tmp_path / "m", tiny_model, kind, head_dim=8), "mean", normalize=True)
    np.testing.assert_allclose(packed.vectors, padded.vectors, atol=1e-5)


def test_a_roberta_is_packed_with_positions_that_begin_behind_the_paddings(tiny_model, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(0)
    shape = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=40, pad_token_id=tokenizer.pad_token_id, **shape
    )
    transformers.RobertaModel(config).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    packed, padded = both(tmp_path / "m", "mean")
    np.testing.assert_allclose(packed.vectors, padded.vectors, atol=1e-5)


def test_texts_without_tokens_are_packed_too(tiny_model):
    encoder = Transformer(str(tiny_model), pooling="mean", dtype="float32", attention="packed")
    encoder.bi_encoder.tokenizer.backend_tokenizer.post_processor = None  # no special tokens
    found = encoder.encode_docs(["", "otter", "a small otter"]).vectors
    assert not found[0].any() and found[1:].any(axis=1).all()


def test_a_model_whose_attention_cannot_be_replaced_is_refused(tiny_model, monkeypatch):
    monkeypatch.setattr(transformers.BertModel, "_supports_attention_backend", False)
    with pytest.raises(ValueError, match=r"attention: .*tiny, a BertModel, cannot be packed; take attention: padded"):
        both(tiny_model, "mean")


def test_a_window_shorter_than_a_text_is_refused(tiny_model, tmp_path):
    model = decoder(tmp_path / "m", tiny_model, "Mistral", sliding_window=4)
    with pytest.raises(ValueError, match="MistralAttention cannot be packed, its attention asks for sliding_window of"):
        both(model, "mean")


def test_an_attention_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="attention is one of padded, packed, not 'flash'"):
        Transformer(attention="flash")
