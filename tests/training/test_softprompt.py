"""Soft prompts: the loss against a computation token by token, what learns, resuming, and the choice of examples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from retrieval.generators.transformers import Transformers
from retrieval.running import Running
from retrieval.sampling import Request, Sampling
from tests.conftest import make_chat
from training import softprompt
from training.query_prompt import Pair, QueryPrompt
from training.softprompt import Frozen, SoftPrompt, Steps, choose, random_examples, same_examples

PAIRS = [Pair(f"comet {place}", f"The old comet was seen above {place}") for place in ("Mars", "Norway", "the kitchen")]
EXAMPLE = [Pair("wild otter", "Every wild otter sleeps near the harbour")]
PROMPT = QueryPrompt()
ITEMS = same_examples(PAIRS, EXAMPLE, PROMPT)


def made(model, **more):
    steps = Steps(**({"epochs": 3} | more))
    return SoftPrompt(str(model), 5, "otter comet", PROMPT, steps, "float32", "cpu")


@pytest.fixture(scope="module")
def frozen(tiny_chat):
    return Frozen(str(tiny_chat), Running("float32", None, "cpu"))


@pytest.fixture(scope="module")
def tuned(tiny_chat, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    return folder, made(tiny_chat).tune(ITEMS[:2], ITEMS[2:], folder)


def by_hand(folder, item, soft=None):
    """The mean of -log p over the query's tokens and the end token, from one pass of peft-free transformers."""
    net, tokenizer = AutoModelForCausalLM.from_pretrained(folder).double(), AutoTokenizer.from_pretrained(folder)
    text, query = tokenizer(item[0]).input_ids, tokenizer(f" {item[1]}", add_special_tokens=False).input_ids
    query = [*query, tokenizer.eos_token_id]
    embedded = net.get_input_embeddings()(torch.tensor([text + query]))
    if soft is not None:
        embedded = torch.cat([soft.double()[None], embedded], 1)
    with torch.no_grad():
        logprobs = net(inputs_embeds=embedded).logits[0].log_softmax(1)
    first = embedded.shape[1] - len(query)
    return -np.mean([float(logprobs[first + i - 1, token]) for i, token in enumerate(query)])


@pytest.mark.parametrize("virtual", [0, 5])
def test_the_loss_is_the_mean_over_query_and_end_tokens_whatever_stands_beside_it(tiny_chat, frozen, virtual):
    soft = torch.randn(virtual, 32, generator=torch.Generator().manual_seed(0)) if virtual else None
    items = [ITEMS[0], (ITEMS[1][0] * 2, "a quiet violin in northern Norway"), ("Mars", "x")]
    expected = [by_hand(tiny_chat, item, soft) for item in items]
    with torch.no_grad():
        np.testing.assert_allclose(frozen.losses(items, soft), expected, rtol=1e-5)
        np.testing.assert_allclose(torch.cat([frozen.losses([item], soft) for item in items]), expected, rtol=1e-5)


def test_it_is_the_loss_that_peft_computes(tiny_chat, frozen):
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    worn = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_chat), config)
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat)
    text, query = (tokenizer(part, add_special_tokens=False).input_ids for part in (ITEMS[0][0], f" {ITEMS[0][1]}"))
    query = [*query, tokenizer.eos_token_id]
    with torch.no_grad():
        loss = worn(input_ids=torch.tensor([text + query]), labels=torch.tensor([[-100] * len(text) + query])).loss
        own = frozen.losses(ITEMS[:1], worn.get_prompt(1)[0])
    assert own[0].item() == pytest.approx(loss.item(), rel=1e-5)


def test_only_the_virtual_tokens_have_a_gradient_and_no_weight_moves(tiny_chat, tmp_path):
    soft = made(tiny_chat)
    before = {name: value.clone() for name, value in soft.frozen.net.state_dict().items()}
    prompt = soft.frozen.embedded("otter", 5).requires_grad_()
    soft.frozen.losses(ITEMS, prompt).mean().backward()
    assert (prompt.grad.abs().sum(1) > 0).all()
    assert all(one.grad is None for one in soft.frozen.net.parameters())
    soft.tune(ITEMS[:2], ITEMS[2:], tmp_path)
    after = soft.frozen.net.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_an_example_query_changes_the_loss_of_what_comes_after_it_and_its_own_tokens_do_not_count(tiny_chat, frozen):
    other = same_examples(PAIRS, [EXAMPLE[0]._replace(query="painted teapot")], PROMPT)
    with torch.no_grad():
        one, two = frozen.losses(ITEMS), frozen.losses(other)
    assert (one != two).all()
    np.testing.assert_allclose(two, [by_hand(tiny_chat, item) for item in other], rtol=1e-5)


def test_a_prompt_has_tokens_times_width_values_and_starts_as_its_instruction(tiny_chat, frozen, tuned):
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat)
    ids = tokenizer("otter comet", add_special_tokens=False).input_ids
    rows = load_file(tiny_chat / "model.safetensors")["model.embed_tokens.weight"][np.resize(ids, 7)]
    assert torch.equal(frozen.embedded("otter comet", 7), rows)
    (values,) = load_file(tuned[0] / "prompt" / "adapter_model.safetensors").values()
    assert values.shape == (5, 32)


def test_the_prompt_with_the_lowest_evaluation_loss_is_kept(tiny_chat, frozen, tuned):
    folder, losses = tuned
    (values,) = load_file(folder / "prompt" / "adapter_model.safetensors").values()
    evaluations = [one["evaluation"] for one in losses]
    assert (
        frozen.mean(ITEMS[2:], values) == pytest.approx(min(evaluations), rel=1e-6)
        and min(evaluations) < evaluations[0]
    )
    about = json.loads((folder / "softprompt.json").read_text())
    assert about["losses"] == losses and about["best epoch"] == int(np.argmin(evaluations))


def test_it_stops_after_more_epochs_than_its_patience_without_a_lower_loss(tiny_chat, tmp_path):
    losses = made(tiny_chat, learning_rate=1e-30, epochs=20, patience=2).tune(ITEMS[:2], ITEMS[2:], tmp_path)
    assert len(losses) == 1 + 3  # the start, and three epochs that are no better


def test_killed_after_any_epoch_it_ends_with_the_same_bytes(tiny_chat, tuned, tmp_path, monkeypatch):
    evaluated = softprompt._State.write

    def killed(state, path, about):
        evaluated(state, path, about)
        raise KeyboardInterrupt

    for _ in range(3):
        monkeypatch.setattr(softprompt._State, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            made(tiny_chat).tune(ITEMS[:2], ITEMS[2:], tmp_path)
    monkeypatch.setattr(softprompt._State, "write", evaluated)
    assert made(tiny_chat).tune(ITEMS[:2], ITEMS[2:], tmp_path) == tuned[1]
    for name in ("tuning.safetensors", "softprompt.json", "prompt/adapter_model.safetensors"):
        assert (tmp_path / name).read_bytes() == (tuned[0] / name).read_bytes()


def test_a_tuning_of_other_pairs_or_settings_is_refused(tiny_chat, tuned):
    with pytest.raises(ValueError, match="of another tuning .pairs: "):
        made(tiny_chat).tune(ITEMS[1:2], ITEMS[2:], tuned[0])
    with pytest.raises(ValueError, match="of another tuning .learning_rate: 0.03 there, 0.5 here"):
        made(tiny_chat, learning_rate=0.5).tune(ITEMS[:2], ITEMS[2:], tuned[0])


def test_a_soft_prompt_before_another_model_is_refused(tiny_chat, tuned, tmp_path):
    adapter, asked = str(tuned[0] / "prompt"), [Request(None, ITEMS[0][0], Sampling(4))]
    assert list(Transformers(str(tiny_chat), adapter=adapter, dtype="float32", device="cpu").generate(asked))
    other = shutil.copytree(make_chat(tmp_path / "other"), tmp_path / "copy")
    net = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        net.lm_head.weight[0] += 1
    net.save_pretrained(other)
    with pytest.raises(ValueError, match="was trained on the weights"):
        list(Transformers(str(other), adapter=adapter, dtype="float32", device="cpu").generate(asked))


def test_a_loss_that_is_no_number_stops_with_the_query(tiny_chat, tmp_path):
    soft = made(tiny_chat)
    with torch.no_grad():
        soft.frozen.net.lm_head.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"the loss of \['comet .*'\] is \[nan\]: take dtype float32"):
        soft.tune(ITEMS[:2], ITEMS[2:], tmp_path)


def test_an_evaluation_loss_that_is_no_number_is_never_the_lowest(tiny_chat, tmp_path, monkeypatch):
    losses = Frozen.losses

    def broken(self, items, soft=None):
        found = losses(self, items, soft)
        after = soft is not None and not torch.equal(soft, self.embedded("otter comet", 5))
        return found * torch.nan if after and items == ITEMS[2:] else found

    monkeypatch.setattr(Frozen, "losses", broken)
    with pytest.raises(ValueError, match=r"the loss of \['comet the kitchen'\] is \[nan\]"):
        made(tiny_chat).tune(ITEMS[:2], ITEMS[2:], tmp_path)
    assert not (tmp_path / "prompt").exists() and not (tmp_path / "tuning.safetensors").exists()


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_a_group_whose_loss_is_not_finite_is_not_chosen_from(odd):
    losses = {"a": 3.0, "b": odd}
    with pytest.raises(ValueError, match=f"the loss of group 2 of 2 is {odd}"):
        choose(list(losses), losses.__getitem__)


def test_a_prompt_whose_tuning_file_is_gone_is_compared_all_the_same(tiny_chat, tuned, tmp_path):
    folder = shutil.copytree(tuned[0], tmp_path / "copy")
    (folder / "tuning.safetensors").unlink()
    with pytest.raises(ValueError, match="copy is of another tuning .learning_rate: .*delete the whole of it"):
        made(tiny_chat, learning_rate=0.5).tune(ITEMS[:2], ITEMS[2:], folder)
    assert made(tiny_chat).tune(ITEMS[:2], ITEMS[2:], folder) == tuned[1]
    (folder / "softprompt.json").unlink()
    with pytest.raises(ValueError, match="of another tuning .base model: None there"):
        made(tiny_chat).tune(ITEMS[:2], ITEMS[2:], folder)


def test_a_loss_that_was_kept_is_not_computed_again_and_is_of_its_items_and_settings(tiny_chat, tmp_path, monkeypatch):
    kept = tmp_path / "groups.json"
    found = made(tiny_chat).loss(ITEMS, kept)
    asked = []
    monkeypatch.setattr(Frozen, "mean", lambda self, items, *_: asked.append(items) or 0.0)
    assert made(tiny_chat).loss(ITEMS, kept) == found and not asked
    made(tiny_chat).loss(ITEMS[:2], kept)
    SoftPrompt(str(tiny_chat), 6, "otter comet", PROMPT, Steps(), "float32", "cpu").loss(ITEMS, kept)
    assert asked == [ITEMS[:2], ITEMS] and len(json.loads(kept.read_text())) == 3


def test_a_query_is_the_tokens_that_follow_the_text_where_a_tokenizer_begins_each_text_with_a_blank(tmp_path):
    folder = with_leading_blanks(make_chat(tmp_path / "blanks"))
    tokenizer, frozen = AutoTokenizer.from_pretrained(folder), Frozen(str(folder), Running("float32", None, "cpu"))
    for item in (*ITEMS, ("Relevant query:", "otter"), ("ends with a blank ", "otter")):
        text, query = frozen._coded(item, 0)
        assert text == tokenizer(item[0]).input_ids and query[-1] == tokenizer.eos_token_id
        assert text + query[:-1] == tokenizer(f"{item[0]} {item[1]}").input_ids


def with_leading_blanks(folder):
    """A model's folder with a tokenizer as SentencePiece's are: a text begins with a blank, and blanks are marked."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    words = sorted({word for text, query in ITEMS for word in f"{text} {query}".split()})
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>", "<unk>"], show_progress=False)
    trained.train_from_iterator(words, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=trained, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def test_a_pair_longer_than_the_model_reads_is_refused(frozen):
    with pytest.raises(ValueError, match="of 1024 tokens that .* takes: lower prompt.words"):
        frozen.losses([("Mars " * 2000, "comet")])


def test_the_group_with_the_lowest_loss_is_chosen_the_first_of_equal_ones():
    losses = {"a": 3.0, "b": 1.0, "c": 1.0, "d": 2.0}
    assert choose(list(losses), losses.__getitem__) == ("b", [3.0, 1.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="no group"):
        choose([], losses.__getitem__)


def test_random_examples_are_others_and_the_same_for_a_seed():
    pairs = [Pair(f"query {n}", f"text {n}") for n in range(6)]
    items = random_examples(pairs, pairs, 2, PROMPT, 10)
    assert items == random_examples(pairs, pairs, 2, PROMPT, 10) != random_examples(pairs, pairs, 2, PROMPT, 11)
    for pair, (text, query) in zip(pairs, items, strict=True):
        assert query == pair.query and text.count("Relevant query: query") == 2 and pair.query not in text
    assert len({text.split(pair.document)[0] for pair, (text, _) in zip(pairs, items, strict=True)}) > 1
    with pytest.raises(ValueError, match="5 other pairs do not make 6 examples"):
        random_examples(pairs, pairs, 6, PROMPT, 10)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SoftPrompt("m", 0), "at least 1"),
        (lambda: SoftPrompt("m", prompt=QueryPrompt(chat=True)), "leave out prompt.chat"),
        (
            lambda: SoftPrompt("m", prompt=QueryPrompt(examples=Path("my.jsonl"))),
            "prompt.examples is my.jsonl, and the",
        ),
        (lambda: SoftPrompt("m", prompt=QueryPrompt(shots=2)), "leave out prompt.shots, and say with `examples` of"),
        (lambda: Steps(epochs=0), "at least 1"),
        (lambda: made("m").tune([], ITEMS, None), "0 pairs to tune with"),
    ],
)
def test_settings_that_cannot_be_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
