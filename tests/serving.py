"""Servers on the loopback address: one that answers as told, a real one, and one before it that injects faults."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

Reply = tuple[int, dict[str, str], Any]  # status, headers, and a body: bytes, or what becomes JSON
FAULTS = ("429", "500", "time-out")


class _Http(ThreadingHTTPServer):
    request_queue_size = 128


class Server:
    """Serves a function of path and body; `answers` are taken before it: a Reply, or a change of what it gives."""

    def __init__(self, give: Callable[[str, Any], Any]):
        self.give, self.lock = give, threading.Lock()
        self.answers: list[Any] = []
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.times: list[float] = []
        self.at_once = self.most_at_once = 0
        self.slow = 0.0
        self.http = _Http(("127.0.0.1", 0), _handler(self.answer))
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, path: str, headers: dict[str, str], body: Any) -> Reply:
        """What the next request is answered; None breaks the connection."""
        with self.lock:
            self.requests.append((path, headers, body))
            self.times.append(time.monotonic())
            given = self.answers.pop(0) if self.answers else None
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.slow)
        with self.lock:
            self.at_once -= 1
        if isinstance(given, tuple):
            return given
        whole = self.give(path, body)
        return 200, {"Content-Type": "application/json"}, given(whole) if given else whole

    def close(self) -> None:
        """Takes no more connections."""
        self.http.shutdown()
        self.http.server_close()


class Proxy:
    """Passes requests on to a server, but for a share that it answers 429 or 500, or not before the client gives up.

    What is timed out was passed on as well: the server has done the work, and its answer is lost.
    """

    def __init__(self, url: str, share: float, seed: int):
        self.behind, self.share, self.random = url, share, random.Random(seed)
        self.lock, self.over = threading.Lock(), threading.Event()
        self.injected: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()  # prompts, by how often an answer to them was passed back
        self.at_once = self.most_at_once = 0
        self.http = _Http(("127.0.0.1", 0), _handler(self.answer))
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, path: str, headers: dict[str, str], body: Any) -> Reply | None:
        """The server's answer, or a fault."""
        with self.lock:
            fault = self.random.choice(FAULTS) if self.random.random() < self.share else None
            self.injected.update([fault] if fault else [])
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        reply = self._passed(path, body, fault)
        with self.lock:
            self.at_once -= 1  # a request that times out is over here, whenever the client gives it up
        if reply is None:
            self.over.wait()
        return reply

    def _passed(self, path: str, body: Any, fault: str | None) -> Reply | None:
        if fault in ("429", "500"):
            return int(fault), {"Retry-After": "0"} if fault == "429" else {}, {"error": {"message": "injected"}}
        found = requests.post(self.behind + path.removeprefix("/v1"), json=body, timeout=120)
        if fault:
            return None
        with self.lock:
            self.delivered.update([json.dumps(body["messages"])] if found.status_code == 200 else [])
        return found.status_code, {"Content-Type": "application/json"}, found.content

    def close(self) -> None:
        """Lets those go that wait, and takes no more connections."""
        self.over.set()
        self.http.shutdown()
        self.http.server_close()


@contextmanager
def transformers_serve(model: Path, home: Path, patience: float = 300) -> Iterator[str]:
    """The URL of `transformers serve` with a model, in a process of its own; `home` is for the files it makes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (home / "hub").mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).parent / "transformers"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with open(home / "log", "wb") as log:
        server = subprocess.Popen([*command, "--device", "cpu", str(model)], env=environment, stdout=log, stderr=log)
    try:
        _wait_until_up(f"http://127.0.0.1:{port}/health", server, home / "log", patience)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_up(url: str, server: subprocess.Popen[bytes], log: Path, patience: float) -> None:
    until = time.monotonic() + patience
    while time.monotonic() < until and server.poll() is None:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    raise RuntimeError(f"transformers serve does not come up: {log.read_text(errors='replace')[-2000:]}")


def _handler(answer: Callable[[str, dict[str, str], Any], Reply | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = answer(self.path, dict(self.headers), body)
            if reply is None or reply[2] is None:
                return
            status, headers, given = reply
            data = given if isinstance(given, bytes) else json.dumps(given).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            try:
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                pass

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
