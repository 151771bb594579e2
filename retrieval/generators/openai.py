"""Answers from a server that speaks OpenAI's API: OpenAI, vLLM, SGLang, llama.cpp, Ollama, `transformers serve` ..."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from retrieval.http_api import ApiError, HttpApi
from retrieval.sampling import Request, Sampling
from retrieval.types import Generation

__all__ = ["OpenAI"]

Sent = Literal["temperature", "top_p", "top_k", "repetition_penalty", "seed"]

NEUTRAL: Mapping[str, float | None] = {
    "temperature": 1,
    "top_p": 1,
    "top_k": None,
    "repetition_penalty": 1,
    "seed": 0,
}
FORMAT = 2  # of texts, in the contract: answers of another are asked for again
FOR_ALL = (401, 402, 404, 405)  # what is wrong with every request, as is a redirect
BROKEN = ("content_filter", "error", "abort")  # ends of an answer that is none
GONE = 3  # so many requests in a row that no model answered, each after all its tries, and the server is gone


class OpenAI:
    """A model behind POST {url}/chat/completions, for messages, and {url}/completions, for prompts.

    Thoughts that the server gives apart from the answer stand before it, between <think> and </think>. Where it leaves
    them in the answer and the model's chat template has opened them, their first tag is missing, which cannot be known
    here: thoughts that were cut off then look like an answer. Let the server take them apart.
    """

    def __init__(
        self,
        model: str,
        url: str,
        key_variable: str | None = "OPENAI_API_KEY",
        concurrency: int = 16,
        requests_per_minute: int | None = None,
        timeout: float = 600,
        retries: int = 6,
        backoff: float = 0.5,
        sends: Sequence[Sent] = ("temperature", "top_p", "seed"),
        tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
    ):
        """`key_variable` names the environment variable with the key, which is read when a request is sent and kept
        nowhere; where it is not set, or None, no key is sent. `concurrency` requests are under way at once, each tried
        again as HttpApi says.

        `sends` are the parameters that the server takes. OpenAI has no top_k and no repetition_penalty, where vLLM and
        SGLang have both; its models that think take neither temperature nor top_p, and want `tokens_key`
        max_completion_tokens. What is not sent must have the value that changes nothing, a seed 0; several samples of
        a prompt are then as the server draws them.
        """
        unknown = next((name for name in sends if name not in NEUTRAL), None)
        if unknown is not None:
            raise ValueError(f"sends has {unknown!r}; it may have {', '.join(NEUTRAL)}")
        if tokens_key not in ("max_tokens", "max_completion_tokens"):
            raise ValueError(f"tokens_key is max_tokens or max_completion_tokens, not {tokens_key!r}")
        self.http = HttpApi(url, key_variable, concurrency, timeout, retries, backoff, requests_per_minute)
        self.model, self.sends, self.tokens_key = model, tuple(sends), tokens_key

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Generation]]:
        """The place of each request and its answer, as each comes.

        Raises ValueError for a parameter that is not sent, and for a server that refuses every request: 401, 402, 404,
        405, a redirect. Once several requests in a row got none but 408, 429, 5xx or no answer at all, those that
        remain are failures.
        """
        bodies = [self._body(one) for one in requests]
        call = _Call()
        with ThreadPoolExecutor(self.http.concurrency) as pool:
            places = {pool.submit(self._answer, body, call): place for place, body in enumerate(bodies)}
            try:
                for done in as_completed(places):
                    yield places[done], _writable(done.result())
            finally:  # whoever stops here pays for no more
                call.stop.set()
                pool.shutdown(cancel_futures=True)

    def contract(self) -> dict[str, Any]:
        """What is known of what determines an answer; a server does not say its revision."""
        return {
            "generator": "openai-compatible",
            "format": FORMAT,
            "url": self.http.url,
            "model": self.model,
            "sends": sorted(self.sends),
        }

    def _body(self, request: Request) -> dict[str, Any]:
        """The JSON to send."""
        sampling, chat = request.sampling, request.messages is not None
        self._refuse_ignored(sampling)
        values: dict[str, Any] = {name: getattr(sampling, name) for name in self.sends}
        if "seed" in values:
            values["seed"] = seed_of(sampling.seed, request.sample)
        if "top_k" in values:
            values["top_k"] = sampling.top_k or -1  # all tokens, where leaving it out means the server's own default
        if sampling.stop:
            values["stop"] = list(sampling.stop)
        if sampling.logprobs:
            values["logprobs"] = True if chat else 1  # of the one taken, and for a prompt also of the likeliest 1
        asked = {"messages": [dict(one) for one in request.messages or ()]} if chat else {"prompt": request.prompt}
        limit: dict[str, int] = {self.tokens_key if chat else "max_tokens": sampling.max_tokens}
        return {"model": self.model, **asked, **limit, **values}

    def _refuse_ignored(self, sampling: Sampling) -> None:
        for name, neutral in NEUTRAL.items():
            if name not in self.sends and getattr(sampling, name) != neutral:
                raise ValueError(
                    f"{name} {getattr(sampling, name)} is not sent to {self.http.url}: leave it at {neutral}, "
                    f"or name it under `sends` if the server takes it"
                )

    def _answer(self, body: dict[str, Any], call: _Call) -> Generation:
        try:
            answer = self.http.post("chat/completions" if "messages" in body else "completions", body, call.stop)
        except ApiError as error:
            call.note(error.status not in (None, 408, 429) and not 500 <= error.status < 600)
            if error.status in FOR_ALL or 300 <= (error.status or 0) < 400:
                hint = f"; check url and the model {self.model!r}" if error.status != 401 else ""
                raise ValueError(f"{error}{hint}") from None
            return Generation("", failure=str(error))
        call.note(True)
        return read(answer, "logprobs" in body)


class _Call:
    """What the requests of one call know of each other: when to stop."""

    def __init__(self) -> None:
        self.stop, self._missed, self._lock = threading.Event(), 0, threading.Lock()

    def note(self, answered: bool) -> None:
        """One request is over; too many in a row without an answer stop all."""
        with self._lock:
            self._missed = 0 if answered else self._missed + 1
            if self._missed >= GONE:
                self.stop.set()


class _Message(BaseModel):
    content: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None  # the same in other servers
    refusal: str | None = None


class _Token(BaseModel):
    logprob: float | None = None


class _Logprobs(BaseModel):
    content: list[_Token] | None = None  # of a chat
    token_logprobs: list[float | None] | None = None


class _Choice(BaseModel):
    finish_reason: str | None = None
    message: _Message | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def read(answer: Mapping[str, Any], logprobs: bool) -> Generation:
    """The generation in a server's JSON; thoughts that stand apart, as `reasoning_content` or `reasoning`, come first.

    A failure where it has no text, was refused or cut off by a filter, or lacks `logprobs` that were asked for.
    """
    try:
        found = _Answer.model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        said = f", and says {str(answer['error'])[:200]}" if answer.get("error") else ""
        return Generation("", failure=f"the answer is none of OpenAI's API ({where}: {first['msg']}){said}")
    choice, usage = found.choices[0], found.usage or _Usage()
    message = choice.message or _Message(content=choice.text)
    given = _given(choice.logprobs) if logprobs else None
    failure = _failure(choice.finish_reason, message, logprobs and given is None)
    tokens = (usage.prompt_tokens or 0, usage.completion_tokens or 0)
    text = f"{_thoughts(message)}{message.content or ''}"
    return Generation(text, *tokens, choice.finish_reason, given, failure)


def _thoughts(message: _Message) -> str:
    found = message.reasoning_content or message.reasoning
    return f"<think>{found}</think>" if found and isinstance(found, str) else ""


def _failure(finish_reason: str | None, message: _Message, lacking: bool) -> str | None:
    if message.refusal:
        return f"the model refused: {message.refusal[:200]}"
    if finish_reason in BROKEN:
        return f"the server broke the answer off ({finish_reason})"
    if message.content is None:
        return f"the answer has no content (finish_reason {finish_reason}): thoughts may need more max_tokens"
    return "the server gives no log-probabilities: ask without logprobs, or another server" if lacking else None


def _given(logprobs: _Logprobs | None) -> list[float] | None:
    if logprobs is None:
        return None
    every = logprobs.token_logprobs if logprobs.content is None else [one.logprob for one in logprobs.content]
    found = [one for one in every or () if one is not None]
    return None if every is None or len(found) < len(every) else found


def _writable(one: Generation) -> Generation:
    """Lone surrogates, which JSON can hold, are no text that could be written down."""
    text, failure = (
        (words or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace") for words in (one.text, one.failure)
    )
    return replace(one, text=text, failure=failure or None)


def seed_of(seed: int, sample: int) -> int:
    """In [0, 2^31): the seed itself for sample 0, for others moved by four bytes of the SHA-256 of their number."""
    moved = int.from_bytes(hashlib.sha256(str(sample).encode()).digest()[:4], "big") if sample else 0
    return (seed + moved) % 2**31
