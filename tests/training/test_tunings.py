"""Tunings: gradients only where they should be, frozen weights and documents as they were, folders that are read."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, load_model, save_model
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertModel

from retrieval.corpus import Corpus, Document
from retrieval.encoders.colbert import ColBERT
from retrieval.encoders.splade import Splade
from retrieval.encoders.towers import Towers
from retrieval.encoders.transformer import Transformer
from retrieval.protocols import Tuning
from retrieval.registry import components, find
from retrieval.rerankers.cross_encoder import CrossEncoder
from retrieval.shards import key
from tests.conftest import TEXTS
from tests.test_decoders import decoder
from training.tunings.full import Full
from training.tunings.lora import LoRA
from training.tunings.query_side import QuerySide
from training.tunings.soft_prompt import SoftPrompt

QUERIES, DOCS = [text[:20] for text in TEXTS[:4]], TEXTS[5:11]
OF_QUERIES = {
    "query_side": QuerySide(),
    "soft_prompt": SoftPrompt(5),
    "lora": LoRA(r=4, side="queries"),
}


def bert(folder, **more):
    return Transformer(str(folder), pooling="mean", dtype="float32", **more)


def tuned(encoder, tuning, steps=3):
    """A prepared module after some steps of Adam on inner products."""
    module = encoder.trainable()
    tuning.prepare(module)
    module.train()
    optimiser = torch.optim.Adam([value for value in module.parameters() if value.requires_grad], 0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        if hasattr(module, "tokenize_pairs"):
            scores = module(module.tokenize_pairs(QUERIES, DOCS[:4]))
        else:
            queries = module(module.tokenize_queries(QUERIES), queries=True)
            scores = module.score(queries, module(module.tokenize_docs(DOCS)))
        torch.nn.functional.cross_entropy(scores, torch.zeros(scores.shape[: scores.ndim - 1], dtype=int)).backward()
        optimiser.step()
    return module.eval()


def weights(folder):
    return dict(AutoModel.from_pretrained(folder).named_parameters())


def vectors(module, texts, queries):
    batch = (module.tokenize_queries if queries else module.tokenize_docs)(texts)
    return module(batch, queries=queries).detach().numpy()


def test_the_tunings_are_found_by_their_files():
    assert set(components(Tuning)) == {"full", "lora", "query_side", "soft_prompt"}
    assert find(Tuning, "soft_prompt") is SoftPrompt


@pytest.mark.parametrize("name", OF_QUERIES)
def test_a_tuning_of_queries_leaves_every_weight_of_the_encoder_as_it_is(tiny_model, name):
    module, before = tuned(bert(tiny_model), OF_QUERIES[name]), weights(tiny_model)
    for key_, value in module.transformer.named_parameters():
        assert torch.equal(value, before[key_]) and value.grad is None and not value.requires_grad
    shared = {id(value) for value in module.transformer.parameters()}
    mine = [(name, value) for name, value in module.named_parameters() if id(value) not in shared]
    assert all(value.requires_grad for _, value in mine)
    assert all(value.grad is not None for name, value in mine if "pooler" not in name)


@pytest.mark.parametrize("name", OF_QUERIES)
def test_what_is_saved_gives_the_vectors_and_the_index_is_used_again(tiny_model, tmp_path, name):
    encoder, tuning = bert(tiny_model, query_prompt="otter: "), OF_QUERIES[name]
    module = tuned(encoder, tuning)
    tuning.save(module, tmp_path / "saved")
    trained = tuning.trained(encoder, tmp_path / "saved")
    for one in (trained, encoder.around(module)):
        found = one.encode_queries(QUERIES).vectors
        np.testing.assert_allclose(found, vectors(module, QUERIES, True), atol=1e-5)
        assert np.abs(found - encoder.encode_queries(QUERIES).vectors).max() > 1e-2
        np.testing.assert_array_equal(one.encode_docs(DOCS).vectors, encoder.encode_docs(DOCS).vectors)
    corpus = Corpus.build([Document("a", "", "otter")], tmp_path / "corpus")
    assert key(corpus, trained.contract()) == key(corpus, encoder.contract())
    assert trained.contract() != encoder.contract()
    assert isinstance(trained, Towers) == (name == "query_side")


@pytest.mark.parametrize("name", OF_QUERIES)
def test_while_queries_are_tuned_documents_have_no_dropout(tiny_model, name):
    module = bert(tiny_model).trainable()
    OF_QUERIES[name].prepare(module)
    module.train()
    np.testing.assert_array_equal(vectors(module, DOCS, False), vectors(module, DOCS, False))
    assert np.abs(vectors(module, QUERIES, True) - vectors(module, QUERIES, True)).max() > 0
    np.testing.assert_allclose(vectors(module, DOCS, False), bert(tiny_model).encode_docs(DOCS).vectors, atol=1e-5)


@pytest.mark.parametrize("name", [*OF_QUERIES, "both"])
def test_a_checkpoint_of_a_tuned_module_brings_it_back(tiny_model, tmp_path, name):
    tuning = OF_QUERIES.get(name) or LoRA(r=4)
    module, again = tuned(bert(tiny_model), tuning), bert(tiny_model).trainable()
    tuning.prepare(again)
    save_model(module, tmp_path / "weights.safetensors")
    load_model(again, tmp_path / "weights.safetensors")
    for queries in (True, False):
        np.testing.assert_array_equal(vectors(again.eval(), DOCS, queries), vectors(module, DOCS, queries))


def test_a_soft_prompt_trains_tokens_times_width_numbers(tiny_model):
    module = bert(tiny_model).trainable()
    SoftPrompt(7).prepare(module)
    assert [value.shape for value in module.parameters() if value.requires_grad] == [(7, 32)]


def test_a_soft_prompt_begins_as_its_text_or_as_what_its_seed_draws(tiny_model):
    words = AutoModel.from_pretrained(tiny_model).get_input_embeddings().weight
    ids = AutoTokenizer.from_pretrained(tiny_model)("otter comet", add_special_tokens=False).input_ids

    def first(**how):
        module = bert(tiny_model).trainable()
        SoftPrompt(5, **how).prepare(module)
        return next(value for value in module.parameters() if value.requires_grad).detach()

    assert torch.equal(first(init_text="otter comet"), words[(ids * 5)[:5]])
    assert torch.equal(first(seed=1), first(seed=1)) and not torch.equal(first(seed=1), first(seed=2))
    assert all((words == row).all(1).any() for row in first())


def test_a_soft_prompt_before_a_decoder_that_pads_left_is_trained_as_it_encodes(tiny_model, tmp_path):
    encoder, texts = bert(decoder(tmp_path / "m", tiny_model)), ["otter", TEXTS[3] + " " + TEXTS[9]]
    module = tuned(encoder, SoftPrompt(3))
    SoftPrompt(3).save(module, tmp_path / "saved")
    found = encoder.wearing(tmp_path / "saved").encode_queries(texts).vectors
    np.testing.assert_allclose(vectors(module, texts, True), found, atol=1e-5)


def test_a_query_with_virtual_tokens_is_cut_to_the_positions(tiny_model):
    module = bert(tiny_model, max_length=64).trainable()
    SoftPrompt(5).prepare(module)
    assert module.tokenize_queries(["otter " * 100])["input_ids"].shape[1] == 59
    assert module.tokenize_docs(["otter " * 100])["input_ids"].shape[1] == 64


@pytest.mark.parametrize("name", ["soft_prompt", "lora"])
def test_an_adapter_is_refused_on_another_base_model(tiny_model, tmp_path, name):
    tuning, encoder = OF_QUERIES[name], bert(tiny_model)
    tuning.save(tuned(encoder, tuning, 1), tmp_path / "saved")
    torch.manual_seed(9)
    BertModel(AutoConfig.from_pretrained(tiny_model)).save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "other")
    other, message = (
        bert(tmp_path / "other"),
        "was trained on the weights .*: load it on the model that it was trained on",
    )
    with pytest.raises(ValueError, match=message):
        tuning.trained(other, tmp_path / "saved")
    for side in ("query_adapter", "adapter"):
        with pytest.raises(ValueError, match=message):
            bert(tmp_path / "other", **{side: str(tmp_path / "saved")}).encode_queries(["otter"])
    assert json.loads((tmp_path / "saved" / "base.json").read_text()) == {"weights": encoder.contract()["weights"]}


@pytest.mark.parametrize("name", ["soft_prompt", "lora"])
def test_an_adapter_of_another_width_is_refused_in_one_line(tiny_model, tmp_path, name):
    OF_QUERIES[name].save(tuned(bert(tiny_model), OF_QUERIES[name], 1), tmp_path / "saved")
    (tmp_path / "saved" / "base.json").unlink()  # as those of others have none
    BertModel(AutoConfig.from_pretrained(tiny_model, hidden_size=16)).save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "other")
    message = "its tokens have 32 dimensions, not 16$" if name == "soft_prompt" else r"size mismatch for [^\n]*$"
    with pytest.raises(ValueError, match=f"is of another model: {message}"):
        bert(tmp_path / "other", query_adapter=str(tmp_path / "saved")).encode_queries(["otter"])


def test_an_adapter_over_an_adapter_belongs_to_both(tiny_model, tmp_path):
    LoRA(r=4).save(tuned(bert(tiny_model), LoRA(r=4)), tmp_path / "first")
    below = bert(tiny_model, adapter=str(tmp_path / "first" / "adapter"))
    SoftPrompt(3).save(tuned(below, SoftPrompt(3), 1), tmp_path / "second")
    assert below.wearing(tmp_path / "second").encode_queries(QUERIES).vectors.shape == (4, 32)
    with pytest.raises(ValueError, match="was trained on the weights"):
        bert(tiny_model).wearing(tmp_path / "second")


def test_a_lora_of_both_sides_is_saved_merged_and_beside_it_alone(tiny_model, tmp_path):
    encoder, tuning = bert(tiny_model), LoRA(r=4, alpha=6, modules=["query", "value"])
    module = tuned(encoder, tuning)
    tuning.save(module, tmp_path / "saved")
    expected = vectors(module, DOCS, False)
    assert np.abs(expected - encoder.encode_docs(DOCS).vectors).max() > 1e-2
    for one in (tuning.trained(encoder, tmp_path / "saved"), bert(tiny_model, adapter=str(tmp_path / "saved/adapter"))):
        np.testing.assert_allclose(one.encode_docs(DOCS).vectors, expected, atol=1e-5)
    parts, after = load_file(tmp_path / "saved/adapter/adapter_model.safetensors"), weights(tmp_path / "saved")
    for name, value in weights(tiny_model).items():
        low = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        added = parts[f"{low}B.weight"] @ parts[f"{low}A.weight"] * 6 / 4 if f"{low}A.weight" in parts else 0
        torch.testing.assert_close(after[name], value + added, rtol=1e-5, atol=1e-6)
    assert len(parts) == 8


def test_a_lora_trains_its_matrices_alone_and_begins_at_the_model(tiny_model):
    module, encoder = bert(tiny_model).trainable(), bert(tiny_model)
    LoRA(r=4, seed=1).prepare(module)
    np.testing.assert_allclose(vectors(module, DOCS, False), encoder.encode_docs(DOCS).vectors, atol=1e-5)
    names = [name for name, value in module.named_parameters() if value.requires_grad]
    assert names and all("lora_" in name and "pooler" not in name for name in names)
    drawn = [module.get_parameter(names[0]).clone()]
    for seed in (1, 2):
        module = bert(tiny_model).trainable()
        LoRA(r=4, seed=seed).prepare(module)
        drawn.append(module.get_parameter(names[0]))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("tuning", [Full(), LoRA(r=4)], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["splade", "colbert", "cross_encoder", "transformer"])
def test_every_kind_of_model_is_tuned_saved_and_loaded(tiny_model, tiny_mlm, tmp_path, kind, tuning):
    plain = {"query_marker": "", "doc_marker": "", "query_length": 12, "doc_length": 20}
    part = {
        "splade": lambda: Splade(str(tiny_mlm), dtype="float32"),
        "colbert": lambda: ColBERT(str(tiny_model), **plain, projection=8, seed=1, dtype="float32"),
        "cross_encoder": lambda: CrossEncoder(str(tiny_model), seed=1),
        "transformer": lambda: bert(tiny_model),
    }[kind]()
    module = tuned(part, tuning)
    tuning.save(module, tmp_path / "saved")
    trained, around = tuning.trained(part, tmp_path / "saved"), part.around(module)
    if kind == "cross_encoder":
        head = next(value for name, value in module.named_parameters() if "classifier" in name and value.requires_grad)
        assert head.grad is not None  # a new classifier is trained whatever the tuning
        found = [one.score([*zip(QUERIES, DOCS, strict=False)]) for one in (trained, around, part)]
    else:
        made = [one.encode_docs(DOCS) for one in (trained, around, part)]
        found = [one.matrix.toarray() if kind == "splade" else one.vectors for one in made]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - found[2]).max() > 1e-3
    if kind == "colbert":
        assert module.projections[0].weight.grad is not None


def test_what_trains_queries_alone_refuses_what_is_no_bi_encoder(tiny_mlm, tiny_model):
    for tuning in OF_QUERIES.values():
        with pytest.raises(
            ValueError, match="trains queries alone, which MaskedLanguageWeights cannot: take the encoder"
        ):
            tuning.prepare(Splade(str(tiny_mlm)).trainable())
    module = bert(tiny_model).trainable()
    QuerySide().prepare(module)
    with pytest.raises(ValueError, match="pass a transformer of their own already"):
        SoftPrompt(3).prepare(module)
    with pytest.raises(ValueError, match="Splade wears no adapter"):
        SoftPrompt(3).trained(Splade(str(tiny_mlm)), "nowhere")


def test_arguments_out_of_range_are_refused(tiny_model):
    for make in (lambda: LoRA(r=0), lambda: LoRA(alpha=0), lambda: LoRA(dropout=1), lambda: LoRA(side="docs")):
        with pytest.raises(ValueError, match=r"above 0, dropout in \[0, 1\)|side is one of both, queries"):
            make()
    with pytest.raises(ValueError, match="a soft prompt has at least 1"):
        SoftPrompt(0)
    for prompt, message in ((SoftPrompt(64), "has 64 positions"), (SoftPrompt(3, init_text=" "), "has no token")):
        with pytest.raises(ValueError, match=message):
            prompt.prepare(bert(tiny_model).trainable())
    with pytest.raises(ValueError, match="Target modules"):
        LoRA(modules=["nothing"]).prepare(bert(tiny_model).trainable())


def test_a_tuned_adapter_that_is_copied_stays_usable(tiny_model, tmp_path):
    encoder = bert(tiny_model)
    SoftPrompt(3).save(tuned(encoder, SoftPrompt(3), 1), tmp_path / "saved")
    shutil.copytree(tiny_model, tmp_path / "moved")
    moved = bert(tmp_path / "moved").wearing(tmp_path / "saved")
    np.testing.assert_array_equal(
        moved.encode_queries(QUERIES).vectors, encoder.wearing(tmp_path / "saved").encode_queries(QUERIES).vectors
    )
