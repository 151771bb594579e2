"""What all trainable modules promise: dropout in training mode, checkpointed activations, copies, a saved folder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification

from retrieval.encoders.colbert import ColBERT
from retrieval.encoders.splade import Splade
from retrieval.encoders.transformer import Transformer
from retrieval.rerankers.cross_encoder import CrossEncoder
from tests.conftest import TEXTS

QUERIES, DOCS = [text[:20] for text in TEXTS[:3]], [*TEXTS[5:9], TEXTS[0] + " " + TEXTS[9]]
PAIRS = [(query, doc) for query in QUERIES for doc in DOCS]
KINDS = ["transformer", "splade", "colbert", "cross_encoder"]


@pytest.fixture(scope="session")
def classifier(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "classifier"
    torch.manual_seed(3)
    config = AutoConfig.from_pretrained(tiny_model, num_labels=1, initializer_range=0.3)
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture(params=KINDS)
def component(request, tiny_model, tiny_mlm, classifier):
    """An encoder or reranker of each kind that can be trained."""
    plain = {"query_marker": "", "doc_marker": "", "query_length": 12, "doc_length": 20}
    return {
        "transformer": lambda: Transformer(str(tiny_model), pooling="mean", query_prompt="otter: ", dtype="float32"),
        "splade": lambda: Splade(str(tiny_mlm), dtype="float32"),
        "colbert": lambda: ColBERT(str(tiny_model), **plain, projection=8, seed=1, dtype="float32"),
        "cross_encoder": lambda: CrossEncoder(str(classifier)),
    }[request.param]()


def scores_of(module):
    """Scores [queries, docs] of the module, with a gradient."""
    if hasattr(module, "tokenize_pairs"):
        return module(module.tokenize_pairs(*zip(*PAIRS, strict=True))).reshape(len(QUERIES), -1)
    return module.score(module(module.tokenize_queries(QUERIES), queries=True), module(module.tokenize_docs(DOCS)))


def given_by(component):
    """The same of an encoder or reranker."""
    if isinstance(component, CrossEncoder):
        return component.score(PAIRS).reshape(len(QUERIES), -1)
    queries, docs = component.encode_queries(QUERIES), component.encode_docs(DOCS)
    if isinstance(component, Splade):
        return (queries.matrix @ docs.matrix.T).toarray()
    if isinstance(component, Transformer):
        return queries.vectors @ docs.vectors.T
    asked, shown = (
        [found.vectors[a:b] for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]
        for found in (queries, docs)
    )
    return np.array([[(one @ other.T).max(1).sum() for other in shown] for one in asked])


def changed(module):
    """The module after one step of gradient descent."""
    (scores_of(module) ** 2).mean().backward()
    with torch.no_grad():
        for value in module.parameters():
            if value.grad is not None:
                value -= 0.05 * value.grad / (value.grad.norm() + 1e-9)
    return module


def test_the_module_gives_the_scores_of_the_component(component):
    np.testing.assert_allclose(scores_of(component.trainable()).detach(), given_by(component), rtol=1e-4, atol=1e-5)


def test_every_tensor_of_a_batch_has_the_texts_first(component):
    module = component.trainable()
    if isinstance(component, CrossEncoder):
        batches = [(module.tokenize_pairs(*zip(*PAIRS, strict=True)), len(PAIRS))]
    else:
        batches = [(module.tokenize_queries(QUERIES), len(QUERIES)), (module.tokenize_docs(DOCS), len(DOCS))]
    for batch, size in batches:
        assert {len(value) for value in batch.values()} == {size} and batch["attention_mask"].any(1).all()


def test_dropout_is_on_in_training_mode_alone(component):
    module = component.trainable()
    assert torch.equal(scores_of(module), scores_of(module))
    module.train()
    assert not torch.allclose(scores_of(module), scores_of(module))


def test_checkpointed_activations_leave_the_gradients_as_they_are(component):
    found = []
    for checkpointed in (False, True):
        module = component.trainable()
        if checkpointed:
            module.checkpoint_activations()
            assert module.transformer.is_gradient_checkpointing
        module.train()
        torch.manual_seed(0)
        (scores_of(module) ** 2).mean().backward()
        found.append({name: value.grad for name, value in module.named_parameters() if value.grad is not None})
    assert found[0].keys() == found[1].keys() and len(found[0]) > 10
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_a_component_around_a_module_scores_as_it_does_then_and_not_later(component):
    before = given_by(component)
    module = changed(component.trainable())
    now = scores_of(module).detach().numpy()
    around = component.around(module)
    changed(module)
    np.testing.assert_allclose(given_by(around), now, rtol=1e-4, atol=1e-5)
    assert np.abs(now - before).max() > 1e-3
    np.testing.assert_array_equal(given_by(component), before)
    assert around.contract()["model"] == "in memory" and around.contract()["weights"] == "in memory"


def test_what_a_module_saves_gives_its_scores(component, tmp_path):
    module = changed(component.trainable())
    module.save(tmp_path / "saved")
    trained = component.trained(tmp_path / "saved")
    np.testing.assert_allclose(given_by(trained), scores_of(module).detach(), rtol=1e-5, atol=1e-5)
    now, then = trained.contract(), component.contract()
    assert now.keys() >= then.keys() - {"seed of the projection"} and now["weights"] != then["weights"]
    kept = {"tokenizer", "max_length", "dtype", "doc_length", "skipped", "token_dimensions", "vocabulary", "queries"}
    assert {name: now[name] for name in kept & now.keys()} == {name: then[name] for name in kept & then.keys()}


def test_a_module_knows_the_weights_that_it_began_with(component):
    assert component.trainable().base == component.contract()["weights"]
