"""ColBERT as a module: the encoder's vectors, MaxSim token by token, a new projection over a plain BERT."""

from __future__ import annotations

import string

import numpy as np
import pytest
import torch
from transformers import BertModel

from retrieval.encoders.colbert import ColBERT
from retrieval.indexes.late import Late
from tests.conftest import TEXTS, tiny_bert, wordpiece

DOCS = [f"{text}, it is said." for text in TEXTS[:6]] + ["", "otter", "!", TEXTS[0] * 9]
QUERIES = ["otter", TEXTS[3], "", TEXTS[0] * 4]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A plain BERT whose tokenizer has markers and punctuation."""
    folder = tmp_path_factory.mktemp("colbert") / "bare"
    special = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = wordpiece([*TEXTS, *".,!"], 220, 64, special_tokens=special)
    torch.manual_seed(0)
    BertModel(tiny_bert(tokenizer, initializer_range=0.3)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def colbert(folder, **settings):
    return ColBERT(str(folder), dtype="float32", query_length=12, doc_length=30, **settings)


def packed(vectors, kept):
    return torch.cat([one[mask] for one, mask in zip(vectors, kept, strict=True)]).detach().numpy()


@pytest.mark.parametrize("how", [{}, {"augment": False}, {"attend_to_augmentation": True}, {"skip_punctuation": False}])
def test_vectors_are_the_encoders_and_zeros_where_it_has_none(bare, how):
    encoder = colbert(bare, projection=8, seed=1, **how)
    module = encoder.trainable()
    for texts, tokenize, encode in (
        (QUERIES, module.tokenize_queries, encoder.encode_queries),
        (DOCS, module.tokenize_docs, encoder.encode_docs),
    ):
        batch, found = tokenize(texts), encode(texts)
        vectors = module(batch, queries=texts is QUERIES)
        there = vectors.ne(0).any(-1)
        assert there.sum(1).tolist() == np.diff(found.offsets).tolist() and torch.equal(there, batch["kept"])
        np.testing.assert_allclose(packed(vectors, there), found.vectors, atol=1e-5)


def test_scores_are_those_of_the_late_index(bare):
    encoder = colbert(bare, projection=8, seed=1)
    module, index = encoder.trainable(), Late()
    index.build(encoder.encode_docs(DOCS), np.arange(len(DOCS), dtype=np.int32))
    found = module.score(module(module.tokenize_queries(QUERIES), queries=True), module(module.tokenize_docs(DOCS)))
    rows, scores = index.search(encoder.encode_queries(QUERIES), len(DOCS))
    for query, (mine, line) in enumerate(zip(rows, scores, strict=True)):
        np.testing.assert_allclose(found[query].detach()[mine[mine >= 0]], line[mine >= 0], rtol=1e-4, atol=1e-4)
    empty, query = DOCS.index(""), QUERIES.index("")
    assert (rows != empty).all() and found[[0, 1, 3]].argmin(1).tolist() == [empty] * 3
    assert (found[query] == 0).all() and (rows[query] == -1).all()


def test_absent_tokens_neither_win_nor_count(bare, monkeypatch):
    module = colbert(bare, projection=2, seed=1).trainable()
    unit = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0], [0.0, 0.0]])
    queries, docs = unit[[0, 2, 3]][None], torch.stack([unit[[1, 1, 3]], unit[[2, 3, 3]], unit[[3, 3, 3]]])
    found = module.score(torch.cat([queries, unit[[3, 3, 0]][None]]), docs)
    # the first query: cosines -1 and 0 with the first document, 0 and 1 with the second; all of the third is absent
    assert found.tolist() == [[-1.0, 1.0, -4.0], [-1.0, 0.0, -2.0]]
    monkeypatch.setattr("retrieval.trainable_colbert.SIMILARITIES", 1)
    torch.testing.assert_close(module.score(torch.cat([queries, unit[[3, 3, 0]][None]]), docs), found)


def test_maxsim_has_the_gradient_of_the_best_pairs(bare):
    module = colbert(bare, projection=4, seed=1).trainable()
    torch.manual_seed(0)
    queries, docs = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(3, 5, 4, dtype=torch.float64)
    queries, docs = (torch.nn.functional.normalize(one, dim=-1).requires_grad_() for one in (queries, docs))
    assert torch.autograd.gradcheck(module.score, (queries, docs))


def test_a_new_projection_is_the_same_for_the_same_seed(bare, tmp_path):
    one, same, other = (colbert(bare, projection=8, seed=seed).encode_docs(DOCS).vectors for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert one.shape[1] == 8 and np.abs(one - other).max() > 0.1
    about = [dict(colbert(bare, seed=seed).contract()) for seed in (1, 2)]
    assert about[0] != about[1] and about[0]["token_dimensions"] == 128
    module = colbert(bare, projection=8, seed=1).trainable()
    module.save(tmp_path / "saved")
    with pytest.raises(ValueError, match="has a projection of its own: leave seed out"):
        colbert(tmp_path / "saved", seed=1).encode_docs(DOCS)
    with pytest.raises(ValueError, match="give the seed of a new projection"):
        colbert(bare).trainable()


def test_what_is_saved_says_its_settings(bare, tmp_path):
    how = {"query_marker": "[unused1]", "doc_marker": "[unused0]", "augment": False, "skip_punctuation": False}
    encoder = colbert(bare, seed=1, **how)
    encoder.trainable().save(tmp_path / "saved")
    found = ColBERT(str(tmp_path / "saved"), dtype="float32")
    np.testing.assert_array_equal(found.encode_docs(DOCS).vectors, encoder.encode_docs(DOCS).vectors)
    np.testing.assert_array_equal(found.encode_queries(QUERIES).vectors, encoder.encode_queries(QUERIES).vectors)
    assert found.contract()["queries"] == encoder.contract()["queries"] and not found.contract()["skipped"]


def test_the_skipped_tokens_are_saved(bare, tmp_path):
    encoder = colbert(bare, seed=1)
    encoder.trainable().save(tmp_path / "saved")
    found = encoder.trained(tmp_path / "saved").contract()["skipped"]
    assert found == encoder.contract()["skipped"] and 0 < len(found) <= len(string.punctuation)
