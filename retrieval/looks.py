"""Every look at a test set is written down: how often it was measured on, by which verbs, and how many systems.

A ledger is RETRIEVAL_CACHE/looks/<name>.jsonl, one for each set of judgements over a corpus, whatever folder or split
they are in. It only grows: a recipe that is shown again is no new look, and to count from nothing is to delete the
file. What `retrieval.tune` and `retrieval.train` choose settings and checkpoints on is written down as a choice, all
else as a look, on whatever split; a split that was chosen on is no test of what was chosen.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from retrieval.collection import Collection
from retrieval.environment import is_first_process
from retrieval.files import digest
from retrieval.locate import cache_folder
from retrieval.types import Run

__all__ = ["choose_on", "ledger", "look", "told"]

DEPTH = 100  # results of each query by which two runs are the same system


def look(collection: Collection, split: str, verb: str, runs: Iterable[Run]) -> dict[str, Any]:
    """Write down that these runs were measured on a split; what has been seen of it so far, as plain values.

    Raises ValueError where the ledger is damaged.
    """
    return _write(collection, split, "look", verb, runs)


def choose_on(collection: Collection, split: str, verb: str, runs: Iterable[Run] = ()) -> dict[str, Any]:
    """Write down that a choice among these runs was made on a split; what has been seen of it so far."""
    return _write(collection, split, "choice", verb, runs)


def told(seen: dict[str, Any]) -> str:
    """What has been seen of a split, in a line beside its figures."""
    verbs = ", ".join(f"{verb} {count}" for verb, count in seen["by verb"].items())
    chosen = ", ".join(f"{verb} {count}" for verb, count in seen["choices"].items())
    systems = f"{seen['systems']} system{'s' * (seen['systems'] != 1)}"
    line = f"look {seen['looks']} at this test set, {systems} so far (looks by {verbs})"
    return line + f"; chosen on by {chosen}: no test of what was chosen there" * bool(chosen)


def ledger(collection: Collection, split: str) -> Path:
    """The file that counts the looks at a split, named after its documents and judgements."""
    judged = [collection.corpus.fingerprint, collection.qrels(split).to_dict()]
    return cache_folder() / "looks" / f"{digest(judged)}.jsonl"


def _write(collection: Collection, split: str, kind: str, verb: str, runs: Iterable[Run]) -> dict[str, Any]:
    """Add a line while no other process does, so that every look has a number of its own."""
    path = ledger(collection, split)
    entry = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": kind,
        "verb": verb,
        "collection": collection.name,
        "split": split,
        "systems": sorted({_system(run) for run in runs}),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        entries = [*_entries(file, path), entry]
        if is_first_process():  # of one job, one looks
            file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    return _seen(entries, path)


def _seen(entries: list[dict[str, Any]], path: Path) -> dict[str, Any]:
    looks = [one for one in entries if one["kind"] == "look"]
    return {
        "looks": len(looks),
        "systems": len({system for one in looks for system in one["systems"]}),
        "by verb": dict(Counter(one["verb"] for one in looks)),
        "choices": dict(Counter(one["verb"] for one in entries if one["kind"] == "choice")),
        "ledger": str(path),
    }


def _entries(file: IO[bytes], path: Path) -> Iterator[dict[str, Any]]:
    file.seek(0)
    for number, line in enumerate(file, 1):
        try:
            entry = json.loads(line)
            entry["kind"], entry["verb"], entry["systems"]
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{path}:{number}: this line is no look; delete it, or the file, which sets the count to nothing"
            ) from None
        yield entry


def _system(run: Run) -> str:
    """The same for runs that rank the same documents, by id, whatever their scores and the order of the queries."""
    top = run.top(DEPTH)
    lists = sorted(
        "\t".join([query, *top.docs.take(rows[rows >= 0])]) for query, rows in zip(top.query_ids, top.rows, strict=True)
    )
    return hashlib.sha256("\n".join(lists).encode()).hexdigest()[:16]
