"""Requests to a server that speaks one of OpenAI's APIs: tried again, at a pace, with a key that is kept nowhere."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests

__all__ = ["ApiError", "HttpApi"]

AGAIN = (None, 408, 429, 500, 502, 503, 504, *range(520, 600))  # none, or one that may be another the next time
LONGEST = 600.0  # seconds; a server that wants a longer wait is not waited for

_LOCK = threading.Lock()  # not one an object: encoders are sent to other processes
_JITTER = random.Random()  # its own, so that waits take nothing from seeded random numbers


class ApiError(ConnectionError):
    """Why there is no answer, in one line without the key; `status` is HTTP's, None where nothing came back."""

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None):
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class HttpApi:
    """POSTs JSON to a server, from several threads at once."""

    def __init__(
        self,
        url: str,
        key_variable: str | None = "OPENAI_API_KEY",
        concurrency: int = 16,
        timeout: float = 60,
        retries: int = 6,
        backoff: float = 0.5,
        requests_per_minute: int | None = None,
    ):
        """`key_variable` names the environment variable with the key, which is read when a request is sent and kept
        nowhere; where it is not set, or None, no key is sent.

        After 408, 429, 500, 502 to 504, 520 and above, a connection that broke and what `timeout` (seconds) ended there
        are `retries` more tries: each after `backoff` seconds, doubled each time, and up to as much again by chance, or
        as long as Retry-After says where that is longer. Tries are spread evenly over a minute where
        `requests_per_minute` says how many it may hold.
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
        if concurrency < 1 or (requests_per_minute is not None and requests_per_minute < 1):
            raise ValueError(
                f"concurrency is {concurrency} and requests_per_minute {requests_per_minute}: they are at least 1"
            )
        if timeout <= 0 or retries < 0 or backoff < 0:
            raise ValueError(f"timeout {timeout} is above 0, retries {retries} and backoff {backoff} are not below it")
        self.url, self.key_variable, self.concurrency = url.rstrip("/"), key_variable, concurrency
        self.timeout, self.retries, self.backoff = timeout, retries, backoff
        self.requests_per_minute = requests_per_minute
        self.repeated: Counter[str] = Counter()  # tries after the first, by what the one before came to
        self._next = 0.0  # when the next try may be sent, where there is a pace

    def post(self, path: str, body: dict[str, Any], stop: threading.Event | None = None) -> dict[str, Any]:
        """The JSON object that the server answers. `stop`, once set, ends waits and tries. Raises ApiError."""
        where, key, stop = f"{self.url}/{path}", self._key(), stop or threading.Event()
        wait = 0.0
        for tries in range(1, self.retries + 2):
            self._wait(wait, stop, where)
            self._wait(self._turn(), stop, where)
            try:
                return self._once(where, body, key, tries)
            except ApiError as error:
                wait = self._pause(error, tries)
                if error.status not in AGAIN or tries > self.retries or wait > LONGEST:
                    raise
                with _LOCK:
                    self.repeated[str(error.status or "no answer")] += 1
        raise AssertionError("the last try returns or raises")

    def _once(self, where: str, body: dict[str, Any], key: str | None, tries: int) -> dict[str, Any]:
        import requests

        def signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if key:  # as a function, so that no .netrc has a say
                request.headers["Authorization"] = f"Bearer {key}"
            return request

        try:
            answer = self._session.post(where, json=body, auth=signed, timeout=self.timeout, allow_redirects=False)
        except requests.RequestException as error:
            reason = _line(getattr(error.args[0], "reason", None) or error if error.args else error, key)
            raise ApiError(f"{where} does not answer, {tries} times asked: {reason}") from None
        status = answer.status_code
        if status != 200:
            tried = f" after {tries} tries" if status in AGAIN else ""
            reason = f"{_line(_message(answer), key)}{self._about_key(status, key)}"
            raise ApiError(f"{where} refuses ({status}{tried}): {reason}", status, _retry_after(answer))
        return _json(answer, where, key)

    def _key(self) -> str | None:
        """The key, without the end of line that a file of keys leaves."""
        key = os.environ.get(self.key_variable or "", "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError(f"the key in {self.key_variable} holds what no key does, such as blanks: set it anew")
        return key or None

    def _about_key(self, status: int, key: str | None) -> str:
        if status != 401:
            return ""
        if self.key_variable is None:
            return "; key_variable names no variable with a key: name one"
        return f"; the key is that in {self.key_variable}" if key else f"; {self.key_variable} is not set: set it"

    def _turn(self) -> float:
        """Seconds until the pace has room for a try, which is then taken."""
        if self.requests_per_minute is None:
            return 0.0
        with _LOCK:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + 60 / self.requests_per_minute
        return turn - now

    def _pause(self, error: ApiError, tries: int) -> float:
        """Seconds before the next try: longer each time, and not shorter than the server says."""
        own = min(self.backoff * 2 ** (tries - 1) * (1 + _JITTER.random()), LONGEST)
        return max(own, error.retry_after or 0.0)

    def _wait(self, seconds: float, stop: threading.Event, where: str) -> None:
        if stop.wait(seconds):
            raise ApiError(f"{where} is not asked any more: it did not answer before")

    @cached_property
    def _session(self) -> requests.Session:
        import requests
        from requests.adapters import HTTPAdapter

        session, adapter = requests.Session(), HTTPAdapter(pool_maxsize=self.concurrency)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds from the header Retry-After, which holds seconds or a date; None where there is none to be read."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util.retry import Retry

    given = answer.headers.get("Retry-After")
    try:
        return None if given is None else Retry().parse_retry_after(given)
    except InvalidHeader:
        return None


def _json(answer: requests.Response, where: str, key: str | None) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        start = _line(answer.text[:60], key)
        raise ApiError(f"{where} answers no JSON object but {start!r}: is the url that of an API?", 200)
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
