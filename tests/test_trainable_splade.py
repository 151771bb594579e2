"""SPLADE as a module: gradients of the formula, sentence-transformers' reading, queries weighed by a table."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder
from transformers import AutoModelForMaskedLM, AutoTokenizer

from retrieval.encoders.splade import Splade
from tests.conftest import TEXTS

SAMPLE = [*TEXTS[:4], TEXTS[0] + " and " + TEXTS[9]]


def splade(folder, **settings):
    return Splade(str(folder), dtype="float32", **settings)


@pytest.fixture
def with_table(tiny_mlm, tmp_path):
    shutil.copytree(tiny_mlm, tmp_path / "idf")
    tokens = AutoTokenizer.from_pretrained(tiny_mlm).get_vocab()
    table = {token: 0.1 + len(token) / 3 for token in tokens if not token.startswith("[")}
    (tmp_path / "idf" / "idf.json").write_text(json.dumps(table))
    return tmp_path / "idf"


def test_gradients_are_those_of_the_formula_text_by_text(tiny_mlm):
    module = splade(tiny_mlm).trainable()
    (module(module.tokenize_docs(SAMPLE)) ** 2).sum().backward()
    model = AutoModelForMaskedLM.from_pretrained(tiny_mlm, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_mlm)
    for text in SAMPLE:
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        (torch.log(1 + torch.relu(logits)).max(0).values ** 2).sum().backward()
    found, expected = dict(module.transformer.named_parameters()), dict(model.named_parameters())
    for name in ("cls.predictions.bias", "bert.embeddings.word_embeddings.weight"):
        torch.testing.assert_close(found[name].grad, expected[name].grad.float(), rtol=1e-3, atol=1e-4)
        assert found[name].grad.abs().max() > 0.1


@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_sentence_transformers_reads_what_is_saved(tiny_mlm, tmp_path, activation):
    module = splade(tiny_mlm, max_length=6).trainable()
    module.activation = activation
    module.save(tmp_path / "saved")
    other = SparseEncoder(str(tmp_path / "saved"), device="cpu")
    found = module(module.tokenize_docs(SAMPLE)).detach()
    theirs = other.encode_document(SAMPLE, convert_to_sparse_tensor=False)
    torch.testing.assert_close(found, theirs, rtol=1e-5, atol=1e-5)
    assert module.tokenize_docs(SAMPLE)["input_ids"].shape[1] == 6
    again = splade(tmp_path / "saved").encode_docs(SAMPLE).matrix.toarray()
    np.testing.assert_allclose(again, found, atol=1e-5)


def test_queries_weighed_by_a_table_have_no_gradient_and_keep_it(with_table, tmp_path):
    encoder = splade(with_table)
    module = encoder.trainable()
    queries, docs = module(module.tokenize_queries(SAMPLE), queries=True), module(module.tokenize_docs(SAMPLE))
    assert not queries.requires_grad and docs.requires_grad
    expected = encoder.encode_queries(SAMPLE).matrix.toarray()
    np.testing.assert_array_equal(queries, expected)
    module.save(tmp_path / "saved")
    trained = encoder.trained(tmp_path / "saved")
    np.testing.assert_array_equal(trained.encode_queries(SAMPLE).matrix.toarray(), expected)
    assert trained.contract()["queries"] == encoder.contract()["queries"]
    np.testing.assert_array_equal(encoder.around(module).encode_queries(SAMPLE).matrix.toarray(), expected)


def test_pruning_is_applied_when_encoding_and_not_while_training(tiny_mlm, tmp_path):
    encoder = splade(tiny_mlm, doc_terms=3, query_terms=2)
    module = encoder.trainable()
    assert (module(module.tokenize_docs(SAMPLE)) > 0).sum(1).min() > 3
    module.save(tmp_path / "saved")
    for one in (encoder, encoder.trained(tmp_path / "saved"), encoder.around(module)):
        assert np.diff(one.encode_docs(SAMPLE).matrix.indptr).max() == 3
        assert np.diff(one.encode_queries(SAMPLE).matrix.indptr).max() == 2
