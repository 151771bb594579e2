"""Language models of Hugging Face folders, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrieval.adapters import adapted, adapter_hash, learns_prompt
from retrieval.batching import in_batches, pad
from retrieval.model_files import check_sha256, find_model, has_weights, load_whole, sha256
from retrieval.prompt_tokens import Prompt, PromptReader
from retrieval.running import Running
from retrieval.sampling import Request, Sampling
from retrieval.types import Generation

if TYPE_CHECKING:
    import torch

__all__ = ["Transformers"]

TOKENS = {"cpu": 16384, "cuda": 131072, "mps": 16384}  # of a batch, prompts and answers


class Transformers:
    """Answers of any causal language model of transformers, in left-padded batches of like length.

    Each request draws random numbers of its own, made of its seed, its sample and the prompt, so what is beside it in
    a batch does not change its answer. That holds in float32: in half precision two tokens can be equally likely but
    for last bits, which batches change.
    """

    def __init__(
        self,
        model: str,
        adapter: str | None = None,
        template_options: Mapping[str, Any] | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        batch_tokens: int | None = None,
        device: str | None = None,
        revision: str | None = None,
        sha256: str | None = None,
    ):
        """`adapter` is a peft folder: LoRA, merged into the weights, or a soft prompt before each text.

        `template_options` are given to the chat template, such as {enable_thinking: false}. `batch_tokens` bounds a
        batch, padded prompts and max_tokens together: by default 16,384 on a processor and 131,072 on a GPU. Out of
        memory halves it. `dtype`, `revision` and `sha256` are those of the encoder `transformer`.
        """
        self.model, self.adapter, self.revision, self.sha256 = model, adapter, revision, sha256
        self.template_options = dict(template_options or {})
        self.dtype, self.batch_tokens, self.device = dtype, batch_tokens, device
        self._running = Running(dtype, batch_tokens, device, TOKENS)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Generation]]:
        """Answers batch by batch, longest prompts first. A prompt that is too long is a failure."""
        virtual = 0 if self._soft is None else len(self._soft)
        prompts = [self._reader.read(one, None, virtual) for one in requests]
        alike: dict[Sampling, list[int]] = {}
        for place, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            if prompt.failure:
                yield place, Generation("", len(prompt.ids), failure=prompt.failure)
            else:
                alike.setdefault(replace(request.sampling, seed=0), []).append(place)
        for sampling, places in alike.items():
            for i, one in self._batched([prompts[place] for place in places], sampling, virtual):
                yield places[i], one

    def contract(self) -> Mapping[str, Any]:
        """Weights, adapter, template, dtype and version. Random numbers are those of the kind of device."""
        return self._contract

    def _batched(self, prompts: Sequence[Prompt], sampling: Sampling, virtual: int) -> Iterator[tuple[int, Generation]]:
        def answer(part: np.ndarray) -> list[Generation]:
            return self._answers([prompts[i] for i in part], sampling)

        lengths = [len(one.ids) + virtual + sampling.max_tokens for one in prompts]
        shared = "all cores"  # one batch at a time: two would run the model's weights through the cache twice
        for part, found in in_batches(answer, lengths, self._running.budget, shared, "generations"):
            yield from zip(part.tolist(), found, strict=True)

    def _answers(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Generation]:
        import torch
        from transformers import GenerationConfig

        from retrieval.decoding import Chooser

        chooser = Chooser(prompts, sampling, self._ends, self._reader, self._running.device)
        config = GenerationConfig(max_new_tokens=sampling.max_tokens, pad_token_id=self._padding, use_cache=True)
        with torch.inference_mode():
            self._model.generate(
                **self._inputs(prompts),
                generation_config=config,
                logits_processor=[chooser],
                stopping_criteria=[chooser.done],
            )
        return chooser.generations()

    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
        """Left-padded tokens; with a soft prompt their embeddings, it stands between padding and text."""
        import torch

        soft = self._soft
        virtual = [self._padding] * (0 if soft is None else len(soft))
        ids, mask = (
            torch.from_numpy(part).to(self._running.device)
            for part in pad([[*virtual, *one.ids] for one in prompts], self._padding, "left")
        )
        if soft is None:
            return {"input_ids": ids, "attention_mask": mask}
        embedded = self._model.get_input_embeddings()(ids)
        for row, prompt in enumerate(prompts):
            start = ids.shape[1] - len(prompt.ids) - len(soft)
            embedded[row, start : start + len(soft)] = soft
        return {"inputs_embeds": embedded, "attention_mask": mask}

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are."""
        return has_weights(find_model(self.model, self.revision))

    @cached_property
    def _weights(self) -> str:
        return sha256(sorted(self.folder.glob("*.safetensors")))

    @cached_property
    def _reader(self) -> PromptReader:
        return PromptReader(self.folder, self.model, self.template_options)

    @cached_property
    def _contract(self) -> dict[str, Any]:
        import transformers

        running = self._running
        return {
            "generator": "transformers",
            "version": transformers.__version__,
            "model": self.model,
            "revision": self.revision,
            "weights": self._weights,
            "adapter": adapter_hash(self.adapter),
            **self._reader.about(),
            "end tokens": self._ends,
            "dtype": str(running.dtype).removeprefix("torch."),
            "device": running.device.type,
        }

    @cached_property
    def _ends(self) -> list[int]:
        """The tokens that end an answer, by the tokenizer and both of the folder's configurations."""
        from transformers import GenerationConfig

        named = [self._reader.tokenizer.eos_token_id, getattr(self._reader.config, "eos_token_id", None)]
        if (self.folder / "generation_config.json").is_file():
            named.append(GenerationConfig.from_pretrained(self.folder).eos_token_id)
        found = {one for some in named if some is not None for one in (some if isinstance(some, list) else [some])}
        return sorted(found)

    @cached_property
    def _padding(self) -> int:
        padding = self._reader.tokenizer.pad_token_id
        return padding if padding is not None else next(iter(self._ends), 0)

    @property
    def _model(self) -> Any:
        return self._loaded[0]

    @property
    def _soft(self) -> torch.Tensor | None:
        return self._loaded[1]

    @cached_property
    def _loaded(self) -> tuple[Any, torch.Tensor | None]:
        """The model, and the embeddings [tokens, width] of a soft prompt."""
        from transformers import GenerationConfig

        if self._reader.config.is_encoder_decoder:
            raise ValueError(
                f"{self.model} is an encoder and a decoder, and only decoders are run here: take a causal model"
            )
        check_sha256(self.folder / "model.safetensors", self.sha256)
        model, soft = load_whole("AutoModelForCausalLM", self.folder, self._running.dtype), None
        if self.adapter and learns_prompt(self.adapter):
            soft = self._virtual(adapted(model, self.adapter, merge=False, base=self._weights))
        elif self.adapter:
            model = adapted(model, self.adapter, merge=True, base=self._weights)
        model.generation_config = GenerationConfig()  # the folder's own sampling would be put into each request's
        device, dtype = self._running.device, self._running.dtype
        return model.to(device, dtype).eval(), None if soft is None else soft.to(device, dtype)

    def _virtual(self, worn: Any) -> torch.Tensor:
        import torch

        kind = str(worn.active_peft_config.peft_type.value)
        if kind == "PREFIX_TUNING":
            raise ValueError(
                f"adapter {self.adapter} is a prefix of every layer: take LoRA or a soft prompt before the text"
            )
        with torch.inference_mode():
            return worn.get_prompt(batch_size=1)[0].clone()
