"""What language models have answered, kept by content: asked again, the same question finds the same answer.

A key is the SHA-256 of the model's contract and the request. The file is SQLite in WAL mode, on a local disk: several
processes may write, and whoever is killed loses only what was not answered yet. Nothing is ever changed or deleted.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrieval.columns import lines, whole_text
from retrieval.files import whole_file
from retrieval.locate import cache_folder
from retrieval.sampling import Request
from retrieval.types import Generation

__all__ = ["USED", "GenerationStore", "key", "plain", "read_keys", "used_answers", "write_keys"]

USED = "generations.keys"  # beside results: the answers that they were made with

VERSION = 1  # of these tables, in the file's user_version
# Answers in the order they came, so that long prompts do not lie between the keys; what is looked up stands first.
TABLES = (
    "create table models (id text primary key, contract text not null) without rowid",
    "create table generations (key blob primary key, text text not null, tokens_in integer not null,"
    " tokens_out integer not null, finish_reason text, logprobs text, seconds real not null, at real not null,"
    " model text not null, request text not null)",
    "create table failures (key blob, model text, request text, failure text, seconds real, at real)",
    "create table hits (model text, hits integer, at real)",
)
COLUMNS = ("text", "tokens_in", "tokens_out", "finish_reason", "logprobs", "seconds", "at")
ANSWER = ", ".join(COLUMNS[:5])
INSERT = f"insert or ignore into generations values ({', '.join('?' * (len(COLUMNS) + 3))})"
PATIENCE = 60.0  # seconds that a write waits for those of other processes
TOGETHER = 500  # keys looked up in one query
MAPPED = 2**30  # bytes of the file that are read without copying
OTHER = "move it away, or let RETRIEVAL_CACHE name another folder"

_recorders: list[set[bytes]] = []  # of used_answers, innermost last
_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def plain(values: Any) -> str:
    """Plain values as one line of JSON, the same for equal ones."""
    return _json(values)


def key(contract: str, request: Request) -> bytes:
    """The name of an answer; `contract` is the model's, as `plain` writes it."""
    return _key(contract, plain(request.about()))


@contextmanager
def used_answers() -> Iterator[set[bytes]]:
    """The keys of the answers that the block finds or keeps, in whichever store."""
    used: set[bytes] = set()
    _recorders.append(used)
    try:
        yield used
    finally:
        _recorders.pop()


def write_keys(keys: Iterable[bytes], path: Path) -> None:
    """Keys in a file, one a line, in order."""
    with whole_file(path) as part:
        part.write_text("".join(f"{one.hex()}\n" for one in sorted(keys)), encoding="ascii")


def read_keys(path: Path) -> list[bytes]:
    """What `write_keys` wrote. Raises ValueError with the line that is no key."""
    found = []
    for number, line in lines(path):
        try:
            found.append(bytes.fromhex(line.decode().strip()))
        except ValueError:
            raise ValueError(
                f"{path}:{number}: no key of a generation, which is a line of hexadecimal digits"
            ) from None
    return found


class GenerationStore:
    """Answers in a file, which the first use makes. Close it after use; each process and thread needs its own.

    Raises ValueError where the file is no such store, OSError where it cannot be read or written.
    """

    def __init__(self, path: Path | None = None):
        """None is generations.sqlite in the cache folder."""
        self.path = Path(path) if path else cache_folder() / "generations.sqlite"
        self._connection: sqlite3.Connection | None = None

    def find(self, keys: Sequence[bytes]) -> dict[bytes, tuple[Generation, float]]:
        """The answers that are kept, by key, and the seconds each took. Failures are asked for again."""
        found: dict[bytes, tuple[Generation, float]] = {}
        keys = sorted(keys)  # neighbours in the file's index
        with self._opened() as connection:
            for start in range(0, len(keys), TOGETHER):
                some = keys[start : start + TOGETHER]
                asked = f"select key, seconds, {ANSWER} from generations where key in ({','.join('?' * len(some))})"
                for row in connection.execute(asked, some):
                    found[row[0]] = _generation(*row[2:]), row[1]
        _note_used(found)
        return found

    def keep(self, contract: str, request: Request, generation: Generation, seconds: float) -> Generation:
        """Write down one answer, or a failure, before returning; the answer as it is found from now on.

        That is the first to its question, also where another process was faster. A killed process has lost nothing that
        was kept; a machine without power may lose the latest.
        """
        model, asked, now = _name(contract), plain(request.about()), time.time()
        name, text = _key(contract, asked), _whole(generation.text)
        with self._opened() as connection, connection:
            connection.execute("insert or ignore into models values (?, ?)", (model, contract))
            if generation.failure is not None:
                failed = (name, model, asked, _whole(generation.failure), seconds, now)
                connection.execute("insert into failures values (?, ?, ?, ?, ?, ?)", failed)
                return generation
            logprobs = None if generation.logprobs is None else json.dumps([float(one) for one in generation.logprobs])
            answer = (text, int(generation.tokens_in), int(generation.tokens_out), generation.finish_reason, logprobs)
            new = connection.execute(INSERT, (name, *answer, float(seconds), now, model, asked)).rowcount
        _note_used([name])
        return _generation(*answer) if new else self.find([name])[name][0]

    def note(self, contract: str, hits: int) -> None:
        """Count answers that were used again, for the statistics."""
        with self._opened() as connection, connection:
            connection.execute("insert into hits values (?, ?, ?)", (_name(contract), hits, time.time()))

    def export(self, path: Path, keys: Collection[bytes] | None = None) -> int:
        """Write answers as JSON lines, each with the contract of its model, gzipped for .gz; how many there are.

        `keys` are those of the answers to write; None writes all.
        """
        count = 0
        with whole_text(Path(path)) as file:
            for record in self._records(None if keys is None else frozenset(keys)):
                file.write(f"{plain(record)}\n".encode())
                count += 1
        return count

    def load(self, path: Path) -> int:
        """Take in what `export` wrote; how many answers were new. Raises ValueError with file and line, taking none."""
        new = 0
        with self._opened() as connection, connection:
            for number, line in lines(Path(path)):
                contract, asked, answer = _exported(line, f"{path}:{number}")
                model = _name(contract)
                connection.execute("insert or ignore into models values (?, ?)", (model, contract))
                new += connection.execute(INSERT, (_key(contract, asked), *answer, model, asked)).rowcount
        return new

    def statistics(self) -> list[dict[str, Any]]:
        """Of each model: its contract, answers, failures, hits, tokens in and out, and seconds, failures' included."""
        with self._opened() as connection:
            models = connection.execute("select id, contract from models order by contract").fetchall()
            answers = _sums(connection, "generations", "count(*), sum(tokens_in), sum(tokens_out), sum(seconds)")
            failures = _sums(connection, "failures", "count(*), sum(seconds)")
            hits = _sums(connection, "hits", "sum(hits)")
        found = []
        for model, contract in models:
            count, tokens_in, tokens_out, seconds = answers.get(model, (0, 0, 0, 0.0))
            failed, lost = failures.get(model, (0, 0.0))
            counts = {"answers": count, "failures": failed, "hits": hits.get(model, (0,))[0]}
            tokens = {"tokens in": tokens_in, "tokens out": tokens_out, "seconds": seconds + lost}
            found.append({"model": json.loads(contract), **counts, **tokens})
        return found

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _records(self, keys: frozenset[bytes] | None) -> Iterator[dict[str, Any]]:
        columns = f"key, contract, request, {', '.join(COLUMNS)}"
        with self._opened() as connection:
            rows = connection.execute(f"select {columns} from generations join models on model = id order by key")
            for name, contract, asked, *answer in rows:
                if keys is not None and name not in keys:
                    continue
                record = dict(zip(COLUMNS, answer, strict=True))
                record["logprobs"] = None if record["logprobs"] is None else json.loads(record["logprobs"])
                yield {"model": json.loads(contract), "request": json.loads(asked), **record}

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._connection is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = _connected(self.path)
            yield self._connection
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
                raise ValueError(f"{self.path} is no store of generations; {OTHER}") from None
            raise OSError(
                f"{self.path} cannot be read and written as a store of generations ({error}); {OTHER}"
            ) from error


def _connected(path: Path) -> sqlite3.Connection:
    """The store, made where there is none. Raises ValueError for other tables than these."""
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level="IMMEDIATE")
    try:
        if not _version(connection, path):
            with connection:
                connection.execute("begin immediate")
                if not _version(connection, path):  # no other process was faster
                    for table in TABLES:
                        connection.execute(table)
                    connection.execute(f"pragma user_version={VERSION}")
        _write_ahead(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection, path: Path) -> int:
    count = "select count(*) from sqlite_master where type = 'table'"  # in one statement: others may be making them
    version, tables = connection.execute(f"select user_version, ({count}) from pragma_user_version").fetchone()
    if (version, tables) not in ((0, 0), (VERSION, len(TABLES))):
        raise ValueError(
            f"{path} is another database, or a store of generations of another version ({version}, and {VERSION} is "
            f"read here): export it with the version that wrote it and load that, or {OTHER}"
        )
    return version


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turn WAL mode on, which SQLite refuses without waiting where another process is at it."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("pragma journal_mode=wal")
            connection.execute("pragma synchronous=normal")
            connection.execute(f"pragma mmap_size={MAPPED}")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _sums(connection: sqlite3.Connection, table: str, sums: str) -> dict[str, tuple]:
    return {model: rest for model, *rest in connection.execute(f"select model, {sums} from {table} group by model")}


def _note_used(keys: Iterable[bytes]) -> None:
    for recorder in _recorders:
        recorder.update(keys)


def _name(contract: str) -> str:
    return hashlib.sha256(contract.encode()).hexdigest()[:16]


def _key(contract: str, asked: str) -> bytes:
    return hashlib.sha256(f"{contract}\n{asked}".encode()).digest()


def _whole(text: str) -> str:
    """The text with U+FFFD for each half of a character, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _generation(
    text: str, tokens_in: int, tokens_out: int, finish_reason: str | None, logprobs: str | None
) -> Generation:
    return Generation(text, tokens_in, tokens_out, finish_reason, None if logprobs is None else json.loads(logprobs))


def _exported(line: bytes, where: str) -> tuple[str, str, tuple]:
    """Contract, request and answer of a line. Raises ValueError for what `export` does not write."""
    try:
        record = json.loads(line)
        plain(record).encode()  # a half of a character is an error too
    except ValueError as error:
        raise ValueError(f"{where}: not JSON ({error}); nothing was loaded") from None
    wrong = _wrong(record)
    if wrong:
        raise ValueError(f"{where}: no exported generation ({wrong}); nothing was loaded")
    try:
        asked = plain(Request.of(record["request"]).about())
    except ValueError as error:
        raise ValueError(f"{where}: no exported generation (request: {error}); nothing was loaded") from None
    logprobs = None if record["logprobs"] is None else json.dumps(record["logprobs"])
    answer = [logprobs if column == "logprobs" else record[column] for column in COLUMNS]
    return plain(record["model"]), asked, tuple(answer)


def _wrong(record: Any) -> str | None:
    names = ("model", "request", *COLUMNS)
    if not isinstance(record, Mapping) or set(record) != set(names):
        has = isinstance(record, Mapping) and ", ".join(map(str, record))
        return f"it has {has or 'no keys'}, not {', '.join(names)}"
    number, words = int | float, {"logprobs": list | None, "finish_reason": str | None, "text": str}
    kinds = {"model": dict, "request": dict, "tokens_in": int, "tokens_out": int, "seconds": number, "at": number}
    off = [name for name, kind in {**words, **kinds}.items() if not isinstance(record[name], kind)]
    if not off and not all(isinstance(one, number) for one in record["logprobs"] or ()):
        off = ["logprobs"]
    off = off or [name for name in ("tokens_in", "tokens_out") if not 0 <= record[name] < 2**63]
    return f"{off[0]} is {str(record[off[0]])[:40]!r}" if off else None
