"""uniCOIL: the formula computed text by text, repeated tokens, special tokens, folders without the head."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from retrieval.encoders.unicoil import UniCoil
from tests.conftest import TEXTS

SAMPLE = [*TEXTS[:40], "", "x", "a longer text " * 30, TEXTS[0]]


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory):
    """The published layout: the encoder's weights below `bert.`, without a pooler, and the head beside them."""
    folder = tmp_path_factory.mktemp("models") / "unicoil"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    encoder = {f"bert.{name}": value for name, value in weights.items() if "pooler" not in name}
    torch.manual_seed(1)
    head = {"tok_proj.weight": torch.randn(1, 32), "tok_proj.bias": torch.tensor([4.0])}
    save_file(encoder | head, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def unicoil(folder, **settings):
    return UniCoil(str(folder), dtype="float32", **settings)


def by_formula(folder, tiny_model, texts):
    """The largest relu(w . state + b) of each token's occurrences, each text on its own, without padding."""
    model, tokenizer = AutoModel.from_pretrained(tiny_model).double().eval(), AutoTokenizer.from_pretrained(tiny_model)
    head = {name: value.double() for name, value in load_file(folder / "model.safetensors").items()}
    found = np.zeros((len(texts), len(tokenizer)))
    for row, text in zip(found, texts, strict=True):
        batch = tokenizer(text, truncation=True, max_length=32, return_tensors="pt")
        with torch.inference_mode():
            states = model(**batch).last_hidden_state[0]
        for token, state in zip(batch.input_ids[0].tolist(), states, strict=True):
            if token not in tokenizer.all_special_ids:
                row[token] = max(row[token], float(head["tok_proj.weight"][0] @ state + head["tok_proj.bias"][0]))
    return found


@pytest.mark.parametrize("batch_tokens", [None, 1, 64])
def test_weights_are_the_formulas_in_any_batch(folder, tiny_model, batch_tokens):
    found = unicoil(folder, batch_tokens=batch_tokens).encode_docs(SAMPLE).matrix
    expected = by_formula(folder, tiny_model, SAMPLE)
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-5)
    assert found.dtype == np.float32 and found.has_sorted_indices and (found.data > 0).all()
    tokens = sum(
        len(set(ids)) for ids in AutoTokenizer.from_pretrained(folder)(TEXTS[:40], add_special_tokens=False).input_ids
    )
    assert 0.3 * tokens < (expected[:40] > 0).sum() < tokens  # relu cuts some off


def test_products_are_those_of_the_full_vectors(folder, tiny_model):
    encoder = unicoil(folder)
    found = (encoder.encode_queries(TEXTS[:9]).matrix @ encoder.encode_docs(SAMPLE).matrix.T).toarray()
    expected = by_formula(folder, tiny_model, TEXTS[:9]) @ by_formula(folder, tiny_model, SAMPLE).T
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_text_of_special_tokens_has_no_weights(folder):
    assert unicoil(folder).encode_docs(["", "\N{SNOWMAN}"]).matrix.nnz == 0  # the snowman is [UNK]


def test_pruning_and_counts_are_those_of_sparse_encoders(folder):
    encoder = unicoil(folder, query_terms=2, doc_terms=1, max_length=12)
    assert np.diff(encoder.encode_queries(TEXTS).matrix.indptr).max() == 2
    found = encoder.encode_docs(SAMPLE)
    assert np.diff(found.matrix.indptr).max() == 1
    assert found.truncated == sum(len(ids) > 12 for ids in AutoTokenizer.from_pretrained(folder)(SAMPLE).input_ids)
    with pytest.raises(ValueError, match="query_terms is -1"):
        unicoil(folder, query_terms=-1)


def test_a_folder_without_the_head_is_refused(tiny_model):
    with pytest.raises(ValueError, match=r"has no tok_proj.weight among its weights, so it holds no uniCOIL model"):
        unicoil(tiny_model).encode_docs(["otter"])


def test_a_folder_without_the_encoder_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    head = {name: value for name, value in weights.items() if name.startswith("tok_proj")}
    save_file(head, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"has no embeddings.* and \d+ more, so it holds no BertModel"):
        unicoil(tmp_path / "model").encode_docs(["otter"])


def test_a_model_that_gives_nan_is_refused_with_the_text(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["tok_proj.bias"] = torch.tensor([float("nan")])
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="gives NaN or infinity for 'otter'"):
        unicoil(tmp_path / "model").encode_docs(["otter"])


def test_the_contract_says_all_that_determines_the_output(folder):
    about = unicoil(folder).contract()
    assert json.loads(json.dumps(about)) == about
    assert about["vocabulary"] == len(unicoil(folder).vocabulary())
    others = [unicoil(folder, **{name: 9}) for name in ("query_terms", "doc_terms", "max_length")]
    assert len({json.dumps(encoder.contract()) for encoder in [unicoil(folder), *others]}) == 4
