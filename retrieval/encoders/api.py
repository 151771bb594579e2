"""Vectors from a server that speaks OpenAI's embeddings API: OpenAI, vLLM, TEI, Ollama, llama.cpp ..."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from tqdm import tqdm

from retrieval.types import Dense

if TYPE_CHECKING:
    import requests

__all__ = ["Api"]

AGAIN = (408, 429, 500, 502, 503, 504)  # answers that may be others the next time


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
        nowhere; None sends no key. A request holds `batch` texts, and `concurrency` of them are under way at once.
        After 429, 5xx and what `timeout` (seconds) ended there are `retries` more tries: at once, then after 2, 4 ...
        times `backoff` seconds, or as Retry-After says. `max_chars` cuts texts, prompt included. An empty text is not
        sent: its vector is 0.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"url is http://host/path or https://host/path, such as https://api.openai.com/v1, not {url!r}"
            )
        if parts.username or parts.password or parts.query:
            raise ValueError(
                f"url of {parts.hostname} holds a user or a query, which would be written to manifests: "
                "give the key by key_variable"
            )
        _refuse_below_one(dimensions=dimensions, max_chars=max_chars, batch=batch, concurrency=concurrency)
        if timeout <= 0 or retries < 0 or backoff < 0:
            raise ValueError(f"timeout {timeout} is above 0, retries {retries} and backoff {backoff} are not below it")
        self.url, self.model, self.dimensions, self.key_variable = url.rstrip("/"), model, dimensions, key_variable
        self.query_prompt, self.doc_prompt, self.max_chars = query_prompt, doc_prompt, max_chars
        self.normalize, self.shorten, self.batch, self.concurrency = normalize, shorten, batch, concurrency
        self.timeout, self.retries, self.backoff = timeout, retries, backoff
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
        answer = self._post({"model": self.model, "input": texts, "encoding_format": "float"})
        found = _vectors(answer, len(texts), self.dimensions, self.url)
        broken = np.flatnonzero(~np.isfinite(found).all(1))
        if len(broken):
            raise ValueError(f"{self.url} gives NaN or infinity for {texts[broken[0]][:60]!r}")
        with _COUNTING:
            self.tokens += int((answer.get("usage") or {}).get("prompt_tokens") or 0)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.where(lengths > 0, lengths, 1) if self.normalize else found

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON that the server answers. Raises ConnectionError in one line, without the key."""
        import requests

        where, key = f"{self.url}/embeddings", self._key()
        body = {**body, "dimensions": self.dimensions} if self.shorten else body

        def signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if key:  # as a function, so that no .netrc has a say
                request.headers["Authorization"] = f"Bearer {key}"
            return request

        try:
            answer = self._session.post(where, json=body, auth=signed, timeout=self.timeout, allow_redirects=False)
        except requests.RequestException as error:
            reason = _line(getattr(error.args[0], "reason", None) or error, key)
            raise ConnectionError(f"{where} does not answer, {1 + self.retries} times asked: {reason}") from None
        if answer.status_code != 200:
            tried = f" after {1 + self.retries} tries" if answer.status_code in AGAIN else ""
            raise ConnectionError(f"{where} refuses ({answer.status_code}{tried}): {_line(_message(answer), key)}")
        return _json(answer, where)

    def _key(self) -> str | None:
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable)
        if not key:
            raise ValueError(
                f"{self.url} is asked with the key in {self.key_variable}, which is not set: "
                "set it, or key_variable: null for a server that takes none"
            )
        return key

    @cached_property
    def _session(self) -> requests.Session:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util.retry import Retry

        again = Retry(
            self.retries,
            status_forcelist=AGAIN,
            allowed_methods=None,  # POST too: asking for vectors changes nothing
            backoff_factor=self.backoff,
            raise_on_status=False,
        )
        session, adapter = requests.Session(), HTTPAdapter(pool_maxsize=self.concurrency, max_retries=again)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session


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


def _json(answer: requests.Response, where: str) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConnectionError(f"{where} answers no JSON object but {answer.text[:60]!r}: is the url that of an API?")
    return found


def _message(answer: requests.Response) -> str:
    """What the server says of an error, in any of the forms that servers have."""
    try:
        about = answer.json()
    except ValueError:
        return answer.text or answer.reason
    for name in ("error", "message", "detail"):
        about = about[name] if isinstance(about, dict) and about.get(name) else about
    return str(about)


def _line(message: object, key: str | None) -> str:
    line = " ".join(str(message).split())
    return (line.replace(key, "***") if key else line)[:300]


def _refuse_below_one(**limits: int | None) -> None:
    for name, limit in limits.items():
        if limit is not None and limit < 1:
            raise ValueError(f"{name} is {limit}: it is at least 1")
