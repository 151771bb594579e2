"""peft's adapters: LoRA against weights merged by hand, soft prompts against the sum over the text's own tokens."""

from __future__ import annotations

import shutil

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from retrieval.encoders.transformer import Transformer
from tests.test_decoders import SAMPLE, decoder

TASK = "FEATURE_EXTRACTION"


def saved(model, config, folder):
    """A folder of an adapter whose every tensor is random."""
    torch.manual_seed(1)
    worn = peft.get_peft_model(AutoModel.from_pretrained(model), config)
    for value in worn.parameters():
        if value.requires_grad:
            torch.nn.init.normal_(value, std=0.3)
    worn.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def lora(tiny_model, tmp_path_factory):
    config = peft.LoraConfig(task_type=TASK, r=4, lora_alpha=6, target_modules=["query", "value"])
    return saved(tiny_model, config, tmp_path_factory.mktemp("lora"))


@pytest.fixture(scope="module")
def soft(tiny_model, tmp_path_factory):
    config = peft.PromptTuningConfig(task_type=TASK, num_virtual_tokens=5)
    return saved(tiny_model, config, tmp_path_factory.mktemp("soft"))


@pytest.fixture(scope="module")
def merged(tiny_model, lora, tmp_path_factory):
    """The model with W + BA * alpha / r in the place of W."""
    folder = tmp_path_factory.mktemp("merged") / "m"
    shutil.copytree(tiny_model, folder)
    model, parts = AutoModel.from_pretrained(tiny_model), load_file(f"{lora}/adapter_model.safetensors")
    with torch.no_grad():
        for name in [name for name in parts if "lora_A" in name]:
            layer = model.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
            layer.weight += parts[name.replace("lora_A", "lora_B")] @ parts[name] * 6 / 4
    model.save_pretrained(folder)
    return str(folder)


def mean(model, **more):
    return Transformer(str(model), pooling="mean", dtype="float32", **more)


def test_a_lora_gives_the_vectors_of_weights_merged_by_hand(tiny_model, lora, merged):
    adapted, expected = mean(tiny_model, adapter=lora), mean(merged)
    for side in ("encode_queries", "encode_docs"):
        np.testing.assert_allclose(getattr(adapted, side)(SAMPLE).vectors, getattr(expected, side)(SAMPLE).vectors,
                                   atol=1e-5)  # fmt: skip
    assert np.abs(adapted.encode_docs(SAMPLE).vectors - mean(tiny_model).encode_docs(SAMPLE).vectors).max() > 1e-2


@pytest.mark.parametrize("attention", ["padded", "packed"])
def test_a_lora_of_queries_leaves_documents_as_they_are(tiny_model, lora, merged, attention):
    asked = mean(tiny_model, query_adapter=lora, attention=attention)
    before = asked.encode_docs(SAMPLE).vectors
    np.testing.assert_allclose(asked.encode_queries(SAMPLE).vectors, mean(merged).encode_queries(SAMPLE).vectors,
                               atol=1e-5)  # fmt: skip
    np.testing.assert_array_equal(asked.encode_docs(SAMPLE).vectors, before)
    np.testing.assert_array_equal(before, mean(tiny_model, attention=attention).encode_docs(SAMPLE).vectors)


def test_only_an_adapter_of_both_sides_changes_what_documents_are_made_with(tiny_model, lora):
    plain, asked, adapted = ({**mean(tiny_model, **more).contract()}
                             for more in ({}, {"query_adapter": lora}, {"adapter": lora}))  # fmt: skip
    assert len(asked["queries"]["adapter"]) == 64 and adapted["adapter"] == asked["queries"]["adapter"]
    assert plain.pop("queries") != asked.pop("queries")
    assert plain == asked and plain["adapter"] != adapted["adapter"]


def by_hand(folder, soft, texts):
    """Virtual tokens before each text, alone; the mean over the states of its own tokens."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    prompt = load_file(f"{soft}/adapter_model.safetensors")["prompt_embeddings"]
    found = []
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text, truncation=True, return_tensors="pt").input_ids
            embedded = torch.cat([prompt[None], model.get_input_embeddings()(ids)], dim=1)
            found.append(model(inputs_embeds=embedded).last_hidden_state[0, len(prompt) :].mean(0).numpy())
    return np.stack(found)


def test_a_soft_prompt_is_attended_to_and_not_pooled(tiny_model, soft):
    expected = by_hand(tiny_model, soft, SAMPLE)
    np.testing.assert_allclose(mean(tiny_model, adapter=soft).encode_docs(SAMPLE).vectors, expected, atol=1e-5)
    asked = mean(tiny_model, query_adapter=soft)
    np.testing.assert_allclose(asked.encode_queries(SAMPLE).vectors, expected, atol=1e-5)
    np.testing.assert_array_equal(asked.encode_docs(SAMPLE).vectors, mean(tiny_model).encode_docs(SAMPLE).vectors)


def test_a_soft_prompt_of_a_decoder_that_pads_left_does_not_depend_on_the_batch(tiny_model, tmp_path):
    folder = decoder(tmp_path / "m", tiny_model)
    soft = saved(folder, peft.PromptTuningConfig(task_type=TASK, num_virtual_tokens=3), tmp_path / "soft")
    found = mean(folder, query_adapter=soft).encode_queries(SAMPLE).vectors
    np.testing.assert_allclose(found, by_hand(folder, soft, SAMPLE), atol=1e-5)


def test_a_prefix_of_a_decoder_gives_the_same_vectors_in_any_batch(tiny_model, tmp_path):
    folder = decoder(tmp_path / "m", tiny_model)
    prefix = saved(folder, peft.PrefixTuningConfig(task_type=TASK, num_virtual_tokens=3), tmp_path / "prefix")
    encoder = mean(folder, query_adapter=prefix)
    found = encoder.encode_queries(SAMPLE).vectors
    alone = np.concatenate([encoder.encode_queries([text]).vectors for text in SAMPLE])
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert np.abs(found - encoder.encode_docs(SAMPLE).vectors).max() > 1e-3


def test_virtual_tokens_take_positions_from_the_text(tiny_model, soft):
    encoder = mean(tiny_model, query_adapter=soft, max_length=64)
    assert (encoder.bi_encoder.longest(True), encoder.bi_encoder.longest(False)) == (59, 64)
    assert encoder.encode_queries(["otter " * 100]).truncated == 1


def test_what_cannot_be_done_with_a_soft_prompt_is_said_so(tiny_model, soft, lora):
    with pytest.raises(ValueError, match="is a soft prompt, over which no other adapter is worn"):
        mean(tiny_model, adapter=soft, query_adapter=lora).encode_queries(["otter"])
    with pytest.raises(ValueError, match=r"the virtual tokens of .* cannot be packed; take attention: padded"):
        mean(tiny_model, adapter=soft, attention="packed").encode_queries(["otter"])
    with pytest.raises(ValueError, match="only the model and a LoRA of both sides are trained here"):
        mean(tiny_model, query_adapter=lora).trainable()
    with pytest.raises(ValueError, match="an adapter that is not merged cannot be saved with the model"):
        mean(tiny_model, adapter=soft).bi_encoder.save("/nowhere")


def test_a_pickled_adapter_is_refused(lora, tiny_model, tmp_path):
    shutil.copytree(lora, tmp_path / "a")
    (tmp_path / "a" / "adapter_model.safetensors").rename(tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(FileNotFoundError, match=r"adapter_model.bin is a pickle, which is never loaded; save it as"):
        mean(tiny_model, adapter=str(tmp_path / "a")).encode_docs(["otter"])


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
def test_an_adapter_of_another_model_is_refused(lora, tiny_model, tmp_path):
    shutil.copytree(lora, tmp_path / "a")
    path = tmp_path / "a" / "adapter_model.safetensors"
    parts = {name.replace("layer.1.", "layer.7."): value for name, value in load_file(path).items()}
    save_file(parts, path)
    with pytest.raises(ValueError, match=r"is of another model: base_model.*layer\..* is on one side only"):
        mean(tiny_model, adapter=str(tmp_path / "a")).encode_docs(["otter"])
