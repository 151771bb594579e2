"""SPLADE: the formula computed text by text, sentence-transformers' vectors, pruning, queries without a model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from transformers import AutoModelForMaskedLM, AutoTokenizer

from retrieval import sparse_model
from retrieval.encoders.splade import Splade
from retrieval.sparse_model import largest
from tests.conftest import TEXTS

SAMPLE = [*TEXTS[:40], "", "x", "a longer text " * 30, TEXTS[0]]


def splade(folder, **settings):
    return Splade(str(folder), dtype="float32", **settings)


def by_formula(folder, texts, dtype=torch.float64, limit=32):
    """max over tokens of log(1 + relu(logit)), each text on its own, without padding."""
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = []
    with torch.inference_mode():
        for text in texts:
            logits = model(**tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")).logits[0]
            weights.append(torch.log(1 + torch.relu(logits)).max(0).values)
    return torch.stack(weights).numpy()


def saved(folder, modules):
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(modules=modules, device="cpu")
    model.save(str(folder))
    return model


@pytest.mark.parametrize("batch_tokens", [None, 1, 64])
def test_weights_are_the_formulas_in_any_batch(tiny_mlm, batch_tokens):
    found = splade(tiny_mlm, batch_tokens=batch_tokens).encode_docs(SAMPLE).matrix
    expected = by_formula(tiny_mlm, SAMPLE)
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-5)
    assert 0.05 < (expected > 0).mean() < 0.95  # the sample does test that zeros are zeros
    assert found.dtype == np.float32 and found.has_sorted_indices and (found.data > 0).all()


def test_products_are_those_of_the_full_vectors(tiny_mlm):
    encoder = splade(tiny_mlm)
    found = (encoder.encode_queries(TEXTS[:9]).matrix @ encoder.encode_docs(SAMPLE).matrix.T).toarray()
    expected = by_formula(tiny_mlm, TEXTS[:9]) @ by_formula(tiny_mlm, SAMPLE).T
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_equal_texts_get_equal_weights_and_order_is_kept(tiny_mlm):
    encoder = splade(tiny_mlm)
    found = encoder.encode_docs(SAMPLE).matrix.toarray()
    np.testing.assert_array_equal(found[0], found[-1])
    one_by_one = np.concatenate([encoder.encode_docs([text]).matrix.toarray() for text in SAMPLE])
    np.testing.assert_allclose(found, one_by_one, atol=1e-5)


def test_the_default_batch_is_bounded_by_tokens_times_vocabulary(tiny_mlm, monkeypatch):
    seen = []
    encoder = splade(tiny_mlm)
    weigh = encoder._weigh
    monkeypatch.setitem(
        encoder.__dict__, "_weigh", lambda batch: seen.append(batch["input_ids"].numel()) or weigh(batch)
    )
    monkeypatch.setitem(sparse_model.LOGITS, "cpu", 100 * len(encoder.vocabulary()))
    monkeypatch.setitem(sparse_model.LOGITS, "cuda", 100 * len(encoder.vocabulary()))
    encoder.encode_docs(SAMPLE)
    assert 50 < max(seen) <= 100


def test_no_texts_and_no_tokens_give_no_weights(tiny_mlm):
    encoder = splade(tiny_mlm)
    assert encoder.encode_docs([]).matrix.shape == (0, len(encoder.vocabulary()))
    encoder._base.tokenizer.backend_tokenizer.post_processor = None  # no special tokens
    found = encoder.encode_docs(["", "otter", "a small otter"]).matrix
    assert np.diff(found.indptr)[0] == 0 and np.diff(found.indptr)[1:].all()
    assert encoder.encode_docs([""]).matrix.nnz == 0


def test_texts_that_are_cut_are_counted(tiny_mlm):
    encoder = splade(tiny_mlm, max_length=12, queries="binary")
    cut = sum(len(ids) > 12 for ids in AutoTokenizer.from_pretrained(tiny_mlm)(SAMPLE).input_ids)
    assert cut and encoder.encode_docs(SAMPLE).truncated == cut == encoder.encode_queries(SAMPLE).truncated
    np.testing.assert_allclose(
        encoder.encode_docs(SAMPLE).matrix.toarray(), by_formula(tiny_mlm, SAMPLE, limit=12), atol=1e-5
    )


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=6),
    st.integers(1, 8),
)
def test_pruning_keeps_the_largest_and_of_equal_ones_the_lower_id(rows, terms):
    dense = np.array(rows, np.float32)
    expected = np.zeros_like(dense)
    for row, kept in zip(dense, expected, strict=True):
        for i in sorted(range(len(row)), key=lambda i: (-row[i], i))[:terms]:
            kept[i] = row[i]
    found = largest(csr_array(dense), terms)
    np.testing.assert_array_equal(found.toarray(), expected)
    assert found.has_sorted_indices and found.nnz == np.count_nonzero(expected)


def test_queries_and_documents_are_pruned_apart(tiny_mlm):
    encoder = splade(tiny_mlm, query_terms=3, doc_terms=5)
    assert set(np.diff(encoder.encode_queries(SAMPLE).matrix.indptr)) == {3}
    assert set(np.diff(encoder.encode_docs(SAMPLE).matrix.indptr)) == {5}
    with pytest.raises(ValueError, match="doc_terms is 0: keep at least 1, or all with null"):
        splade(tiny_mlm, doc_terms=0)


def test_the_vocabulary_names_the_columns(tiny_mlm):
    names = splade(tiny_mlm).vocabulary()
    tokenizer = AutoTokenizer.from_pretrained(tiny_mlm)
    assert len(set(names)) == len(names) == len(tokenizer)
    assert all(names[i] == token for token, i in tokenizer.get_vocab().items())


def test_an_id_without_a_token_has_a_name_of_its_own(tiny_mlm, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(tiny_mlm)
    width = model.config.vocab_size
    model.resize_token_embeddings(width + 2)
    model.save_pretrained(tmp_path / "wide")
    AutoTokenizer.from_pretrained(tiny_mlm).save_pretrained(tmp_path / "wide")
    encoder = splade(tmp_path / "wide")
    assert list(encoder.vocabulary()[-2:]) == [f"[id {width}]", f"[id {width + 1}]"]
    assert encoder.encode_docs(["otter"]).matrix.shape == (1, width + 2)


@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_a_sparse_encoder_gives_sentence_transformers_vectors(tiny_mlm, tmp_path, activation):
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    base = Transformer(str(tiny_mlm), transformer_task="fill-mask", max_seq_length=20)
    theirs = saved(tmp_path / "saved", [base, SpladePooling("max", activation)])
    ours = splade(tmp_path / "saved")
    assert ours.contract()["max_length"] == 20
    expected = theirs.encode_document(SAMPLE, convert_to_sparse_tensor=False).numpy()
    np.testing.assert_allclose(ours.encode_docs(SAMPLE).matrix.toarray(), expected, atol=1e-5)
    expected = theirs.encode_query(SAMPLE, convert_to_sparse_tensor=False).numpy()
    np.testing.assert_allclose(ours.encode_queries(SAMPLE).matrix.toarray(), expected, atol=1e-5)


def test_the_older_name_of_the_model_module_is_known(tiny_mlm, tmp_path):
    shutil.copytree(tiny_mlm, tmp_path / "model")
    modules = [{"path": "", "type": "x.MLMTransformer"}, {"path": "1_SpladePooling", "type": "x.SpladePooling"}]
    (tmp_path / "model" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "model" / "1_SpladePooling").mkdir()
    (tmp_path / "model" / "1_SpladePooling" / "config.json").write_text('{"pooling_strategy": "max"}')
    found = splade(tmp_path / "model").encode_docs(SAMPLE).matrix
    np.testing.assert_array_equal(found.toarray(), splade(tiny_mlm).encode_docs(SAMPLE).matrix.toarray())
    (tmp_path / "model" / "1_SpladePooling" / "config.json").write_text('{"pooling_strategy": "sum"}')
    with pytest.raises(ValueError, match="pooling sum of relu: known is max of relu or log1p_relu"):
        splade(tmp_path / "model").encode_docs(["otter"])


@pytest.fixture
def with_table(tiny_mlm, tmp_path):
    """The model with a table of what some tokens weigh."""
    shutil.copytree(tiny_mlm, tmp_path / "model")
    tokens = AutoTokenizer.from_pretrained(tiny_mlm).get_vocab()
    # ids differ from one training of the tokenizer to the next: what a query has is there by name
    table = {token: 0.5 + i / 7 for token, i in tokens.items() if token != "comet" and (i % 5 or token in "the otter")}
    (tmp_path / "model" / "idf.json").write_text(json.dumps(table))
    return tmp_path / "model", table


def test_queries_by_a_table_run_no_model(with_table):
    folder, table = with_table
    encoder = splade(folder, queries="idf")
    encoder.__dict__["_weigh"] = None
    found = encoder.encode_queries(["the otter the comet", ""]).matrix
    names = encoder.vocabulary()
    ids = AutoTokenizer.from_pretrained(folder)("the otter the comet", add_special_tokens=False).input_ids
    expected = {names[i]: table[names[i]] for i in ids if names[i] in table}
    assert {names[i]: w for i, w in zip(found.indices, found.data, strict=True)} == pytest.approx(expected)
    assert len(expected) == 2 and np.diff(found.indptr).tolist() == [2, 0]


def test_binary_queries_weigh_each_token_once(tiny_mlm):
    encoder = splade(tiny_mlm, queries="binary")
    found = encoder.encode_queries(["the otter the comet"]).matrix
    names = encoder.vocabulary()
    assert {names[i] for i in found.indices} >= {"the", "otter", "comet"}
    assert set(found.data) == {1.0} and not {"[CLS]", "[SEP]"} & {names[i] for i in found.indices}


def test_the_folder_says_what_weighs_queries(with_table, tiny_mlm):
    assert splade(with_table[0]).contract()["queries"]["weighed by"] == "idf"
    assert splade(with_table[0], queries="model").contract()["queries"]["weighed by"] == "model"
    assert splade(tiny_mlm).contract()["queries"]["weighed by"] == "model"
    with pytest.raises(FileNotFoundError, match=r"has no idf.json .* or take queries: binary"):
        splade(tiny_mlm, queries="idf").encode_queries(["otter"])


def test_a_table_of_another_tokenizer_is_refused(with_table):
    (with_table[0] / "idf.json").write_text('{"xylophone": 1}')
    with pytest.raises(ValueError, match=r"idf.json has 'xylophone', which the tokenizer of .* does not know"):
        splade(with_table[0]).encode_queries(["otter"])


def test_an_inference_free_encoder_gives_sentence_transformers_vectors(with_table, tmp_path):
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

    base = Transformer(str(with_table[0]), transformer_task="fill-mask")
    table = SparseStaticEmbedding.from_json(str(with_table[0] / "idf.json"), tokenizer=base.tokenizer, frozen=True)
    router = Router.for_query_document([table], [base, SpladePooling("max", "log1p_relu")])
    theirs, ours = saved(tmp_path / "saved", [router]), splade(tmp_path / "saved")
    known = TEXTS[::7]  # without [UNK], which is a special token here and none there
    expected = theirs.encode_query(known, convert_to_sparse_tensor=False).numpy()
    np.testing.assert_allclose(ours.encode_queries(known).matrix.toarray(), expected, atol=1e-6)
    expected = theirs.encode_document(SAMPLE, convert_to_sparse_tensor=False).numpy()
    np.testing.assert_allclose(ours.encode_docs(SAMPLE).matrix.toarray(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (["Transformer", "Pooling"], "has Transformer, Pooling for documents: known are"),
        (["MLMTransformer", "SpladePooling", "Normalize"], "Normalize for documents: known are"),
        ([], "has nothing for documents"),
    ],
)
def test_modules_that_are_not_known_are_refused(tiny_mlm, tmp_path, modules, message):
    shutil.copytree(tiny_mlm, tmp_path / "model")
    about = [{"path": str(i) if i else "", "type": f"x.{kind}"} for i, kind in enumerate(modules)]
    (tmp_path / "model" / "modules.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=message):
        splade(tmp_path / "model").encode_docs(["otter"])


def test_prompts_are_refused(tiny_mlm, tmp_path):
    shutil.copytree(tiny_mlm, tmp_path / "model")
    (tmp_path / "model" / "config_sentence_transformers.json").write_text('{"prompts": {"query": "ask: "}}')
    with pytest.raises(ValueError, match="has prompts, which are not supported here"):
        splade(tmp_path / "model").encode_docs(["otter"])


def test_a_model_without_a_head_is_refused(tiny_model):
    with pytest.raises(ValueError, match=r"has no cls.predictions.* and \d more, so it holds no BertForMaskedLM"):
        splade(tiny_model).encode_docs(["otter"])


def test_pickled_weights_and_another_hash_are_refused(tiny_mlm, tmp_path):
    with pytest.raises(ValueError, match=r"model.safetensors has SHA-256 [0-9a-f]{64}, expected 00"):
        splade(tiny_mlm, sha256="00" * 32).encode_docs(["otter"])
    shutil.copytree(tiny_mlm, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"only pytorch_model.bin, a pickle, which is never loaded"):
        splade(tmp_path / "model").encode_docs(["otter"])


def test_more_tokens_than_the_model_takes_are_refused(tiny_mlm):
    with pytest.raises(ValueError, match="max_length 65 is more than the 64 tokens"):
        splade(tiny_mlm, max_length=65).encode_docs(["otter"])


def test_a_model_that_gives_nan_is_refused_with_the_text(tiny_mlm, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(tiny_mlm)
    with torch.no_grad():
        model.bert.embeddings.position_embeddings.weight[5] = float("nan")
    model.save_pretrained(tmp_path / "broken")
    AutoTokenizer.from_pretrained(tiny_mlm).save_pretrained(tmp_path / "broken")
    encoder = splade(tmp_path / "broken", doc_terms=1, batch_tokens=1)  # not even where pruning would hide it
    assert encoder.encode_docs(["otter", "the comet"]).matrix.nnz == 2
    with pytest.raises(ValueError, match="gives NaN or infinity for 'the old comet was seen'"):
        encoder.encode_docs(["otter", "the old comet was seen", "the comet"])


def test_the_contract_says_all_that_determines_the_output(tiny_mlm, with_table):
    about = splade(tiny_mlm).contract()
    assert json.loads(json.dumps(about)) == about
    assert about["vocabulary"] == len(splade(tiny_mlm).vocabulary()) and about["dtype"] == "float32"
    others = [
        splade(tiny_mlm, max_length=9),
        splade(tiny_mlm, doc_terms=9),
        splade(tiny_mlm, query_terms=9),
        splade(tiny_mlm, queries="binary"),
        Splade(str(tiny_mlm), dtype="bfloat16"),
        splade(with_table[0]),
    ]
    contracts = [json.dumps(encoder.contract()) for encoder in [splade(tiny_mlm), *others]]
    assert len(set(contracts)) == len(contracts)
