"""The store of generations: answers looked up and written per second: `python scripts/bench/store.py [folder] [answers] 2>/dev/null`.

Medians of three rounds, each on a store of its own in `folder`. A lookup is measured as a recipe makes it, through
Asker (requests and keys made, answers read), and alone, by keys in an order of chance. The model says 100 words. The
last column is a second of this process's processor time, which other work on the machine changes less.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrieval.asking import Asker
from retrieval.environment import hardware
from retrieval.sampling import Request, Sampling
from retrieval.store import GenerationStore, key, plain
from retrieval.types import Generation

ROUNDS, BAR = 3, 20_000
SAMPLING = Sampling(max_tokens=128, temperature=0.7, stop=["\n\n"])
CONTRACT = {"model": "words", "revision": "0" * 40, "backend": "none", "version": "1"}
SYSTEM = "You write a short passage that answers the question. " * 4


class Words:
    """Answers every request with the same hundred words."""

    def contract(self) -> dict[str, str]:
        """Plain values."""
        return CONTRACT

    def generate(self, requests: Any) -> Any:
        """At once."""
        return enumerate([Generation("a passage of words " * 25, 120, 100, "stop")] * len(requests))


def chats(count: int) -> list[list[dict[str, str]]]:
    """Prompts of a system turn and a question."""
    return [
        [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"Question {number}: what do otters eat?"}]
        for number in range(count)
    ]


def per_second(count: int, work: Callable[[], Any]) -> tuple[float, float]:
    """How many a second, and how many a second of processor time, which other work on the machine changes less."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return count / (time.perf_counter() - started), count / (time.process_time() - used)


def measured(folder: Path, count: int) -> dict[str, tuple[float, float]]:
    """One round, on an empty store."""
    os.environ["RETRIEVAL_CACHE"] = str(folder)
    asked = chats(count)

    def ask() -> None:
        asker = Asker(Words(), SAMPLING)
        assert len(asker.ask(asked, lambda _, text: text, "")) == count
        calls.append(asker.calls)

    calls: list[int] = []
    found = {"written, through Asker": per_second(count, ask), "looked up, through Asker": per_second(count, ask)}
    assert calls == [count, 0]
    contract = plain(CONTRACT)
    keys: list[bytes] = []
    made = per_second(count, lambda: keys.extend(key(contract, Request(chat, None, SAMPLING)) for chat in asked))
    random.Random(0).shuffle(keys)
    store = GenerationStore()
    found |= {"requests and keys alone": made, "looked up, find alone": per_second(count, lambda: store.find(keys))}
    found["exported"] = per_second(count, lambda: store.export(folder / "all.jsonl"))
    other = GenerationStore(folder / "other.sqlite")
    found["loaded"] = per_second(count, lambda: other.load(folder / "all.jsonl"))
    print(
        f"  {store.path.stat().st_size / 2**20:.0f} MiB",
        *(f"{what} {rate:,.0f}" for what, (rate, _) in found.items()),
        sep="  ",
    )
    store.close(), other.close()
    return found


def compare(folder: Path, count: int) -> None:
    """All rounds, and what they say."""
    versions = {"sqlite": sqlite3.sqlite_version, "pyarrow": importlib.metadata.version("pyarrow")}
    print(f"{datetime.date.today()}  {hardware()}\n{versions}\n{count:,} answers")
    rounds = []
    for number in range(ROUNDS):
        (folder / str(number)).mkdir()
        rounds.append(measured(folder / str(number), count))
    print(f"{'a second':26}{'median':>10}{'from - to':>22}{'of processor time':>20}")
    for what in rounds[0]:
        rates, used = zip(*(one[what] for one in rounds), strict=True)
        bar = f"  bar {BAR:,}" if what.startswith("looked up") else ""
        spread = f"{min(rates):,.0f} - {max(rates):,.0f}"
        print(f"{what:26}{statistics.median(rates):10,.0f}{spread:>22}{statistics.median(used):20,.0f}{bar}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as within:
        compare(Path(within), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)
