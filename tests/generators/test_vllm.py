"""The vLLM generator, held to the calls of vLLM's classes by a stand-in: vLLM itself needs a GPU."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from retrieval.generators.vllm import VLLM
from retrieval.sampling import Request, Sampling
from tests.generators.test_transformers import thinking


@dataclass
class SamplingParams:
    """The arguments of vLLM's class of this name that are used, by its names and defaults."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: list[str] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None


@dataclass
class EngineArgs:
    """As `SamplingParams`."""

    model: str
    dtype: str = "auto"
    max_model_len: int | None = None
    gpu_memory_utilization: float = 0.9
    tensor_parallel_size: int = 1
    load_format: str = "auto"
    enable_lora: bool = False
    max_lora_rank: int = 16


@dataclass
class LoRARequest:
    """As `SamplingParams`."""

    lora_name: str
    lora_int_id: int
    lora_path: str


class LLMEngine:
    """Answers the prompt's last tokens and the end token, the last request first, each in two steps."""

    made: list[LLMEngine] = []

    def __init__(self, args):
        self.args, self.waiting, self.asked, self.aborted, self.reason = args, [], [], [], "stop"
        self.tokenizer = AutoTokenizer.from_pretrained(args.model)
        LLMEngine.made.append(self)

    @classmethod
    def from_engine_args(cls, engine_args):
        return cls(engine_args)

    def add_request(self, request_id, prompt, params, arrival_time=None, lora_request=None):
        assert isinstance(request_id, str) and isinstance(params, SamplingParams)
        self.waiting.append((request_id, prompt["prompt_token_ids"], params))
        self.asked.append((prompt["prompt_token_ids"], params, lora_request))

    def has_unfinished_requests(self):
        return bool(self.waiting)

    def step(self):
        name, ids, params = self.waiting[-1]
        half = SimpleNamespace(request_id=name, finished=False)
        if not getattr(self, "halfway", False):
            self.halfway = True
            return [half]
        self.halfway = False
        self.waiting.pop()
        tokens = [*ids[-4:-2], 1]
        logprobs = [{token: SimpleNamespace(logprob=-0.5 * place)} for place, token in enumerate(tokens)]
        answer = SimpleNamespace(
            text=self.tokenizer.decode(tokens, skip_special_tokens=True),
            token_ids=tuple(tokens),
            logprobs=None if params.logprobs is None else logprobs,
            finish_reason=self.reason,
        )
        return [SimpleNamespace(request_id=name, finished=True, prompt_token_ids=ids, outputs=[answer])]

    def abort_request(self, request_ids):
        self.aborted += request_ids


@pytest.fixture
def vllm(monkeypatch):
    """A package with vLLM's names."""
    package: Any = ModuleType("vllm")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 0")
    package.SamplingParams, package.EngineArgs, package.LLMEngine = SamplingParams, EngineArgs, LLMEngine
    request: Any = ModuleType("vllm.lora.request")
    request.LoRARequest = LoRARequest
    for name, module in {"vllm": package, "vllm.lora": ModuleType("vllm.lora"), "vllm.lora.request": request}.items():
        monkeypatch.setitem(sys.modules, name, module)
    LLMEngine.made.clear()


def chats(texts, **how):
    return [Request([{"role": "user", "content": text}], sampling=Sampling(**how)) for text in texts]


def test_answers_come_as_they_are_done_under_their_places(vllm, tiny_chat):
    given = list(VLLM(str(tiny_chat)).generate(chats(["an otter", "a comet", "a teapot"], logprobs=True)))
    assert [place for place, _ in given] == [2, 1, 0]
    [engine] = LLMEngine.made
    for place, one in given:
        ids = engine.asked[place][0]
        assert one.text == engine.tokenizer.decode(ids[-4:-2]) and one.failure is None
        assert (one.tokens_in, one.tokens_out, one.finish_reason) == (len(ids), 3, "stop")
        assert one.logprobs == [0.0, -0.5]  # that of the end token is not one of the text's


def test_sampling_is_said_in_vllms_words_with_a_seed_for_each_prompt_and_sample(vllm, tiny_chat):
    how = {"max_tokens": 9, "temperature": 0.7, "top_p": 0.8, "top_k": 5, "repetition_penalty": 1.1, "stop": ["."]}
    requests = [*chats(["a", "b"], **how), Request([{"role": "user", "content": "a"}], None, Sampling(**how), 1)]
    requests += chats(["a"])
    list(VLLM(str(tiny_chat)).generate(requests))
    params = [one for _, one, _ in LLMEngine.made[0].asked]
    assert len({one.seed for one in params[:3]}) == 3 and params[0].seed == params[3].seed
    assert params[0] == SamplingParams(0.7, 0.8, 5, 1.1, params[0].seed, ["."], 9, None)
    assert (params[3].temperature, params[3].top_k, params[3].stop) == (0.0, -1, [])


def test_the_chat_template_is_rendered_once_without_tokens_around_it(vllm, tiny_chat):
    list(VLLM(str(tiny_chat)).generate(chats(["an otter"])))
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat)
    assert tokenizer.decode(LLMEngine.made[0].asked[0][0]) == "<s><|user|>an otter</s><|assistant|>"


def test_thoughts_that_the_template_opens_have_their_tag_but_no_answer_to_a_prompt(vllm, tiny_chat, tmp_path):
    folder = thinking(tiny_chat, tmp_path / "thinking")
    request, plain = Request(None, "an otter <think>"), VLLM(str(folder))
    found = dict(plain.generate([*chats(["an otter"]), request]))
    engine = LLMEngine.made[0]
    shown = [engine.tokenizer.decode(ids[-4:-2], skip_special_tokens=True) for ids, _, _ in engine.asked]
    assert [found[0].text, found[1].text] == [f"<think>{shown[0]}", shown[1]]


def test_the_engine_is_made_once_with_safetensors_alone(vllm, tiny_chat):
    generator = VLLM(str(tiny_chat), dtype="bfloat16", max_length=100, memory=0.5, gpus=2)
    for _ in range(2):
        list(generator.generate(chats(["an otter"], max_tokens=5)))
    assert [one.args for one in LLMEngine.made] == [
        EngineArgs(str(tiny_chat), "bfloat16", 100, 0.5, 2, "safetensors", False, 16)
    ]


def test_a_prompt_that_is_too_long_never_reaches_the_engine(vllm, tiny_chat):
    generator = VLLM(str(tiny_chat), max_length=40)
    given = dict(generator.generate(chats(["z " * 50, "z"], max_tokens=10)))
    assert "are more than the 40 tokens" in given[0].failure and given[1].failure is None
    assert len(LLMEngine.made[0].asked) == 1


def test_what_the_engine_gave_up_is_a_failure(vllm, tiny_chat):
    generator = VLLM(str(tiny_chat))
    generator._engine.reason = "abort"
    [(_, one)] = generator.generate(chats(["an otter"]))
    assert one.failure == "vLLM ended it by 'abort'" and one.text == ""


def test_requests_that_nobody_waits_for_are_taken_back(vllm, tiny_chat):
    given = VLLM(str(tiny_chat)).generate(chats(["a", "b", "c"]))
    assert next(given)[0] == 2
    given.close()
    assert LLMEngine.made[0].aborted == ["0", "1"]


def adapter(folder, **about):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(about))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return str(folder)


@pytest.mark.parametrize(("rank", "room"), [(4, 8), (16, 16), (24, 32)])
def test_a_lora_is_worn_with_room_for_its_rank(vllm, tiny_chat, tmp_path, rank, room):
    worn = adapter(tmp_path / "lora", r=rank)
    list(VLLM(str(tiny_chat), adapter=worn).generate(chats(["an otter"])))
    [engine] = LLMEngine.made
    assert (engine.args.enable_lora, engine.args.max_lora_rank) == (True, room)
    assert engine.asked[0][2] == LoRARequest("adapter", 1, worn)


def test_a_soft_prompt_is_refused(vllm, tiny_chat, tmp_path):
    worn = adapter(tmp_path / "soft", num_virtual_tokens=4)
    with pytest.raises(ValueError, match="is a soft prompt, for the generator `transformers`"):
        list(VLLM(str(tiny_chat), adapter=worn).generate(chats(["an otter"])))


def test_a_contract_names_the_version_and_needs_no_engine(vllm, tiny_chat, tmp_path):
    contract = VLLM(str(tiny_chat)).contract()
    assert (contract["generator"], contract["version"]) == ("vllm", "vllm 0") and not LLMEngine.made
    assert contract != VLLM(str(tiny_chat), adapter=adapter(tmp_path / "lora", r=4)).contract()


def test_without_vllm_the_error_is_the_line_that_installs_it(monkeypatch, tiny_chat):
    monkeypatch.setitem(sys.modules, "vllm", None)

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    generator = VLLM(str(tiny_chat))
    for use in (generator.contract, lambda: list(generator.generate(chats(["an otter"])))):
        with pytest.raises(ModuleNotFoundError, match="pip install vllm"):
            use()


@pytest.mark.parametrize("how", [{"memory": 0}, {"memory": 1.5}, {"gpus": 0}])
def test_a_share_of_memory_or_a_number_of_gpus_that_cannot_be_is_refused(how):
    with pytest.raises(ValueError, match="memory is a share"):
        VLLM("any", **how)
