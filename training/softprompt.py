"""Soft prompts that make a frozen language model write queries: SPTAR's first stage, Peng et al. (2023)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from retrieval.adapters import save_adapter
from retrieval.batching import pad
from retrieval.files import digest, whole_file
from retrieval.model_files import find_model, has_weights, load_whole, sha256
from retrieval.running import Running
from training.query_prompt import Pair, QueryPrompt

__all__ = ["Frozen", "Item", "SoftPrompt", "Steps", "choose", "random_examples", "same_examples"]

INSTRUCTION = "Write the search query that someone would type who is looking for this document."
STATE, ABOUT = "tuning.safetensors", "softprompt.json"

Group = TypeVar("Group")
Item = tuple[str, str]  # what a model reads, and the query that it is to write


@dataclass(frozen=True)
class Steps:
    """How a prompt is tuned; AdamW, its rate falling linearly to 0 over all epochs."""

    learning_rate: float = 3e-2
    batch_size: int = 1
    epochs: int = 100  # at most
    patience: int = 5  # it stops after more epochs than this without a lower loss on the evaluation pairs
    seed: int = 10

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.epochs < 1 or self.patience < 0 or not self.learning_rate > 0:
            raise ValueError(f"batch_size and epochs are at least 1, patience 0 or more, learning_rate above 0: {self}")


class Frozen:
    """A causal language model whose weights stay, and how well it predicts queries."""

    def __init__(self, model: str, running: Running, revision: str | None = None):
        self.model, self.running, self.revision = model, running, revision

    def losses(self, items: Sequence[Item], soft: Tensor | None = None) -> Tensor:
        """[items], the mean of -log p over the tokens of each query and the one that ends it.

        `soft`, [tokens, width], stands before each text. Nothing of the text counts, nor the queries in it. Raises
        ValueError for an item that is longer than the model reads.
        """
        virtual = 0 if soft is None else len(soft)
        coded = [self._coded(item, virtual) for item in items]
        ids, mask = (
            torch.from_numpy(part).to(self.running.device)
            for part in pad([[self._end] * virtual + text + query for text, query in coded], self._end, "left")
        )
        embedded = self.net.get_input_embeddings()(ids)
        for row, (text, query) in enumerate(coded if soft is not None else ()):
            start = ids.shape[1] - len(query) - len(text) - virtual
            embedded[row, start : start + virtual] = soft.to(embedded.dtype)  # type: ignore[union-attr]
        kept = max(len(query) for _, query in coded) + 1
        found = self.net(
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),  # as generating has them: padding takes no place
            logits_to_keep=kept,
            use_cache=False,
        ).logits[:, -kept:-1]
        own = found.float().log_softmax(2).gather(2, ids[:, 1 - kept :, None])[:, :, 0]
        return torch.stack([-row[-len(query) :].mean() for row, (_, query) in zip(own, coded, strict=True)])

    @torch.no_grad()
    def mean(self, items: Sequence[Item], soft: Tensor | None = None, batch_size: int = 1) -> float:
        """The mean of the losses of these items, each counting the same. Raises ValueError for one not finite."""
        parts = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
        return math.fsum(one for part in parts for one in _finite(part, self.losses(part, soft))) / len(items)

    def embedded(self, text: str, tokens: int) -> Tensor:
        """float32 [tokens, width], the embeddings of the tokens of a text, repeated and cut."""
        ids = self._ids(text)
        if not ids:
            raise ValueError(f"the instruction {text!r} has no token that a prompt could start from")
        rows = torch.tensor(np.resize(ids, tokens), device=self.running.device)
        return self.net.get_input_embeddings().weight.detach()[rows].float().clone()

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are."""
        return has_weights(find_model(self.model, self.revision))

    @cached_property
    def weights(self) -> str:
        """The hash of its weights."""
        return sha256(sorted(self.folder.glob("*.safetensors")))

    @cached_property
    def net(self) -> Any:
        """The torch module, without dropout; no parameter has a gradient."""
        net = load_whole("AutoModelForCausalLM", self.folder, self.running.dtype)
        return net.requires_grad_(False).to(self.running.device).eval()

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)

    @property
    def _end(self) -> int:
        """The token that ends a query, which also fills up: the one that generating stops at."""
        end = self._tokenizer.eos_token_id
        if end is None:
            raise ValueError(f"the tokenizer of {self.model} has no end token, so a query could not end: give it one")
        return int(end)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    def _coded(self, item: Item, virtual: int) -> tuple[list[int], list[int]]:
        """Tokens of the text, with those that begin one, and of the query, which has no such tokens, with its end.

        The query's are those that follow the text's where both are one text, as in examples: SentencePiece begins a
        text of its own with a blank more. Where the text ends otherwise then, the query is one of its own.
        """
        text, both = (list(self._tokenizer(one, verbose=False).input_ids) for one in (item[0], f"{item[0]} {item[1]}"))
        after = both[len(text) :] if both[: len(text)] == text else self._ids(f" {item[1]}")
        query = [*after, self._end]
        room = getattr(self.net.config.get_text_config(), "max_position_embeddings", None)
        length = virtual + len(text) + len(query)
        if room and length > room:
            raise ValueError(
                f"a text of {len(text)} tokens, {virtual} virtual ones and the query {item[1][:40]!r} are {length} of "
                f"{room} tokens that {self.model} takes: lower prompt.words, or show fewer examples"
            )
        return text, query


class SoftPrompt:
    """Virtual tokens before a text, the only thing that is learnt; kept as peft's folder of a prompt tuning."""

    def __init__(
        self,
        model: str,
        tokens: int = 50,
        instruction: str = INSTRUCTION,
        prompt: QueryPrompt = QueryPrompt(),
        steps: Steps = Steps(),
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        device: str | None = None,
        revision: str | None = None,
    ):
        """`tokens` start as the embeddings of those of `instruction`, repeated and cut; the others are the encoder's.

        `prompt` is how the pairs stand in the text, `prompt.words` what is left of a document; which pairs these are
        is chosen where it is tuned, so it has no examples of its own.
        """
        if tokens < 1:
            raise ValueError(f"tokens is {tokens}; a soft prompt has at least 1")
        if prompt.chat:
            raise ValueError("a soft prompt stands before text that a model goes on with: leave out prompt.chat")
        own = next((name for name in ("examples", "shots") if getattr(prompt, name) is not None), None)
        if own:
            raise ValueError(
                f"prompt.{own} is {getattr(prompt, own)}, and the pairs that are shown are chosen of those it is tuned "
                f"with: leave out prompt.{own}, and say with `examples` of retrieval.tune_prompt how many are shown"
            )
        self.tokens, self.instruction, self.prompt, self.steps = tokens, instruction, prompt, steps
        self.frozen = Frozen(model, Running(dtype, None, device), revision)

    def loss(self, items: Sequence[Item], kept: Path | None = None) -> float:
        """The mean loss of these items before any tuning; in the JSON file `kept` it is found again."""
        known = json.loads(kept.read_text(encoding="utf-8")) if kept is not None and kept.is_file() else {}
        key = digest(self._about([], items))
        if key not in known:
            start = self.frozen.embedded(self.instruction, self.tokens)
            known[key] = self.frozen.mean(items, start, self.steps.batch_size)
            if kept is not None:
                _write_json(known, kept)
        return known[key]

    def tune(self, train: Sequence[Item], evaluation: Sequence[Item], folder: Path) -> list[dict[str, Any]]:
        """Write the prompt with the lowest evaluation loss to FOLDER/prompt; the losses of each epoch, 0 the start.

        Killed and started again, it goes on after the last whole epoch to the same bytes. Raises ValueError where the
        folder is of other pairs or settings, and for a loss that is not finite.
        """
        if not train or not evaluation:
            raise ValueError(f"{len(train)} pairs to tune with and {len(evaluation)} to evaluate: give some of each")
        about = self._about(train, evaluation)
        if (folder / "prompt").is_dir():
            made = json.loads((folder / ABOUT).read_text(encoding="utf-8")) if (folder / ABOUT).is_file() else {}
            _refuse_another(folder, made, about)
        state = self._state(folder / STATE, about, evaluation)
        epochs = tqdm(total=self.steps.epochs, initial=state.epoch, desc="epochs", leave=False)
        while state.epoch < self.steps.epochs and state.epoch - state.best_epoch <= self.steps.patience:
            self._epoch(state, train)
            state.losses[-1]["evaluation"] = self.frozen.mean(evaluation, state.prompt, self.steps.batch_size)
            state.keep_best()
            state.write(folder / STATE, about)
            epochs.update()
        if not (folder / "prompt").is_dir():
            self._save(state, about, folder / "prompt")
        return state.losses

    def _state(self, path: Path, about: Mapping[str, Any], evaluation: Sequence[Item]) -> _State:
        """That of the last whole epoch, else the start."""
        if path.is_file():
            return _State.read(path, about, self.frozen.running.device)
        prompt = self.frozen.embedded(self.instruction, self.tokens)
        state = _State(prompt, (torch.zeros_like(prompt), torch.zeros_like(prompt)), prompt.clone(), 0, [])
        state.note(None, self.frozen.mean(evaluation, prompt, self.steps.batch_size))
        return state

    def _epoch(self, state: _State, train: Sequence[Item]) -> None:
        order = np.random.default_rng([self.steps.seed, state.epoch]).permutation(len(train))
        size = self.steps.batch_size
        batches = [order[start : start + size].tolist() for start in range(0, len(train), size)]
        total, losses = len(batches) * self.steps.epochs, []
        for number, batch in enumerate(batches, state.epoch * len(batches)):
            found = self.frozen.losses([train[place] for place in batch], state.prompt)
            losses += _finite([train[place] for place in batch], found)
            found.mean().backward()
            state.step(self.steps.learning_rate * (1 - number / total))
        state.note(math.fsum(losses) / len(losses), math.nan)

    def _about(self, train: Sequence[Item], evaluation: Sequence[Item]) -> dict[str, Any]:
        """What determines the prompt, as plain values."""
        running = self.frozen.running
        return {
            "base model": self.frozen.model,
            "base weights": self.frozen.weights,
            "tokens": self.tokens,
            "instruction": self.instruction,
            **self.prompt.about(),
            **asdict(self.steps),
            "dtype": str(running.dtype).removeprefix("torch."),
            "device": running.device.type,
            "pairs": digest([list(train), list(evaluation)]),
        }

    def _save(self, state: _State, about: Mapping[str, Any], folder: Path) -> None:
        from peft import PromptTuningConfig, get_peft_model

        config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=self.tokens)
        worn: Any = get_peft_model(self.frozen.net, config)
        with torch.no_grad():
            worn.prompt_encoder["default"].embedding.weight.copy_(state.best)
        _write_json({**about, "best epoch": state.best_epoch, "losses": state.losses}, folder.parent / ABOUT)
        save_adapter(worn, folder, self.frozen.weights)


class _State:
    """Where a tuning stands after an epoch."""

    def __init__(self, prompt: Tensor, moments: tuple[Tensor, Tensor], best: Tensor, steps: int, losses: list[dict]):
        self.prompt, self.best, self.losses = prompt.requires_grad_(), best, losses
        self.optimizer = torch.optim.AdamW([self.prompt])
        mean, square = moments
        count = torch.tensor(float(steps))
        self.optimizer.state[self.prompt] = {"step": count, "exp_avg": mean, "exp_avg_sq": square}

    @classmethod
    def read(cls, path: Path, about: Mapping[str, Any], device: torch.device) -> _State:
        """What `write` wrote. Raises ValueError where it is of another tuning."""
        with safe_open(path, "pt", device=str(device)) as file:
            meta = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        _refuse_another(path.parent, meta["about"], about)
        moments = (tensors["exp_avg"], tensors["exp_avg_sq"])
        return cls(tensors["prompt"], moments, tensors["best"], meta["steps"], meta["losses"])

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.losses) - 1

    @property
    def best_epoch(self) -> int:
        """The first epoch with the lowest evaluation loss."""
        return int(np.argmin([one["evaluation"] for one in self.losses]))

    def step(self, learning_rate: float) -> None:
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()

    def note(self, train: float | None, evaluation: float) -> None:
        self.losses.append({"epoch": len(self.losses), "train": train, "evaluation": evaluation})

    def keep_best(self) -> None:
        if self.best_epoch == self.epoch:
            self.best = self.prompt.detach().clone()

    def write(self, path: Path, about: Mapping[str, Any]) -> None:
        moments = self.optimizer.state[self.prompt]
        tensors = {"prompt": self.prompt.detach(), "best": self.best}
        tensors |= {"exp_avg": moments["exp_avg"], "exp_avg_sq": moments["exp_avg_sq"]}
        meta = {"about": about, "losses": self.losses, "steps": int(moments["step"])}
        with whole_file(path) as part:
            save_file({name: one.contiguous() for name, one in tensors.items()}, part, {"state": json.dumps(meta)})


def choose(groups: Sequence[Group], evaluate: Callable[[Group], float]) -> tuple[Group, list[float]]:
    """The group with the lowest loss, the first of equal ones, and the losses of all.

    Raises ValueError where there is no group, and for a loss that is not finite.
    """
    if not groups:
        raise ValueError("there is no group of examples to choose from")
    losses = [evaluate(group) for group in tqdm(groups, "groups of examples", leave=False, disable=len(groups) < 2)]
    odd = [number for number, loss in enumerate(losses, 1) if not math.isfinite(loss)]
    if odd:
        raise ValueError(f"the loss of group {odd[0]} of {len(losses)} is {losses[odd[0] - 1]}: take dtype float32")
    return groups[int(np.argmin(losses))], losses


def _finite(items: Sequence[Item], losses: Tensor) -> list[float]:
    """The losses of these items. Raises ValueError with their queries where one is not finite."""
    found = losses.tolist()
    if not all(map(math.isfinite, found)):
        shown = f"the loss of {[query for _, query in items]} is {found}"
        raise ValueError(f"{shown}: take dtype float32 or a lower learning_rate")
    return found


def _refuse_another(folder: Path, there: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Raises ValueError where what a folder was made of is not what is asked for."""
    differing = next((key for key in about if there.get(key) != about[key]), None)
    if differing is not None:
        raise ValueError(
            f"{folder} is of another tuning ({differing}: {there.get(differing)!r} there, {about[differing]!r} here): "
            "choose another folder, or delete the whole of it"
        )


def _write_json(value: Mapping[str, Any], path: Path) -> None:
    with whole_file(path) as part:
        part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def same_examples(pairs: Sequence[Pair], examples: Sequence[Pair], prompt: QueryPrompt) -> list[Item]:
    """An item for each pair, after the same example pairs."""
    return [(prompt.text(pair.document, examples), pair.query) for pair in pairs]


def random_examples(
    pairs: Sequence[Pair], others: Sequence[Pair], count: int, prompt: QueryPrompt, seed: int
) -> list[Item]:
    """An item for each pair, after `count` of the others, drawn for it without itself."""
    items = []
    for number, pair in enumerate(pairs):
        free = [other for other in others if other[:2] != pair[:2]]
        if len(free) < count:
            raise ValueError(f"{len(free)} other pairs do not make {count} examples: show fewer")
        places = np.random.default_rng([seed, number]).permutation(len(free))[:count]
        items.append((prompt.text(pair.document, [free[place] for place in places.tolist()]), pair.query))
    return items
