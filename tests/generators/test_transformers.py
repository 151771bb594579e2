"""The transformers generator against plain passes, transformers' and peft's generation, and one prompt at a time."""

from __future__ import annotations

import json
import shutil

import numpy as np
import peft
import pytest
import torch
from scipy.stats import chisquare
from transformers import AutoModelForCausalLM, AutoTokenizer

from retrieval.asking import answer_of
from retrieval.generators.transformers import Transformers
from retrieval.prompt_tokens import PromptReader
from retrieval.sampling import Request, Sampling
from tests.conftest import TEXTS

CHATS = [
    "otter",
    "A small otter sleeps near the harbour and the old comet was seen above Mars",
    "No tame teapot",
    "z",
    " ".join(TEXTS[:4]),
    "Every wild violin is painted in northern Norway",
]
WARPED = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.2}


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny models are faster so, and much faster on a machine that does other work as well."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def chats(sampling, texts=CHATS, sample=0):
    return [Request([{"role": "user", "content": text}], sampling=sampling, sample=sample) for text in texts]


def answers(generator, requests):
    found = dict(generator.generate(requests))
    assert sorted(found) == list(range(len(requests)))
    return [found[place] for place in range(len(requests))]


def texts(generator, requests):
    return [one.text for one in answers(generator, requests)]


def one_by_one(generator, requests):
    return [texts(generator, [request])[0] for request in requests]


def rendered(folder, text):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return f"<s><|user|>{text}</s><|assistant|>", tokenizer


@pytest.fixture(scope="module")
def generator(tiny_chat):
    return Transformers(str(tiny_chat), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def plain(tiny_chat):
    """The model as transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(tiny_chat, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def adapters(tiny_chat, tmp_path_factory):
    """Folders of a LoRA, a soft prompt and a prefix, whose every tensor is random."""
    configs = {
        "lora": peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
        "soft": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
        "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }
    folders = {}
    for name, config in configs.items():
        torch.manual_seed(1)
        worn = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_chat), config)
        for value in worn.parameters():
            if value.requires_grad:
                torch.nn.init.normal_(value, std=0.3)
        folders[name] = str(tmp_path_factory.mktemp("adapters") / name)
        worn.save_pretrained(folders[name])
    return folders


def thinking(folder, into):
    """A copy of a chat model's folder whose template ends the prompt by opening the model's thoughts."""
    shutil.copytree(folder, into)
    path = into / "chat_template.jinja"
    path.write_text(f"{path.read_text()}{{% if add_generation_prompt %}}<think>\n{{% endif %}}")
    return into


def edited(folder, into, name, **values):
    """A copy of a model folder with other values in one of its JSON files."""
    shutil.copytree(folder, into)
    path = into / name
    about = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**about, **values}))
    return into


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0}, WARPED], ids=["greedy", "sampled", "warped"])
@pytest.mark.parametrize("batch_tokens", [None, 120])
def test_a_batch_gives_what_each_prompt_gives_alone(generator, tiny_chat, how, batch_tokens):
    requests = chats(Sampling(12, seed=3, **how))
    batched = Transformers(str(tiny_chat), dtype="float32", device="cpu", batch_tokens=batch_tokens)
    assert texts(batched, requests) == one_by_one(generator, requests)


def test_requests_of_several_samplings_are_answered_in_their_places(generator):
    several = [one for how in (Sampling(6), Sampling(9, 0.7), Sampling(6, seed=1)) for one in chats(how)]
    assert texts(generator, several) == one_by_one(generator, several)


def greedy(plain, folder, text, count):
    """The prompt's tokens, and those that are the likeliest in a plain pass each, without those kept from before."""
    prompt, tokenizer = rendered(folder, text)
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    chosen: list[int] = []
    while len(chosen) < count and 1 not in chosen:
        with torch.no_grad():
            chosen.append(int(plain(torch.tensor([ids + chosen])).logits[0, -1].argmax()))
    return ids, chosen


def test_greedy_takes_the_likeliest_token_of_a_plain_pass_each_time(generator, plain, tiny_chat):
    ids, chosen = greedy(plain, tiny_chat, CHATS[1], 12)
    [answer] = answers(generator, chats(Sampling(12), [CHATS[1]]))
    assert answer.text == AutoTokenizer.from_pretrained(tiny_chat).decode(chosen, skip_special_tokens=True)
    assert (answer.tokens_in, answer.tokens_out) == (len(ids), len(chosen))


def test_a_repetition_penalty_is_that_of_transformers(generator, plain, tiny_chat):
    for text in CHATS[:3]:
        prompt, tokenizer = rendered(tiny_chat, text)
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        whole = plain.generate(ids, max_new_tokens=15, do_sample=False, repetition_penalty=1.8, pad_token_id=1)
        expected = tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
        assert texts(generator, chats(Sampling(15, repetition_penalty=1.8), [text])) == [expected]


def warped(logits, temperature=1.0, top_k=None, top_p=1.0):
    """Probabilities in float64 of what may be sampled: the k likeliest, of them the fewest that have top_p."""
    logits = logits.astype(np.float64) / temperature
    order = np.argsort(-logits)[:top_k]
    share = np.exp(logits[order] - logits.max())
    share /= share.sum()
    kept = order[: 1 + np.searchsorted(np.cumsum(share), top_p)]
    found = np.zeros(len(logits))
    found[kept] = share[: len(kept)] / share[: len(kept)].sum()
    return found


@pytest.mark.parametrize("how", [{"temperature": 1.5}, {"temperature": 2.0, "top_k": 30, "top_p": 0.9}])
def test_samples_follow_the_distribution_that_sampling_asks_for(generator, plain, tiny_chat, how):
    count, tokenizer = 4000, AutoTokenizer.from_pretrained(tiny_chat)
    ids = tokenizer("An otter", return_tensors="pt").input_ids
    with torch.no_grad():
        probabilities = warped(plain(ids).logits[0, -1].numpy(), **how)
    expected: dict[str, float] = {}
    for token, share in enumerate(probabilities):  # several tokens are half a letter, which are shown alike
        text = tokenizer.decode([token], skip_special_tokens=True)
        expected[text] = expected.get(text, 0.0) + share * count
    asked = [Request(prompt="An otter", sampling=Sampling(1, **how), sample=sample) for sample in range(count)]
    drawn = texts(generator, asked)
    assert all(expected[text] > 0 for text in drawn)
    rare = {text for text, times in expected.items() if times < 8}
    groups = [*([one] for one in expected if one not in rare), rare]
    due = np.array([sum(expected[text] for text in group) for group in groups])
    seen = np.array([sum(map(drawn.count, group)) for group in groups])
    assert len(groups) > 10
    assert chisquare(seen[due > 0], due[due > 0]).pvalue > 0.001


def test_another_seed_or_sample_is_another_text_and_the_same_is_the_same(generator):
    def drawn(seed, sample):
        return texts(generator, chats(Sampling(8, 1.0, seed=seed), CHATS[:3], sample))

    assert drawn(1, 0) == drawn(1, 0)
    assert all(one != other for one, other in zip(drawn(1, 0), drawn(2, 0), strict=True))
    assert all(one != other for one, other in zip(drawn(1, 0), drawn(1, 1), strict=True))


def test_samples_do_not_depend_on_the_number_of_threads(generator):
    requests = chats(Sampling(8, 1.0))
    expected = texts(generator, requests)
    torch.set_num_threads(2)
    assert texts(generator, requests) == expected


def test_log_probabilities_are_those_of_a_plain_pass_whatever_is_sampled_from(generator, plain, tiny_chat):
    prompt, tokenizer = rendered(tiny_chat, "otter")
    start = tokenizer(prompt, add_special_tokens=False).input_ids
    [answer] = answers(generator, chats(Sampling(10, seed=5, logprobs=True, **WARPED), ["otter"]))
    chosen: list[int] = []
    for logprob in answer.logprobs:  # the token that has this log-probability, one after the other
        with torch.no_grad():
            every = plain(torch.tensor([start + chosen])).logits[0, -1].double().log_softmax(0)
        chosen.append(int((every - logprob).abs().argmin()))
        assert float(every[chosen[-1]]) == pytest.approx(logprob, abs=1e-4)
    assert tokenizer.decode(chosen, skip_special_tokens=True) == answer.text
    assert answers(generator, chats(Sampling(3), ["otter"]))[0].logprobs is None


def test_an_answer_ends_before_a_stop_string_and_so_do_its_log_probabilities(generator):
    how = {"temperature": 1.0, "seed": 2, "logprobs": True}
    whole = answers(generator, chats(Sampling(16, **how), CHATS[:4]))
    for text, long in zip(CHATS[:4], whole, strict=True):
        stop = long.text[6:8]
        [short] = answers(generator, chats(Sampling(16, stop=(stop, "never said"), **how), [text]))
        assert short.text == long.text[: long.text.index(stop)]
        assert short.finish_reason == "stop" and short.tokens_out <= long.tokens_out
        assert short.logprobs == pytest.approx(long.logprobs[: len(short.logprobs)], abs=1e-4)
        assert len(short.logprobs) <= short.tokens_out
    stopped = Sampling(16, stop=tuple(one.text[6:8] for one in whole), **how)
    assert texts(generator, chats(stopped)) == one_by_one(generator, chats(stopped))


def test_an_answer_says_whether_it_ended_or_was_cut(generator, plain, tiny_chat):
    for text in CHATS:
        _, chosen = greedy(plain, tiny_chat, text, 40)
        [answer] = answers(generator, chats(Sampling(40), [text]))
        assert (answer.finish_reason, answer.tokens_out) == ("stop" if 1 in chosen else "length", len(chosen))
        [cut] = answers(generator, chats(Sampling(1), [text]))
        assert (cut.finish_reason, cut.tokens_out) == ("stop" if chosen == [1] else "length", 1)


def test_a_prompt_without_room_for_its_answer_is_a_failure_that_names_the_figures(generator):
    long, short = answers(generator, chats(Sampling(600), ["z " * 300, "z"][:1]) + chats(Sampling(4), ["z"]))
    assert long.failure.startswith(f"a prompt of {long.tokens_in} tokens and max_tokens 600 are more than the 1024")
    assert long.tokens_in > 424 and long.text == "" and short.failure is None and short.text


def test_an_empty_prompt_is_a_failure(generator):
    assert answers(generator, [Request(prompt="")])[0].failure == "the prompt is empty"


def test_a_model_without_a_chat_template_goes_on_with_a_prompt_and_refuses_messages(tiny_chat, tmp_path, generator):
    shutil.copytree(tiny_chat, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    base = Transformers(str(tmp_path / "base"), dtype="float32", device="cpu")
    asked = [Request(prompt="An otter", sampling=Sampling(5))]
    assert texts(base, asked) == texts(generator, asked)
    with pytest.raises(ValueError, match="base has no chat template: take a chat model"):
        list(base.generate(chats(Sampling(5))))


def test_turns_that_the_template_refuses_are_a_failure_and_its_options_reach_it(tiny_chat, tmp_path):
    folder = tmp_path / "strict"
    shutil.copytree(tiny_chat, folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        "{{ m.content }}{% endfor %}{{ ending }}"
    )
    strict = Transformers(str(folder), dtype="float32", device="cpu", template_options={"ending": " sleeps near"})
    system = Request([{"role": "system", "content": "Be brief."}], sampling=Sampling(5))
    user, same = chats(Sampling(5), ["An otter"])[0], Request(prompt="An otter sleeps near", sampling=Sampling(5))
    refused, answered, expected = answers(strict, [system, user, same])
    assert "refuses these turns (no system turn)" in refused.failure
    assert answered.text == expected.text
    assert strict.contract() != Transformers(str(folder), dtype="float32", device="cpu").contract()


def test_thoughts_that_the_template_opens_have_their_tag_but_no_answer_to_a_prompt(tiny_chat, tmp_path):
    model = Transformers(str(thinking(tiny_chat, tmp_path / "thinking")), dtype="float32", device="cpu")
    text, how = rendered(tiny_chat, "An otter")[0], Sampling(8, logprobs=True)
    same = Request(prompt=text + "<think>\n", sampling=how)
    opened, bare = answers(model, [*chats(how, ["An otter"]), same])
    stop = bare.text[2:4]
    cut = answers(model, chats(Sampling(8, stop=[stop], logprobs=True), ["An otter"]))[0]
    assert opened.text == f"<think>{bare.text}" and answer_of(opened.text) == ""
    assert opened.logprobs == pytest.approx(bare.logprobs, abs=1e-4)
    assert cut.text == f"<think>{bare.text[: bare.text.index(stop)]}"
    assert model.contract()["format"] == 2


def test_a_template_that_writes_todays_date_in_any_way_reads_the_same_tomorrow(tiny_chat, tmp_path):
    folder = tmp_path / "dated"
    shutil.copytree(tiny_chat, folder)
    (folder / "chat_template.jinja").write_text(
        "  {% macro day() %}{{ strftime_now('%-d %B %y, %A') }}{% endmacro %}\n\n{% if strftime_now is defined %}"
        "{{ strftime_now('%Y-%m-%d') }}{% endif %}/{{ day() }}/{{ strftime_now(format='%d %b %Y') == date_string }}"
    )
    reader = PromptReader(folder, "dated", {})
    assert reader.read(chats(Sampling(1))[0]).text == "\n2024-07-26/26 July 24, Friday/True"


def test_several_templates_are_told_apart_in_a_contract(tiny_chat):
    reader, digests = PromptReader(tiny_chat, "chat", {}), set()
    templates = [None, "a", "b", {"default": "a", "tool_use": "a"}, {"default": "a", "tool_use": "b"}]
    for template in templates:
        reader.tokenizer.chat_template = template
        digests.add(reader.about()["chat template"])
    reader.tokenizer.chat_template = {"tool_use": "b", "default": "a"}
    assert reader.about()["chat template"] in digests and len(digests) == len(templates)


def test_a_soft_prompt_gives_in_a_batch_and_alone_what_peft_generates(tiny_chat, adapters):
    soft = Transformers(str(tiny_chat), adapter=adapters["soft"], dtype="float32", device="cpu")
    worn = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_chat), adapters["soft"]).eval()
    expected = []
    for text in CHATS:
        prompt, tokenizer = rendered(tiny_chat, text)
        asked = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
        mask = torch.ones_like(asked.input_ids)
        whole = worn.generate(
            input_ids=asked.input_ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=1
        )
        expected.append(tokenizer.decode(whole[0, asked.input_ids.shape[1] :], skip_special_tokens=True))
    requests = chats(Sampling(8))
    assert texts(soft, requests) == one_by_one(soft, requests) == expected
    sampled = chats(Sampling(8, 1.0))
    assert texts(soft, sampled) == one_by_one(soft, sampled)


def test_a_lora_gives_what_peft_generates(tiny_chat, adapters, generator):
    adapted = Transformers(str(tiny_chat), adapter=adapters["lora"], dtype="float32", device="cpu")
    worn = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_chat), adapters["lora"]).eval()
    prompt, tokenizer = rendered(tiny_chat, CHATS[1])
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
    whole = worn.generate(input_ids=ids, max_new_tokens=8, do_sample=False, pad_token_id=1)
    requests = chats(Sampling(8), [CHATS[1]])
    assert texts(adapted, requests) == [tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)]
    assert texts(adapted, requests) != texts(generator, requests)


def test_a_prefix_of_every_layer_is_refused(tiny_chat, adapters):
    with pytest.raises(ValueError, match="is a prefix of every layer: take LoRA"):
        list(Transformers(str(tiny_chat), adapter=adapters["prefix"], device="cpu").generate(chats(Sampling(2))))


def test_a_contract_tells_models_adapters_and_dtypes_apart_and_loads_no_model(tiny_chat, adapters):
    made = [
        Transformers(str(tiny_chat), device="cpu", **{"dtype": "float32", **how})
        for how in ({}, {"adapter": adapters["lora"]}, {"adapter": adapters["soft"]}, {"dtype": "bfloat16"})
    ]
    contracts = [json.dumps(one.contract(), sort_keys=True) for one in made]
    assert len({*contracts}) == 4
    assert not any("_loaded" in vars(one) for one in made)
    assert made[0].contract()["end tokens"] == [1]


def test_sampling_that_a_folder_suggests_is_not_taken_but_its_end_tokens_are(tiny_chat, tmp_path, generator, plain):
    _, chosen = greedy(plain, tiny_chat, CHATS[1], 12)
    own = {"do_sample": True, "temperature": 0.2, "repetition_penalty": 3.0, "max_length": 5}
    own["eos_token_id"] = [1, chosen[4]]
    folder = edited(tiny_chat, tmp_path / "own", "generation_config.json", **own)
    other = Transformers(str(folder), dtype="float32", device="cpu")
    assert other.contract()["end tokens"] == sorted([1, chosen[4]])
    long, short = (answers(one, chats(Sampling(12), [CHATS[1]]))[0] for one in (generator, other))
    assert long.text.startswith(short.text)
    assert (short.finish_reason, short.tokens_out) == ("stop", 1 + chosen.index(chosen[4]))


def test_out_of_memory_halves_the_batch_and_changes_no_text(tiny_chat, generator, monkeypatch):
    small = Transformers(str(tiny_chat), dtype="float32", device="cpu")
    whole = small._model.generate
    sizes = []

    def generate(input_ids, **more):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("none left")
        return whole(input_ids=input_ids, **more)

    monkeypatch.setattr(small._model, "generate", generate)
    requests = chats(Sampling(8, 1.0))
    assert texts(small, requests) == texts(generator, requests)
    assert sizes[0] == len(CHATS) and sizes[-1] <= 2


def test_a_model_that_gives_nan_fails_and_says_so(tiny_chat):
    broken = Transformers(str(tiny_chat), dtype="float32", device="cpu")
    with torch.no_grad():
        broken._model.lm_head.weight[3] = torch.nan
    assert {one.failure for one in answers(broken, chats(Sampling(3)))} == {"the model gives NaN: take dtype float32"}


def test_a_model_with_an_encoder_is_refused(tiny_chat, tmp_path):
    folder = edited(tiny_chat, tmp_path / "both", "config.json", is_encoder_decoder=True)
    with pytest.raises(ValueError, match="both is an encoder and a decoder, and only decoders are run here"):
        list(Transformers(str(folder), device="cpu").generate(chats(Sampling(2))))


def test_nothing_is_asked_of_the_model_where_there_is_no_request(tiny_chat):
    assert list(Transformers(str(tiny_chat)).generate([])) == []
