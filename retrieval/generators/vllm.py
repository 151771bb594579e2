"""vLLM's offline engine."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from retrieval.adapters import adapter_hash, find_adapter, learns_prompt
from retrieval.model_files import find_model, has_weights, sha256
from retrieval.prompt_tokens import Prompt, PromptReader
from retrieval.sampling import Request
from retrieval.types import Generation

__all__ = ["VLLM"]

MISSING = "vLLM is not installed: pip install vllm, or the extra `vllm`"


class VLLM:
    """Answers of vLLM's engine on a GPU, each as it is done.

    Not run by the tests of this toolkit, which have no GPU: they hold it to the calls of vLLM's classes by a stand-in.
    Each request has a seed of its own, but vLLM does not promise the same text for another batch.
    """

    def __init__(
        self,
        model: str,
        adapter: str | None = None,
        template_options: Mapping[str, Any] | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        max_length: int | None = None,
        memory: float = 0.9,
        gpus: int = 1,
        revision: str | None = None,
    ):
        """`adapter` is a peft folder of a LoRA; `template_options` are given to the chat template.

        `max_length` is the most tokens of prompt and answer, None as the model has it. `memory` is the share of a GPU
        that vLLM takes, `gpus` over how many the model is spread.
        """
        if not 0 < memory <= 1 or gpus < 1:
            raise ValueError(f"memory is a share in (0, 1] and gpus at least 1, not {memory} and {gpus}")
        self.model, self.adapter, self.revision, self.dtype = model, adapter, revision, dtype
        self.template_options = dict(template_options or {})
        self.max_length, self.memory, self.gpus = max_length, memory, gpus

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Generation]]:
        """Answers in the order in which they are done. A prompt that is too long is a failure."""
        engine = self._engine
        waiting: dict[str, Prompt] = {}
        try:
            for place, request in enumerate(requests):
                prompt = self._reader.read(request, self.max_length)
                if prompt.failure:
                    yield place, Generation("", len(prompt.ids), failure=prompt.failure)
                    continue
                given = {"prompt_token_ids": list(prompt.ids)}
                engine.add_request(str(place), given, self._params(request, prompt), lora_request=self._lora)
                waiting[str(place)] = prompt
            while engine.has_unfinished_requests():
                for output in engine.step():
                    if output.finished:
                        yield int(output.request_id), self._generation(output, waiting.pop(output.request_id))
        finally:
            if waiting:  # whoever asked has stopped listening
                engine.abort_request(sorted(waiting))

    def contract(self) -> Mapping[str, Any]:
        """Weights, adapter, template, dtype and vLLM's version."""
        return self._contract

    def _params(self, request: Request, prompt: Prompt) -> Any:
        asked = request.sampling
        return _vllm().SamplingParams(
            max_tokens=asked.max_tokens,
            temperature=asked.temperature,
            top_p=asked.top_p,
            top_k=asked.top_k or -1,
            repetition_penalty=asked.repetition_penalty,
            stop=list(asked.stop),
            seed=prompt.seed,
            logprobs=0 if asked.logprobs else None,  # of the chosen token alone
        )

    def _generation(self, output: Any, prompt: Prompt) -> Generation:
        [answer] = output.outputs
        ids, logprobs = list(answer.token_ids), None
        if answer.logprobs is not None:
            whole = [one[token].logprob for token, one in zip(ids, answer.logprobs, strict=True)]
            logprobs = whole[: self._reader.kept(ids, answer.text)]
        known = answer.finish_reason in ("stop", "length")
        failure = None if known else f"vLLM ended it by {answer.finish_reason!r}"
        counts = (len(output.prompt_token_ids), len(ids), answer.finish_reason)
        return Generation(prompt.whole(answer.text) if known else "", *counts, logprobs, failure)

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are."""
        return has_weights(find_model(self.model, self.revision))

    @cached_property
    def _reader(self) -> PromptReader:
        return PromptReader(self.folder, self.model, self.template_options)

    @cached_property
    def _engine(self) -> Any:
        vllm = _vllm()
        args = vllm.EngineArgs(
            model=str(self.folder),
            dtype=self.dtype,
            max_model_len=self.max_length,
            gpu_memory_utilization=self.memory,
            tensor_parallel_size=self.gpus,
            load_format="safetensors",
            **self._lora_args(),
        )
        return vllm.LLMEngine.from_engine_args(args)

    def _lora_args(self) -> dict[str, Any]:
        if self.adapter is None:
            return {}
        if learns_prompt(self.adapter):
            raise ValueError(
                f"adapter {self.adapter} is a soft prompt, for the generator `transformers`; vllm takes LoRA"
            )
        rank = json.loads((find_adapter(self.adapter) / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        return {"enable_lora": True, "max_lora_rank": 1 << max(3, (rank - 1).bit_length())}  # 8, 16, 32 ...

    @cached_property
    def _lora(self) -> Any:
        if self.adapter is None:
            return None
        _vllm()
        from vllm.lora.request import LoRARequest

        return LoRARequest("adapter", 1, str(find_adapter(self.adapter)))

    @cached_property
    def _contract(self) -> dict[str, Any]:
        return {
            "generator": "vllm",
            "version": _version(),
            "model": self.model,
            "revision": self.revision,
            "weights": sha256(sorted(self.folder.glob("*.safetensors"))),
            "adapter": adapter_hash(self.adapter),
            **self._reader.about(),
            "dtype": self.dtype,
        }


def _vllm() -> Any:
    try:
        import vllm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING) from error
    return vllm


def _version() -> str:
    try:
        return importlib.metadata.version("vllm")  # without the import, which takes long and answers may all be kept
    except importlib.metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(MISSING) from error
