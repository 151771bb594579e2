"""Vectors from a server that speaks OpenAI's embeddings API: OpenAI, vLLM, TEI, Ollama, llama.cpp ..."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from retrieval.http_api import HttpApi
from retrieval.types import Dense

__all__ = ["Api"]

_COUNTING = threading.Lock()  # not one an encoder: it is sent to other processes


class Api:
    """Single vectors from a server: POST {url}/embeddings, as OpenAI has it."""

    def __init__(
        self,
        url: str,
        model: str,
        dimensions: int,
        key_variable: str | None = "OPENAI_API_KEY",
        query_prompt: str = "",
        doc_prompt: str = "",
        normalize: bool = False,
        shorten: bool = False,
        max_chars: int | None = None,
        batch: int = 64,
        concurrency: int = 8,
        timeout: float = 60,
        retries: int = 6,
        backoff: float = 0.5,
    ):
        """`dimensions` is what the server gives, and is checked; `shorten` asks it for that many (Matryoshka models).

        `key_variable` names the environment variable with the key, which is read when a request is sent and kept
        nowhere; where it is not set, or None, no key is sent. A request holds `batch` texts, and `concurrency` of them
        are under way at once, each tried again as HttpApi says. `max_chars` cuts texts, prompt included. An empty text
        is not sent: its vector is 0.
        """
        self.http = HttpApi(url, key_variable, concurrency, timeout, retries, backoff)
        _refuse_below_one(dimensions=dimensions, max_chars=max_chars, batch=batch)
        self.url, self.model, self.dimensions = self.http.url, model, dimensions
        self.query_prompt, self.doc_prompt, self.max_chars = query_prompt, doc_prompt, max_chars
        self.normalize, self.shorten, self.batch, self.concurrency = normalize, shorten, batch, concurrency
        self.tokens = 0  # that the server has counted so far

    def encode_queries(self, texts: Sequence[str]) -> Dense:
        """Vectors float32 [texts, dimensions]."""
        return self._encode([self.query_prompt + text for text in texts], "queries")

    def encode_docs(self, texts: Sequence[str]) -> Dense:
        """Vectors float32 [texts, dimensions]."""
        return self._encode([self.doc_prompt + text for text in texts], "documents")

    def contract(self) -> Mapping[str, Any]:
        """What is known of what determines the vectors; what only queries depend on is under `queries`."""
        return {
            "encoder": "api",
            "url": self.url,
            "model": self.model,
            "dimensions": self.dimensions,
            "shorten": self.shorten,
            "normalize": self.normalize,
            "max_chars": self.max_chars,
            "prompt": self.doc_prompt,
            "queries": {"prompt": self.query_prompt},
        }

    def provenance(self) -> dict[str, Any]:
        """The contract and what was paid for, for the manifest."""
        return {**self.contract(), "tokens": self.tokens}

    def _encode(self, texts: list[str], what: str) -> Dense:
        cut = sum(len(text) > self.max_chars for text in texts) if self.max_chars else 0
        asked = [text[: self.max_chars] for text in texts]
        kinds = [text for text in dict.fromkeys(asked) if text]  # each once: it is paid for
        place = {"": len(kinds), **{text: i for i, text in enumerate(kinds)}}
        vectors = np.zeros((len(kinds) + 1, self.dimensions), np.float32)
        starts = range(0, len(kinds), self.batch)
        with (
            ThreadPoolExecutor(self.concurrency) as pool,
            tqdm(total=len(kinds), desc=what, unit=" texts", disable=len(kinds) < 256) as bar,
        ):
            try:
                for start, found in zip(
                    starts, pool.map(lambda at: self._ask(kinds[at : at + self.batch]), starts), strict=True
                ):
                    vectors[start : start + len(found)] = found
                    bar.update(len(found))
            finally:
                pool.shutdown(cancel_futures=True)  # after a failure nothing more is sent, nor paid for
        return Dense(vectors[[place[text] for text in asked]] if texts else vectors[:0], cut)

    def _ask(self, texts: list[str]) -> np.ndarray:
        """float32 [texts, dimensions] from one request. Raises ValueError for an answer that does not fit."""
        body = {"model": self.model, "input": texts, "encoding_format": "float"}
        answer = self.http.post("embeddings", {**body, "dimensions": self.dimensions} if self.shorten else body)
        found = _vectors(answer, len(texts), self.dimensions, self.url)
        broken = np.flatnonzero(~np.isfinite(found).all(1))
        if len(broken):
            raise ValueError(f"{self.url} gives NaN or infinity for {texts[broken[0]][:60]!r}")
        with _COUNTING:
            self.tokens += int((answer.get("usage") or {}).get("prompt_tokens") or 0)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.where(lengths > 0, lengths, 1) if self.normalize else found


def _vectors(answer: dict[str, Any], count: int, dimensions: int, url: str) -> np.ndarray:
    """float32 [count, dimensions] in the order of the request, whatever that of the answer."""
    data = answer.get("data")
    if not isinstance(data, list) or len(data) != count:
        raise ValueError(f"{url} gives {len(data) if isinstance(data, list) else 'no'} vectors for {count} texts")
    try:
        order = [one["index"] for one in data]
        rows = [one["embedding"] for one in data]
    except (KeyError, TypeError):
        raise ValueError(
            f"{url} gives vectors without `index` or `embedding`: it does not speak OpenAI's API"
        ) from None
    if sorted(order) != list(range(count)):
        raise ValueError(f"{url} gives vectors of the texts {sorted(order)[:9]} ..., asked for 0 to {count - 1}")
    wide = next((row for row in rows if not isinstance(row, list) or len(row) != dimensions), None)
    if wide is not None:
        found = f"{len(wide)} dimensions" if isinstance(wide, list) else f"a {type(wide).__name__}"
        raise ValueError(f"{url} gives {found} for a vector, and dimensions is {dimensions}")
    vectors = np.empty((count, dimensions), np.float32)
    vectors[order] = np.array(rows, np.float32)
    return vectors


def _refuse_below_one(**limits: int | None) -> None:
    for name, limit in limits.items():
        if limit is not None and limit < 1:
            raise ValueError(f"{name} is {limit}: it is at least 1")
