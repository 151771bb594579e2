"""What language models have answered, kept by content: asked again, the same question finds the same answer.

A key is the SHA-256 of the model's contract and the request. The file is SQLite in WAL mode: several processes may
write, and whoever is killed loses only what was not answered yet. Nothing is ever changed or deleted.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrieval.columns import lines
from retrieval.files import whole_file
from retrieval.sampling import Request
from retrieval.types import Generation

__all__ = ["GenerationStore", "key"]

TABLES = """
create table if not exists models (id text primary key, contract text not null) without rowid;
create table if not exists generations (
    key blob primary key, model text not null, request text not null, text text not null, tokens_in integer not null,
    tokens_out integer not null, finish_reason text, logprobs text, seconds real not null, at real not null
) without rowid;
create table if not exists failures (key blob, model text, request text, failure text, seconds real, at real);
"""
PATIENCE = 60.0  # seconds that a write waits for those of other processes
TOGETHER = 500  # keys looked up in one query
INSERT = "insert or ignore into generations values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
COLUMNS = "text, tokens_in, tokens_out, finish_reason, logprobs"


def key(contract: str, request: Request) -> bytes:
    """The name of an answer; `contract` is the model's, as `plain` writes it."""
    return hashlib.sha256(f"{contract}\n{plain(request.about())}".encode()).digest()


def plain(values: Any) -> str:
    """Plain values as one line, the same for equal ones."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


class GenerationStore:
    """Answers in a file that is made when the first is kept."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = None

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Generation]:
        """The answers that are kept, by key. Failures are not answers: they are asked for again."""
        if not self.path.is_file():
            return {}
        found: dict[bytes, Generation] = {}
        for start in range(0, len(keys), TOGETHER):
            some = keys[start : start + TOGETHER]
            marks = ",".join("?" * len(some))
            rows = self._open().execute(f"select key, {COLUMNS} from generations where key in ({marks})", some)
            found.update((row[0], _generation(row[1:])) for row in rows)
        return found

    def keep(self, contract: str, request: Request, generation: Generation, seconds: float) -> None:
        """Write one answer, or a failure, down to the disk. The first answer to a question stays."""
        model = hashlib.sha256(contract.encode()).hexdigest()[:16]
        name, asked = key(contract, request), plain(request.about())
        with self._open() as connection:
            connection.execute("insert or ignore into models values (?, ?)", (model, contract))
            if generation.failure is not None:
                failed = (name, model, asked, generation.failure, seconds, time.time())
                connection.execute("insert into failures values (?, ?, ?, ?, ?, ?)", failed)
                return
            logprobs = None if generation.logprobs is None else json.dumps(list(generation.logprobs))
            counts = (generation.tokens_in, generation.tokens_out, generation.finish_reason, logprobs)
            row = (name, model, asked, generation.text, *counts, seconds, time.time())
            connection.execute(INSERT, row)

    def export(self, path: Path) -> int:
        """Write all answers as JSON lines, each with the contract of its model; how many there are."""
        with whole_file(Path(path)) as part, open(part, "w", encoding="utf-8") as file:
            count = 0
            for record in self._records():
                file.write(plain(record) + "\n")
                count += 1
        return count

    def load(self, path: Path) -> int:
        """Take in what `export` wrote; how many answers were new. Raises ValueError with file and line, taking none."""
        rows = list(_rows(Path(path)))
        with self._open() as connection:
            models = {model: contract for model, contract, _ in rows}
            connection.executemany("insert or ignore into models values (?, ?)", models.items())
            before = connection.total_changes
            connection.executemany(INSERT, (row for _, _, row in rows))
            return connection.total_changes - before

    def statistics(self) -> list[dict[str, Any]]:
        """Of each model: its contract, answers, failures, tokens in and out, and seconds."""
        if not self.path.is_file():
            return []
        connection = self._open()
        failed = dict(connection.execute("select model, count(*) from failures group by model"))
        sums = "count(*), sum(tokens_in), sum(tokens_out), sum(seconds)"
        rows = {row[0]: row[1:] for row in connection.execute(f"select model, {sums} from generations group by model")}
        names = ("answers", "tokens in", "tokens out", "seconds")
        return [
            {"model": json.loads(contract), "failures": failed.get(model, 0)}
            | dict(zip(names, rows.get(model, (0, 0, 0, 0.0)), strict=True))
            for model, contract in connection.execute("select id, contract from models order by id")
        ]

    def _records(self) -> Iterator[dict[str, Any]]:
        if not self.path.is_file():
            return
        rows = self._open().execute(
            f"select contract, request, {COLUMNS}, seconds, at from generations join models on model = id order by key"
        )
        for contract, request, *answer, seconds, at in rows:
            kept = asdict(_generation(answer))
            del kept["failure"]
            yield {"model": json.loads(contract), "request": json.loads(request), **kept, "seconds": seconds, "at": at}

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=PATIENCE, check_same_thread=False)
            connection.execute("pragma journal_mode=wal")
            connection.execute("pragma synchronous=normal")
            connection.executescript(TABLES)
            self._connection = connection
        return self._connection


def _generation(row: Sequence[Any]) -> Generation:
    text, tokens_in, tokens_out, finish_reason, logprobs = row
    return Generation(text, tokens_in, tokens_out, finish_reason, None if logprobs is None else json.loads(logprobs))


def _rows(path: Path) -> Iterable[tuple[str, str, tuple]]:
    for number, line in lines(path):
        try:
            record: Mapping[str, Any] = json.loads(line)
            contract, asked = plain(record["model"]), plain(record["request"])
            logprobs = None if record["logprobs"] is None else json.dumps(record["logprobs"])
            counts = (record["tokens_in"], record["tokens_out"], record["finish_reason"], logprobs)
            answer = (record["text"], *counts, record["seconds"], record["at"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not an exported generation ({error!r})") from None
        model = hashlib.sha256(contract.encode()).hexdigest()[:16]
        name = hashlib.sha256(f"{contract}\n{asked}".encode()).digest()
        yield model, contract, (name, model, asked, *answer)
