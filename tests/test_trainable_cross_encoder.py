"""Cross-encoders as a module: pairs as the reranker cuts them, sentence-transformers' reading, a new classifier."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification

from retrieval.rerankers.cross_encoder import CrossEncoder
from tests.conftest import TEXTS

PAIRS = [(TEXTS[0], TEXTS[5]), (TEXTS[1] * 9, TEXTS[7]), (TEXTS[2], TEXTS[8] * 9), ("otter", "")]


def scored(module, pairs=PAIRS):
    return module(module.tokenize_pairs(*zip(*pairs, strict=True))).detach().numpy()


@pytest.mark.parametrize("labels", [1, 2])
def test_pairs_are_cut_and_scored_as_the_reranker_does(tiny_model, tmp_path, labels):
    torch.manual_seed(labels)
    config = AutoConfig.from_pretrained(tiny_model, num_labels=labels, initializer_range=0.3)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"  # BERT's own class tells the two texts apart
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "BertTokenizer"}))
    reranker = CrossEncoder(str(tmp_path), max_length=20)
    found = scored(reranker.trainable())
    np.testing.assert_allclose(found, reranker.score(PAIRS), atol=1e-5)
    assert found.shape == (4,) and found.dtype == np.float32 and reranker.truncated_pairs == 2
    batch = reranker.trainable().tokenize_pairs(*zip(*PAIRS, strict=True))
    assert batch["input_ids"].shape == (4, 20) and batch["token_type_ids"].max() == 1


def test_a_plain_bert_gets_the_classifier_of_its_seed(tiny_model, tmp_path):
    one, same, other = (CrossEncoder(str(tiny_model), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.score(PAIRS), same.score(PAIRS))
    assert np.abs(one.score(PAIRS) - other.score(PAIRS)).max() > 1e-4 and one.contract() != other.contract()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    module = one.trainable()
    assert torch.equal(torch.get_rng_state(), before)  # what is drawn elsewhere stays as it is
    np.testing.assert_allclose(scored(module), one.score(PAIRS), atol=1e-6)
    module.save(tmp_path / "saved")
    np.testing.assert_allclose(one.trained(tmp_path / "saved").score(PAIRS), one.score(PAIRS), atol=1e-6)


def test_a_seed_is_for_a_folder_without_a_classifier_alone(tiny_model, tmp_path):
    with pytest.raises(ValueError, match=r"has no classifier\.bias"):
        CrossEncoder(str(tiny_model)).score(PAIRS)
    CrossEncoder(str(tiny_model), seed=1).trainable().save(tmp_path / "saved")
    with pytest.raises(ValueError, match="has a classifier of its own: leave seed out"):
        CrossEncoder(str(tmp_path / "saved"), seed=1).score(PAIRS)


def test_sentence_transformers_reads_what_is_saved(tiny_model, tmp_path):
    from sentence_transformers import CrossEncoder as Other

    module = CrossEncoder(str(tiny_model), seed=1, max_length=20).trainable()
    module.save(tmp_path / "saved")
    pairs = [pair for pair in PAIRS if len(pair[0]) < 100]  # of a long query they cut another part
    theirs = Other(str(tmp_path / "saved"), device="cpu").predict(pairs, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(scored(module, pairs), theirs, atol=1e-5)
    assert CrossEncoder(str(tmp_path / "saved")).contract()["max_length"] == 20
