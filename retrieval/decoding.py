"""Which token comes next, row by row: no row's choice depends on the rows beside it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from retrieval.prompt_tokens import Prompt, PromptReader
from retrieval.sampling import Sampling
from retrieval.types import Generation

__all__ = ["Chooser"]


@dataclass
class _Answer:
    """One row's tokens so far."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    made: int = 0  # tokens, with the one that ends it
    finish: str | None = None
    failure: str | None = None


class Chooser(LogitsProcessor):
    """Chooses the tokens of a batch for transformers' generate, which runs the model, and keeps what was chosen.

    A sampled token is the largest of log-probability + Gumbel noise, which is an exact sample of the warped
    distribution (Gumbel 1954; Maddison et al. 2014). Each row draws its noise from a generator of its own, so a last
    bit that differs between batches almost never changes a choice.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        ends: Collection[int],
        reader: PromptReader,
        device: torch.device,
    ):
        self.prompts, self.sampling, self.ends, self.reader = prompts, sampling, frozenset(ends), reader
        self.answers = [_Answer() for _ in prompts]
        self.generators = [torch.Generator(device).manual_seed(one.seed) for one in prompts]
        self.warps = warps(sampling)
        self.tail = max((len(stop.encode()) for stop in sampling.stop), default=0) + 8  # tokens that can hold a stop
        self.seen: Tensor | None = None  # bool [rows, vocabulary]: in the prompt or chosen

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits float32 [rows, vocabulary] to 0 for the chosen token of each row and -inf for all others."""
        broken = scores.isnan().any(1).tolist()
        chosen = self._choose(scores)
        if self.seen is not None:
            self.seen.scatter_(1, chosen[:, None], True)
        wanted = self.sampling.logprobs
        logprobs = scores.log_softmax(1).gather(1, chosen[:, None])[:, 0].tolist() if wanted else [0.0] * len(broken)
        for answer, token, logprob, nan in zip(self.answers, chosen.tolist(), logprobs, broken, strict=True):
            if answer.finish is None:
                self._take(answer, token, logprob, nan)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)

    def done(self, input_ids: Tensor, scores: object) -> Tensor:
        """Which rows are finished, bool [rows]: a stopping criterion of transformers' generate."""
        return torch.tensor([one.finish is not None for one in self.answers], device=input_ids.device)

    def generations(self) -> list[Generation]:
        """The answer of each row."""
        return [self._generation(*one) for one in zip(self.prompts, self.answers, strict=True)]

    def _choose(self, scores: Tensor) -> Tensor:
        scores = self._penalised(scores)
        if not self.sampling.temperature:
            return scores.argmax(1)
        for warp in self.warps:
            scores = warp(None, scores)  # type: ignore[arg-type]
        noise = torch.ones_like(scores)
        for row, (answer, generator) in enumerate(zip(self.answers, self.generators, strict=True)):
            if answer.finish is None:
                noise[row].exponential_(generator=generator)
        return (scores - noise.clamp_min_(torch.finfo(noise.dtype).tiny).log_()).argmax(1)

    def _penalised(self, scores: Tensor) -> Tensor:
        """Logits of tokens that were there before, made less likely. Keskar et al. (2019), CTRL."""
        penalty = self.sampling.repetition_penalty
        if penalty == 1:
            return scores
        if self.seen is None:
            self.seen = torch.zeros_like(scores, dtype=torch.bool)
            for row, prompt in enumerate(self.prompts):
                self.seen[row, torch.tensor(prompt.ids, device=scores.device)] = True
        return torch.where(self.seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)

    def _take(self, answer: _Answer, token: int, logprob: float, broken: bool) -> None:
        answer.made += 1
        if broken:
            answer.finish, answer.failure = "stop", "the model gives NaN: take dtype float32"
        elif token in self.ends:
            answer.finish = "stop"
        else:
            answer.tokens.append(token)
            answer.logprobs.append(logprob)
            if self.sampling.stop and first_stop(self.reader.decode(answer.tokens[-self.tail :]), self.sampling.stop):
                answer.finish = "stop"
            elif answer.made == self.sampling.max_tokens:
                answer.finish = "length"

    def _generation(self, prompt: Prompt, answer: _Answer) -> Generation:
        text, logprobs = self.reader.decode(answer.tokens), None
        stop = first_stop(text, self.sampling.stop)
        if stop:
            text = text[: text.index(stop)]
        if self.sampling.logprobs:
            logprobs = answer.logprobs[: self.reader.kept(answer.tokens, text) if stop else None]
        finish = "stop" if stop else answer.finish
        return Generation(prompt.whole(text), len(prompt.ids), answer.made, finish, logprobs, answer.failure)


def warps(sampling: Sampling) -> list[LogitsProcessor]:
    """What makes logits those that are sampled from, in transformers' order; nothing where the likeliest is taken."""
    if not sampling.temperature:
        return []
    found: list[LogitsProcessor] = [TemperatureLogitsWarper(float(sampling.temperature))]
    if sampling.top_k:
        found.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        found.append(TopPLogitsWarper(sampling.top_p))
    return found


def first_stop(text: str, stops: Sequence[str]) -> str | None:
    """The stop string that comes first in a text."""
    return min((one for one in stops if one in text), key=text.index, default=None)
