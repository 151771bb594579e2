"""Hiding tokens, and the two objectives that have an encoder guess them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from retrieval.encoders.transformer import Transformer
from tests.conftest import TEXTS
from training.masked_language import IGNORED, Guesser, Hider, Layer
from training.objectives.condenser import Condenser
from training.objectives.retromae import RetroMAE

OBJECTIVES = [RetroMAE(decoding="basic"), RetroMAE(), Condenser(mask=0.3)]
NAMES = ["retromae-basic", "retromae-enhanced", "condenser"]


@pytest.fixture
def model(tiny_model):
    return Transformer(str(tiny_model), pooling="cls", dtype="float32", device="cpu").trainable()


def drawn(head, texts=TEXTS[:8], seed=0):
    return head.batch(texts, np.random.default_rng(seed))


# ---- hiding --------------------------------------------------------------------------------------------------------


def test_of_each_text_its_share_of_words_is_hidden_and_no_special_token(model):
    hider = Hider(model, "here")
    ids = hider.read([*TEXTS[:30], "otter", ""])["input_ids"].numpy()
    seen, labels = (array.numpy() for array in hider.hide(ids, 0.4, np.random.default_rng(0)))
    special = np.isin(ids, model.tokenizer.all_special_ids)
    hidden = labels != IGNORED
    words = (~special).sum(1)
    np.testing.assert_array_equal(hidden.sum(1), np.minimum(words, np.maximum(1, np.rint(0.4 * words))))
    assert not hidden[special].any() and words[-1] == 0
    np.testing.assert_array_equal(labels[hidden], ids[hidden])
    np.testing.assert_array_equal(seen[~hidden], ids[~hidden])


def test_eight_of_ten_hidden_tokens_become_the_mask_and_one_stays(model):
    hider = Hider(model, "here")
    ids = np.repeat(hider.read(TEXTS[:1])["input_ids"].numpy(), 4000, 0)
    seen, labels = (array.numpy() for array in hider.hide(ids, 0.5, np.random.default_rng(0)))
    hidden = labels != IGNORED
    assert np.mean(seen[hidden] == model.tokenizer.mask_token_id) == pytest.approx(0.8, abs=0.01)
    assert np.mean(seen[hidden] == ids[hidden]) == pytest.approx(0.1, abs=0.01)
    other = hidden & (seen != ids) & (seen != model.tokenizer.mask_token_id)
    assert not np.isin(seen[other], model.tokenizer.all_special_ids).any()


def test_the_same_seed_hides_the_same_tokens(model):
    for objective in OBJECTIVES:
        head = objective.head(model)
        first, again, other = drawn(head), drawn(head), drawn(head, seed=1)
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["input_ids"], other["input_ids"])
        assert {len(value) for value in first.values()} == {8}


# ---- parts ---------------------------------------------------------------------------------------------------------


def test_a_layer_computes_what_that_of_transformers_does(model):
    ours, theirs = Layer(model.transformer.config), model.transformer.encoder.layer[0].eval()
    names = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "joined": "attention.output.dense",
        "attended": "attention.output.LayerNorm",
        "wide": "intermediate.dense",
        "narrow": "output.dense",
        "norm": "output.LayerNorm",
    }
    for mine, other in names.items():
        getattr(ours, mine).load_state_dict(theirs.get_submodule(other).state_dict())
    states = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(3, 1, 7, dtype=torch.bool)
    visible[1, :, 4:] = False
    expected = theirs(states, attention_mask=torch.where(visible[:, None], 0.0, -torch.inf))
    expected = expected[0] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(ours.eval()(states, states, visible), expected, atol=1e-6, rtol=1e-5)


def test_the_head_computes_what_that_of_a_masked_language_model_does(tiny_mlm):
    from transformers import BertForMaskedLM

    theirs = BertForMaskedLM.from_pretrained(tiny_mlm).eval()
    predictions, ours = theirs.cls.predictions, Guesser(theirs.config)
    ours.transform.load_state_dict(predictions.transform.dense.state_dict())
    ours.norm.load_state_dict(predictions.transform.LayerNorm.state_dict())
    ours.bias.data.copy_(predictions.decoder.bias)
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(5, len(ours.bias), (3, 6), generator=rng)
    labels = torch.where(torch.rand(3, 6, generator=rng) < 0.5, ids, IGNORED)
    expected = theirs(input_ids=ids, labels=labels).loss
    states = theirs.bert(input_ids=ids).last_hidden_state
    loss = ours.loss(states, labels, theirs.get_input_embeddings().weight)
    torch.testing.assert_close(loss, expected)


def test_texts_without_a_word_have_the_loss_0(model):
    for objective in OBJECTIVES:
        head = objective.head(model)
        assert float(head(drawn(head, ["", ""])).detach()) == 0.0


# ---- objectives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES, ids=NAMES)
def test_the_gradient_reaches_every_layer_of_the_encoder_and_the_head_shares_its_embeddings(model, objective):
    head = objective.head(model)
    assert head.encoder is model
    head(drawn(head)).backward()
    unused = {"transformer.pooler.dense.weight", "transformer.pooler.dense.bias"}
    without = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
    assert without <= unused
    shapes = [tuple(value.shape) for value in head.parameters()]
    assert shapes.count(tuple(model.transformer.get_input_embeddings().weight.shape)) == 1


@pytest.mark.parametrize("objective", OBJECTIVES, ids=NAMES)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_loss_falls_in_a_plain_loop(tiny_model, objective, pooling):
    model = Transformer(str(tiny_model), pooling=pooling, dtype="float32", device="cpu").trainable()
    torch.manual_seed(0)
    head, rng = objective.head(model).train(), np.random.default_rng(0)
    optimiser = torch.optim.AdamW(head.parameters(), lr=3e-3)
    losses = []
    for step in range(40):
        loss = head(head.batch(TEXTS[(step % 5) * 16 :][:16], rng))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.parametrize("decoding", ["basic", "enhanced"])
def test_the_decoder_sees_no_state_of_a_token_but_the_vector(model, decoding):
    head = RetroMAE(decoding=decoding).head(model).eval()
    batch = drawn(head)
    plain = head.losses(batch)

    def disturbed(places):
        def hook(module, inputs, outputs):
            outputs.last_hidden_state[:, places] += 10 * torch.arange(32.0)  # far: new layers react little

        with torch.no_grad():
            handle = model.transformer.register_forward_hook(hook)
            found = head.losses(batch)
            handle.remove()
        return found

    tokens, vector = disturbed(slice(1, None)), disturbed(slice(0, 1))
    assert not torch.isclose(tokens[0], plain[0]) and torch.equal(tokens[1], plain[1].detach())
    assert torch.equal(vector[0], plain[0].detach()) and not torch.isclose(vector[1], plain[1])


def test_the_enhanced_decoder_guesses_a_token_without_having_seen_it(model):
    head = RetroMAE().head(model).eval()
    batch = drawn(head, TEXTS[:2])
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    place = 3
    changed = batch["decoder_ids"].clone()
    changed[:, place] = changed[:, place] % 20 + 10
    before, after = head.decode(vectors, batch), head.decode(vectors, batch | {"decoder_ids": changed})
    see = batch["visible"][:, :, place]
    assert not see[:, place].any() and see.any() and not see.all()
    moved = (before - after).abs().amax(2) > 1e-6
    torch.testing.assert_close(moved, see)


def test_padding_changes_no_loss(model):
    for objective in OBJECTIVES:
        head = objective.head(model).eval()
        batch = drawn(head, TEXTS[:3])
        wide = {}
        for name, value in batch.items():
            fill = IGNORED if name.endswith("labels") else model.tokenizer.pad_token_id * name.endswith("ids")
            size = (0, 4, 0, 4) if name == "visible" else (0, 4)
            wide[name] = nn.functional.pad(value, size, value=fill if name != "visible" else True)
        wide["token_type_ids"] = torch.zeros_like(wide["input_ids"])
        torch.testing.assert_close(head(wide), head(batch))


def test_the_condenser_reads_tokens_of_the_early_layer_and_only_the_vector_of_the_last(model):
    head = Condenser().head(model).eval()
    batch = drawn(head)
    plain = head.losses(batch)

    def hook(module, inputs, output):
        states = output[0] if isinstance(output, tuple) else output
        states[:, 1:] += torch.arange(32.0)

    with torch.no_grad():
        handle = model.transformer.encoder.layer[-1].register_forward_hook(hook)
        late = head.losses(batch)
        handle.remove()
    assert head.early == 1
    assert not torch.isclose(late[0], plain[0]) and torch.isclose(late[1], plain[1])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=NAMES)
def test_new_weights_follow_from_the_seed_and_leave_the_random_state_alone(model, objective):
    torch.manual_seed(5)
    first, drawn_next = objective.head(model).state_dict(), torch.rand(1)
    again = objective.head(model).state_dict()
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn_next)
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=NAMES)
def test_what_is_saved_is_the_encoder_without_its_head(model, objective, tmp_path):
    head = objective.head(model)
    with torch.no_grad():
        model.transformer.get_input_embeddings().weight.add_(1)
    head.encoder.save(tmp_path / "saved")
    saved = Transformer(str(tmp_path / "saved"), dtype="float32", device="cpu").trainable()
    assert saved.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in saved.state_dict().items())


# ---- refused -------------------------------------------------------------------------------------------------------


def test_a_model_that_is_not_like_bert_is_refused(tiny_chat):
    model = Transformer(str(tiny_chat), pooling="last", dtype="float32", device="cpu").trainable()
    for objective, name in [(RetroMAE(), "retromae"), (Condenser(), "condenser")]:
        with pytest.raises(ValueError, match=f"{name} pre-trains models like BERT .bert, roberta.*not llama"):
            objective.head(model)
        with pytest.raises(ValueError, match=f"{name} pre-trains encoders of one vector a text, not Linear"):
            objective.head(nn.Linear(1, 1))


def test_a_tokenizer_without_a_mask_token_is_refused(model):
    model.tokenizer.mask_token = None
    with pytest.raises(ValueError, match="a tokenizer with a mask token.*this one has mask None"):
        RetroMAE().head(model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model: RetroMAE(encoder_mask=1.0), "encoder_mask is 1.0; it is a share of the tokens"),
        (lambda model: RetroMAE(decoder_mask=0), "decoder_mask is 0; it is a share"),
        (lambda model: RetroMAE(decoding="plain"), "no decoding 'plain': choose from basic, enhanced"),
        (lambda model: Condenser(layers=0), "layers is 0; the head has 1 or more"),
        (lambda model: Condenser(early=2).head(model), "early is 2, of a model with 2 layers: take one from 1 to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(model, make, message):
    with pytest.raises(ValueError, match=message):
        make(model)
