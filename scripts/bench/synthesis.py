"""Yield of the parser, retries, kill and resume of graded passages: `python -m scripts.bench.synthesis [queries]`.

Two models, made here: the tests' chat model, a Llama of 2 layers with random weights, whose answers never parse; and a
rule that breaks a known share of its answers, each in one of eight ways, so that what is kept has an expected value.
Then the verb is killed (SIGKILL) in the middle of its second tries and started again, and its folder compared byte by
byte with that of a run which nothing interrupted. Counts that do not add up end the script with an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from retrieval.collection import Collection, write_collection
from retrieval.environment import hardware
from retrieval.generators.transformers import Transformers
from retrieval.sampling import Request, Sampling
from retrieval.types import Generation
from tests.conftest import TEXTS, make_chat
from training.synthesis.graded_passages import LEVELS, GradedPassages

ROOT = Path(__file__).parents[2]
BROKEN, TRIES = 0.4, 3
FILES = ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "synthesis.json")


class Rule:
    """Writes four passages that parse, save for a share of its answers; which ones, the request alone decides."""

    def __init__(self, broken: float = BROKEN, seconds: float = 0.0):
        """`seconds` is how long an answer takes."""
        self.broken, self.seconds = broken, seconds

    def contract(self) -> dict[str, Any]:
        """What determines an answer."""
        return {"model": "rule", "broken": self.broken}

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Generation]]:
        """The answers in order."""
        for place, request in enumerate(requests):
            time.sleep(self.seconds)
            text = self._text(json.dumps([request.messages, request.sample]))
            yield place, Generation(text, 300, len(text.split()), "stop")

    def _text(self, asked: str) -> str:
        drawn = hashlib.sha256(asked.encode()).digest()
        parts = [f'<passage level="{level.name}">\n{level.label} of {drawn.hex()}\n</passage>' for level in LEVELS]
        whole = "\n".join(parts)
        if int.from_bytes(drawn[:4]) >= self.broken * 2**32:
            return whole
        return [
            "",
            f"Here they are:\n{whole}",
            whole[: len(whole) // 2],
            "\n".join(parts[1:]),
            "\n".join([*parts, parts[0]]),
            whole.replace("related", "unrelated"),
            whole.replace(f"0 of {drawn.hex()}", "..."),
            whole.replace("1 of", "2 of"),
        ][drawn[4] % 8]


def collection_of(folder: Path, queries: int) -> Path:
    """So many queries, all different."""
    names = {f"q{place}": f"{TEXTS[place % len(TEXTS)]} {place}" for place in range(queries)}
    write_collection(folder, [("d", "", "text")], names, {"train": {name: {"d": 1} for name in names}})
    return folder


def checked(counts: Mapping[str, int]) -> Mapping[str, int]:
    """The counts, where they add up."""

    def parts(what: str) -> int:
        return sum(count for name, count in counts.items() if name.startswith(what))

    right = (
        counts["queries"] == counts["kept"] + counts["dropped"],
        counts["generations"] == counts["parsed"] + counts["unparsed"],
        counts["parsed"] == counts["kept"] == parts("kept at try "),
        counts["unparsed"] == parts("unparsed: ") and counts["dropped"] == parts("dropped: "),
    )
    if not all(right):
        raise SystemExit(f"counts do not add up: {dict(counts)}")
    return counts


def tiny_model(place: Path) -> None:
    """All answers of a model that knows nothing are refused, and the error says why."""
    model = Transformers(str(make_chat(place / "chat")), dtype="float32", device="cpu")
    made = GradedPassages(model, Sampling(48, 1.0), tries=TRIES)
    try:
        made.synthesize(Collection(collection_of(place / "few", 8)), place / "tiny")
    except ValueError as error:
        print(f"tiny model, 8 queries, {TRIES} tries: {error}; {made.asker.generations} generations")


def yields(place: Path, queries: int) -> None:
    """What the rule leaves, beside what its rate lets one expect."""
    for tries in (1, 2, 3):
        collection = Collection(collection_of(place / f"rule-{tries}", queries))
        counts = checked(GradedPassages(Rule(), tries=tries).synthesize(collection, place / f"made-{tries}"))
        share = counts["parsed"] / counts["generations"]
        print(
            f"rule, {queries} queries, {tries} tries: kept {counts['kept'] / queries:.4f} (expected "
            f"{1 - BROKEN**tries:.4f}), parsed {share:.4f} (expected {1 - BROKEN:.4f}) of {counts['generations']} generations"
        )
    print(", ".join(f"{what} {count}" for what, count in counts.items()))


def verb(place: Path, cache: str, out: str, seconds: float) -> subprocess.Popen:
    """`python -m retrieval.synthesize` with a cache of its own."""
    recipe = {
        "dataset": {"type": "folder", "path": str(place / "all")},
        "synthesizer": {
            "type": "graded_passages",
            "generator": {"type": "scripts.bench.synthesis:Rule", "seconds": seconds},
            "tries": TRIES,
        },
    }
    (place / f"{out}.yaml").write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "retrieval.synthesize", str(place / f"{out}.yaml"), f"out={place / out}"]
    quiet = subprocess.DEVNULL
    env = os.environ | {"RETRIEVAL_CACHE": str(place / cache)}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=quiet, stderr=quiet)


def kept(place: Path, cache: str) -> int:
    """Answers in the store."""
    path = place / cache / "generations.sqlite"
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(path) as store:
            return store.execute("select count(*) from generations").fetchone()[0]
    except sqlite3.OperationalError:  # its tables are being made
        return 0


def killed_and_resumed(place: Path, queries: int) -> None:
    """The same bytes, and no answer asked for twice."""
    collection_of(place / "all", queries)
    wanted = int(queries * (1 + BROKEN / 2))
    running = verb(place, "first", "killed", 0.002)
    while kept(place, "first") < wanted and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before, there = kept(place, "first"), (place / "killed" / "collection").exists()
    codes = verb(place, "first", "killed", 0.002).wait(), verb(place, "second", "whole", 0.002).wait()
    manifests = [json.loads((place / out / "manifest.json").read_text())["results"] for out in ("killed", "whole")]
    counts, costs = checked(manifests[0]["counts"]), manifests[0]["costs"]
    same = [(place / "killed" / "collection" / name).read_bytes() for name in FILES] == [
        (place / "whole" / "collection" / name).read_bytes() for name in FILES
    ]
    right = codes == (0, 0) and same and not there and counts == manifests[1]["counts"]
    if not right or before + costs["model calls"] != counts["generations"] or not 0 < before < counts["generations"]:
        raise SystemExit(f"kill and resume: exit {codes}, same {same}, folder before {there}, {before}, {costs}")
    print(
        f"killed with {before} of {counts['generations']} answers kept; resumed: {costs['model calls']} model calls, "
        f"{costs['cache hits']} cache hits; the folder is that of an uninterrupted run, byte for byte"
    )


def main() -> None:
    """All of it, with a cache of its own."""
    queries = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(hardware(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["RETRIEVAL_CACHE"] = str(place / "cache")
        tiny_model(place)
        yields(place, queries)
        killed_and_resumed(place, queries)


if __name__ == "__main__":
    main()
