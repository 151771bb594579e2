"""Preference training: the formula by hand, and a tiny chat model that learns."""

from __future__ import annotations

import importlib.util
import json
import math

import numpy as np
import pytest

from retrieval.generators.transformers import Transformers
from retrieval.model_files import sha256
from training.preference import Preference
from training.rewriter import RewriterTrainer

CHOSEN = ("A small otter", "The old comet", "Every wild violin", "No tame teapot")
PAIRS = [
    Preference(f"q{n}", [{"role": "user", "content": f"Write anew: {n}"}], text, "the kitchen of my aunt")
    for n, text in enumerate(CHOSEN)
]
FEW = {"steps": 12, "batch_size": 4, "learning_rate": 1e-2, "rank": 4}


@pytest.fixture(scope="module")
def generator(tiny_chat):
    return Transformers(str(tiny_chat), dtype="float32")


@pytest.fixture(scope="module")
def dpo(generator, tmp_path_factory):
    """The folder and the figures of a training by DPO."""
    folder = tmp_path_factory.mktemp("dpo") / "adapter"
    return folder, RewriterTrainer(**FEW).train(generator, PAIRS, folder)


def formula(chosen, rejected, beta):
    """-log sigmoid(beta (chosen - rejected)) of log-ratios of policy and reference."""
    return math.log1p(math.exp(-beta * (chosen - rejected)))


def log_ratios(model, adapter):
    """By which the adapter changes the log-probability of each chosen and rejected answer, float64 [pairs, 2]."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    worn = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), adapter).double().eval()

    def log_probability(prompt, answer):
        ids = tokenizer(prompt + answer + "</s>", add_special_tokens=False, return_tensors="pt").input_ids
        before = len(tokenizer(prompt, add_special_tokens=False).input_ids)
        by_place = worn(ids).logits[0, :-1].log_softmax(-1)
        return float(by_place[torch.arange(len(by_place)), ids[0, 1:]][before - 1 :].sum())

    found = []
    with torch.no_grad():
        for one in PAIRS:
            prompt = f"<s><|user|>{one.messages[0]['content']}</s><|assistant|>"
            tuned = [log_probability(prompt, text) for text in (one.chosen, one.rejected)]
            with worn.disable_adapter():
                found.append(
                    [
                        now - log_probability(prompt, text)
                        for now, text in zip(tuned, (one.chosen, one.rejected), strict=True)
                    ]
                )
    return np.array(found)


def lines(folder):
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def test_the_formula_gives_its_worked_values():
    assert formula(0, 0, 0.1) == pytest.approx(math.log(2))
    assert formula(2, -1, 0.1) == pytest.approx(0.554355, abs=1e-6)
    assert formula(-1, 2, 0.1) == pytest.approx(0.554355 + 0.3, abs=1e-6)  # swapped: the margin changes its sign


def test_training_begins_where_policy_and_reference_are_one(dpo):
    first = lines(dpo[0])[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6) and first["rewards/margins"] == 0


def test_every_chosen_answer_gains_on_the_rejected_one(dpo, generator):
    _, figures = dpo
    assert figures["accuracy"] == 1 and figures["loss"] < math.log(2) and figures["steps"] == 12


def test_the_figures_are_those_of_the_formula_over_the_tokens_of_the_answers(dpo, tiny_chat):
    folder, figures = dpo
    ratios = log_ratios(tiny_chat, folder)
    assert (ratios[:, 0] > ratios[:, 1]).all()
    assert figures["margin"] == pytest.approx(0.1 * float((ratios[:, 0] - ratios[:, 1]).mean()), abs=1e-4)
    assert figures["loss"] == pytest.approx(np.mean([formula(*one, 0.1) for one in ratios]), abs=1e-5)


def test_only_a_lora_comes_of_it_and_the_model_stays_as_it_was(generator, tiny_chat, tmp_path):
    from safetensors.torch import load_file

    before = sha256(sorted(tiny_chat.glob("*")))
    RewriterTrainer(**FEW | {"steps": 1}).train(generator, PAIRS, tmp_path / "a")
    assert sha256(sorted(tiny_chat.glob("*"))) == before
    names = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert len(names) == 2 * 2 * 7 and all(".lora_A." in name or ".lora_B." in name for name in names)
    kept = {path.suffix for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert kept == {".json", ".jsonl", ".md", ".safetensors"}  # no pickle


def test_the_same_seed_gives_the_same_adapter(generator, tmp_path):
    def adapter(name, **more):
        RewriterTrainer(**FEW | {"steps": 2, "batch_size": 2} | more).train(generator, PAIRS, tmp_path / name)
        return (tmp_path / name / "adapter_model.safetensors").read_bytes()

    assert adapter("a") == adapter("b") != adapter("c", seed=1)


def test_a_second_round_goes_on_from_the_adapter_which_is_its_reference(dpo, tiny_chat, tmp_path):
    tuned = Transformers(str(tiny_chat), adapter=str(dpo[0]), dtype="float32")
    figures = RewriterTrainer(**FEW | {"steps": 3}).train(tuned, PAIRS, tmp_path / "a")
    first = lines(tmp_path / "a")[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["logps/chosen"] > lines(dpo[0])[0]["logps/chosen"] and figures["accuracy"] == 1
    again = Transformers(str(tiny_chat), adapter=str(tmp_path / "a"), dtype="float32")
    assert len(list(again.generate([]))) == 0 and again.contract()["adapter"] != tuned.contract()["adapter"]


def test_sft_makes_the_chosen_answer_the_likeliest(generator, tiny_chat, tmp_path):
    from retrieval.sampling import Request, Sampling

    more = FEW | {"steps": 60, "learning_rate": 2e-2}
    figures = RewriterTrainer(objective="sft", **more).train(generator, PAIRS, tmp_path / "a")
    losses = [line["loss"] for line in lines(tmp_path / "a")]
    assert figures["loss"] < losses[0] / 10 and "margin" not in figures
    tuned = Transformers(str(tiny_chat), adapter=str(tmp_path / "a"), dtype="float32")
    said = dict(tuned.generate([Request(one.messages, sampling=Sampling(16)) for one in PAIRS]))
    assert [said[n].text for n in range(4)] == list(CHOSEN)


def test_a_finished_training_is_left_alone_and_one_of_other_pairs_is_refused(dpo, generator):
    folder, figures = dpo
    before = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    assert RewriterTrainer(**FEW).train(generator, PAIRS, folder) == figures
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="holds an adapter of another training .pairs was"):
        RewriterTrainer(**FEW).train(generator, PAIRS[:2], folder)
    with pytest.raises(ValueError, match="holds an adapter of another training .trainer was"):
        RewriterTrainer(**FEW | {"steps": 13}).train(generator, PAIRS, folder)


def test_a_training_that_is_killed_leaves_nothing_and_begins_again(generator, dpo, tmp_path, monkeypatch):
    import trl

    folder, train = tmp_path / "adapter", trl.DPOTrainer.train

    def killed(self):
        train(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(trl.DPOTrainer, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            RewriterTrainer(**FEW).train(generator, PAIRS, folder)
    assert not folder.exists()
    RewriterTrainer(**FEW).train(generator, PAIRS, folder)
    name = "adapter_model.safetensors"
    assert (folder / name).read_bytes() == (dpo[0] / name).read_bytes()


def test_a_loss_that_is_not_finite_stops_with_the_queries_of_the_batch(generator, tmp_path):
    broken = RewriterTrainer(**FEW | {"learning_rate": 1e30, "batch_size": 2, "steps": 6})
    with pytest.raises(FloatingPointError, match=r"is nan at step \d, in a batch of the queries q\d, q\d: a lower"):
        broken.train(generator, PAIRS, tmp_path / "a")


def test_queries_of_a_batch_are_named_where_passes_do_not_divide_into_steps(generator, tmp_path, monkeypatch):
    import trl

    step, asked = trl.DPOTrainer.training_step, []

    def watched(self, model, inputs, *rest):
        texts = self.processing_class.batch_decode(inputs["input_ids"])
        asked.append({next(f"q{n}" for n in range(6) if f"anew: {n}" in text) for text in texts})
        return step(self, model, inputs, *rest) * (math.nan if len(asked) == 4 else 1)

    pairs = [
        Preference(f"q{n}", [{"role": "user", "content": f"Write anew: {n}"}], CHOSEN[0], CHOSEN[1]) for n in range(6)
    ]
    monkeypatch.setattr(trl.DPOTrainer, "training_step", watched)
    with pytest.raises(FloatingPointError, match="at step 3, in a batch of the queries") as caught:
        RewriterTrainer(**FEW | {"batch_size": 4, "accumulate": 2}).train(generator, pairs, tmp_path / "a")
    named = str(caught.value).split("queries ")[1].split(":")[0].split(", ")
    assert len(asked) == 5 and sorted(named) == sorted([*asked[3], *asked[4]])  # 3 passes an epoch: 2, 1, then 2


def test_out_of_memory_says_what_to_raise(generator, tmp_path, monkeypatch):
    import torch
    import trl

    def full(self):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(trl.DPOTrainer, "train", full)
    with pytest.raises(ValueError, match="out of memory with 4 pairs at a time: raise accumulate to 2"):
        RewriterTrainer(**FEW).train(generator, PAIRS, tmp_path / "a")


def test_the_best_text_alone_is_enough_for_sft_and_not_for_dpo(generator, tmp_path):
    alone = [Preference(one.query_id, one.messages, one.chosen) for one in PAIRS]
    figures = RewriterTrainer(objective="sft", **FEW | {"steps": 1}).train(generator, alone, tmp_path / "a")
    assert figures["pairs"] == 4
    with pytest.raises(ValueError, match="the pair of query q0 has no rejected text"):
        RewriterTrainer(**FEW).train(generator, alone, tmp_path / "b")


def test_beta_is_of_dpo_alone():
    assert RewriterTrainer().beta == 0.1 and RewriterTrainer(objective="sft").beta is None


def test_no_pairs_are_refused(generator, tmp_path):
    with pytest.raises(ValueError, match="there is no pair to train on"):
        RewriterTrainer().train(generator, [], tmp_path / "a")


def test_a_template_that_asks_by_another_prompt_is_refused(tiny_chat, tmp_path):
    import shutil

    from transformers import AutoTokenizer

    folder = shutil.copytree(tiny_chat, tmp_path / "thinks")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = tokenizer.get_chat_template().replace(
        "{% if add", "{% if add_generation_prompt %}Hm{% endif %}{% if add"
    )
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match="writes another prompt before an answer than it asks for one"):
        RewriterTrainer(**FEW).train(Transformers(str(folder), dtype="float32"), PAIRS, tmp_path / "a")


def test_a_soft_prompt_is_not_trained_on(tiny_chat, tmp_path):
    import peft
    from transformers import AutoModelForCausalLM

    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_chat), config).save_pretrained(tmp_path / "soft")
    soft = Transformers(str(tiny_chat), adapter=str(tmp_path / "soft"), dtype="float32")
    with pytest.raises(ValueError, match="is a soft prompt: preference training goes on with a LoRA"):
        RewriterTrainer(**FEW).train(soft, PAIRS, tmp_path / "a")


def test_without_trl_the_error_is_the_line_that_installs_it(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "trl" else real(name, *rest))
    with pytest.raises(ModuleNotFoundError, match="preference training needs trl: pip install trl"):
        RewriterTrainer()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "ppo"}, 'objective is "dpo" or "sft"'),
        ({"beta": 0}, "beta is 0; it is above 0"),
        ({"objective": "sft", "beta": 0.1}, "beta is 0.1, and sft has no use for it: leave it out"),
        ({"learning_rate": 0}, "learning_rate and epochs are above 0"),
        ({"steps": 0}, "rank and steps at least 1"),
        ({"batch_size": 4, "accumulate": 3}, "batch_size 4 does not divide into 3 passes"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        RewriterTrainer(**wrong)
