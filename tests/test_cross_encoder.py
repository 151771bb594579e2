"""Cross-encoders against sentence-transformers on the same folder, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from retrieval.protocols import Reranker
from retrieval.registry import find
from retrieval.rerankers.cross_encoder import CrossEncoder
from tests.conftest import TEXTS

PAIRS = [(TEXTS[7 * i % 400], TEXTS[3 * i] + " " + TEXTS[5 * i] * (i % 3)) for i in range(60)]


@pytest.fixture(scope="module")
def classifier(tiny_model, tmp_path_factory):
    """A folder with a classifier of that many labels; its tokenizer tells the two texts apart."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    def classifier(labels=1):
        folder = tmp_path_factory.getbasetemp() / f"classifier-{labels}"
        if folder.is_dir():
            return folder
        torch.manual_seed(labels)
        model = BertForSequenceClassification(BertConfig.from_pretrained(tiny_model, num_labels=labels))
        with torch.no_grad():
            model.classifier.weight.mul_(20)
            for name, value in model.named_parameters():  # states as different as those of a trained model
                if value.ndim == 2 and name.startswith("bert.encoder") or "pooler.dense.weight" in name:
                    value.mul_(8)
        model.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
        tokenizer.save_pretrained(folder)
        return folder

    return classifier


@pytest.fixture(scope="module")
def one_label(classifier):
    return CrossEncoder(str(classifier()))


def theirs(folder, pairs, **kwargs):
    """The logits that sentence-transformers has for these pairs."""
    from sentence_transformers import CrossEncoder as Other

    return Other(str(folder), device="cpu", **kwargs).predict(pairs, activation_fn=torch.nn.Identity())


def test_a_recipe_finds_it_by_its_file():
    assert find(Reranker, "cross_encoder") is CrossEncoder


def test_scores_are_the_logits_of_sentence_transformers(classifier, one_label):
    scores = one_label.score(iter(PAIRS))
    assert scores.dtype == np.float32 and np.ptp(scores) > 0.5
    np.testing.assert_allclose(scores, theirs(classifier(), PAIRS), atol=1e-5)


def test_two_labels_give_the_log_odds_of_the_second(classifier):
    scores = CrossEncoder(str(classifier(2))).score(PAIRS)
    both = theirs(classifier(2), PAIRS)
    np.testing.assert_allclose(scores, both[:, 1] - both[:, 0], atol=1e-5)


def test_a_score_does_not_depend_on_the_batch_or_the_order_of_pairs(classifier, one_label):
    whole = one_label.score(PAIRS)
    small = CrossEncoder(str(classifier()), batch_tokens=40)
    np.testing.assert_allclose(small.score(PAIRS), whole, atol=1e-5)
    np.testing.assert_allclose(one_label.score(PAIRS[::-1])[::-1], whole, atol=1e-5)
    np.testing.assert_allclose([one_label.score([pair])[0] for pair in PAIRS[:9]], whole[:9], atol=1e-5)


def test_equal_pairs_have_the_same_bits(one_label):
    scores = one_label.score([PAIRS[3], *PAIRS, PAIRS[3]])
    assert scores[0] == scores[-1] == scores[4]


def test_the_second_text_is_told_from_the_first(one_label):
    query, text = PAIRS[1]
    assert one_label.score([(query, text)]) != one_label.score([(text, query)])


def test_no_pairs_have_no_scores(one_label):
    assert one_label.score([]).shape == (0,)


def test_a_document_is_cut_and_counted_and_its_query_is_not(classifier):
    reranker = CrossEncoder(str(classifier()), max_length=16)
    query, long = "otter", " ".join(TEXTS[:5])
    kept = reranker.score([(query, long), (query, long + " " + TEXTS[9]), (query, "comet")])
    assert kept[0] == kept[1] != kept[2]  # cut to the same tokens
    assert reranker.provenance()["truncated pairs"] == 2 and reranker.provenance()["scored pairs"] == 3
    np.testing.assert_allclose(kept[:1], theirs(classifier(), [(query, long)], max_length=16), atol=1e-5)


def test_a_query_that_leaves_no_room_is_cut_with_the_document_and_counted(classifier):
    reranker = CrossEncoder(str(classifier()), max_length=16)
    pair = (" ".join(TEXTS[:5]), " ".join(TEXTS[5:9]))
    score = reranker.score([pair])
    assert reranker.provenance()["truncated pairs"] == 1
    np.testing.assert_allclose(score, theirs(classifier(), [pair], max_length=16), atol=1e-5)


def test_the_contract_says_what_determines_a_score(classifier):
    contract = dict(CrossEncoder(str(classifier(2)), max_length=20).contract())
    assert (contract["labels"], contract["max_length"], contract["dtype"]) == (2, 20, "float32")
    assert contract != dict(CrossEncoder(str(classifier(2))).contract())
    assert json.loads(json.dumps(contract)) == contract


def test_three_labels_are_refused(classifier):
    with pytest.raises(ValueError, match="has 3 labels; a reranker has 1 or 2"):
        CrossEncoder(str(classifier(3))).score(PAIRS)


def test_a_model_without_a_classifier_is_refused(tiny_model):
    with pytest.raises(ValueError, match="has no classifier.bias and 1 more, so it holds no BertForSequenceClass"):
        CrossEncoder(str(tiny_model)).score(PAIRS)


def test_a_classifier_without_its_pooler_is_refused(classifier, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(classifier(), tmp_path / "model")
    weights = {name: one for name, one in load_file(folder / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ValueError, match="has no bert.pooler.dense.bias and 1 more, so it holds no BertForSequenceClassification"
    ):
        CrossEncoder(str(folder)).score(PAIRS)


def test_other_weights_than_expected_are_refused(classifier):
    with pytest.raises(ValueError, match="model.safetensors has SHA-256"):
        CrossEncoder(str(classifier()), sha256="00" * 32).score(PAIRS)


@pytest.mark.parametrize(
    ("length", "message"), [(65, "more than the 64 tokens"), (4, "leaves no room for a query and")]
)
def test_a_length_that_cannot_be_is_refused(classifier, length, message):
    with pytest.raises(ValueError, match=message):
        CrossEncoder(str(classifier()), max_length=length).score(PAIRS)


def test_a_model_that_gives_nan_is_refused_with_the_pair(classifier, tmp_path):
    from transformers import BertForSequenceClassification

    folder = shutil.copytree(classifier(), tmp_path / "broken")
    model = BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match="gives NaN or infinity for 'otter', 'comet'"):
        CrossEncoder(str(folder)).score([("otter", "comet")])


def test_what_sentence_transformers_would_add_is_refused(classifier, tmp_path):
    folder = shutil.copytree(classifier(), tmp_path / "more")
    (folder / "modules.json").write_text(json.dumps([{"path": "", "type": "x.Transformer"}]))
    CrossEncoder(str(folder)).score(PAIRS[:1])
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"default_prompt_name": "query"}))
    with pytest.raises(ValueError, match="names a default prompt, which cross_encoder does not put before its pairs"):
        CrossEncoder(str(folder)).score(PAIRS)
    (folder / "modules.json").write_text(
        json.dumps([{"path": "", "type": "x.Transformer"}, {"path": "1", "type": "x.LogitScore"}])
    )
    with pytest.raises(ValueError, match="modules.json: x.LogitScore: known is a classifier alone"):
        CrossEncoder(str(folder)).score(PAIRS)
