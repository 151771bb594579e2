"""Shared fixtures: tiny collections checked by hand, models built on the spot, the packaged MiniLM."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach the network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TEXTS = [
    f"{kind} {thing} {verb} {place}"
    for kind in ("A small", "The old", "Every wild", "No tame")
    for thing in ("otter", "comet", "violin", "volcano", "teapot")
    for verb in ("sleeps near", "was seen above", "is painted in", "disappeared from")
    for place in ("the harbour", "a quiet library", "northern Norway", "the kitchen of my aunt", "Mars")
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Each test has a cache of its own."""
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real collections; tests that need it skip without it."""
    folder = os.environ.get("RETRIEVAL_DATA")
    if not folder:
        pytest.skip("needs the real collections: set RETRIEVAL_DATA")
    return Path(folder)


@pytest.fixture(scope="session")
def real_vectors() -> np.ndarray:
    """float32 [400, 384], MiniLM's vectors of 400 sentences."""
    from retrieval.encoders.transformer import Transformer

    return Transformer(dtype="float32").encode_docs(TEXTS).vectors


def wordpiece(texts, size, length, **trained):
    """A tokenizer of [CLS] words [SEP] trained on these texts."""
    from tokenizers import BertWordPieceTokenizer
    from tokenizers.processors import BertProcessing
    from transformers import PreTrainedTokenizerFast

    words = BertWordPieceTokenizer(lowercase=True)
    words.train_from_iterator(texts, vocab_size=size, show_progress=False, **trained)
    ends = [(token, words.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    words._tokenizer.post_processor = BertProcessing(*ends)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=words._tokenizer, model_max_length=length, **names)


def tiny_bert(tokenizer, **more):
    """The configuration of a BERT of two layers and 32 dimensions."""
    from transformers import BertConfig

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **shape, **more)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A BERT of two layers and 32 dimensions with a tokenizer trained here, in Hugging Face's folder format."""
    import torch
    from transformers import BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = wordpiece(TEXTS, 200, 32, min_frequency=1)
    torch.manual_seed(0)
    BertModel(tiny_bert(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_mlm(tiny_model, tmp_path_factory) -> Path:
    """The masked language model of the same shape and tokenizer; its logits are spread so that many weights are 0."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, BertForMaskedLM

    folder = tmp_path_factory.mktemp("models") / "mlm"
    torch.manual_seed(0)
    model = BertForMaskedLM(AutoConfig.from_pretrained(tiny_model))
    with torch.no_grad():
        model.cls.predictions.transform.LayerNorm.weight.mul_(8)
        model.cls.predictions.decoder.bias.normal_(-1, 1)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory) -> Path:
    """A chat model, as make_chat makes it."""
    return make_chat(tmp_path_factory.mktemp("models") / "chat")


def make_chat(folder: Path) -> Path:
    """A Llama of two layers and 32 dimensions with a byte-level tokenizer trained here and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
    bytes_ = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=bytes_, show_progress=False)
    trained.train_from_iterator(TEXTS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained, bos_token="<s>", eos_token="</s>", extra_special_tokens=special[2:]
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(30)  # logits of some size, as a trained model has them
        for name, value in model.named_parameters():
            if "proj" in name:
                value.mul_(8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
