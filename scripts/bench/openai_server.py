"""200 prompts to a real server behind injected faults: `python -m scripts.bench.openai_server [prompts] [share] [seed]`.

`transformers serve` with a tiny Llama made here answers on the loopback address; before it stands a proxy that answers
a `share` of the requests 429 (with Retry-After: 0) or 500, or not before the client gives up. Printed is what was
asked, injected, tried again, lost and doubled. Run from the root of the checkout; needs transformers[serving].
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from retrieval.asking import Asker
from retrieval.environment import hardware, packages
from retrieval.generators.openai import OpenAI
from retrieval.sampling import Request, Sampling
from tests.conftest import TEXTS, make_chat
from tests.serving import Proxy, transformers_serve

TIMEOUT = 10.0  # seconds, many times what an answer of the tiny model takes
TOKENS = 32  # of an answer, at most


class Recorded:
    """Notes which places the generator answers, and how often."""

    def __init__(self, generator: OpenAI):
        self.generator, self.contract = generator, generator.contract
        self.places: list[int] = []

    def generate(self, requests: Sequence[Request]):
        """The generator's answers."""
        for place, one in self.generator.generate(requests):
            self.places.append(place)
            yield place, one


def main(prompts: int = 200, share: float = 0.05, seed: int = 1) -> None:
    """Run once with faults and once straight, each with an empty store, and compare."""
    chats = [[{"role": "user", "content": f"{n}: {TEXTS[n % len(TEXTS)]}"}] for n in range(prompts)]
    with tempfile.TemporaryDirectory() as folder:
        model = make_chat(Path(folder) / "chat")
        with transformers_serve(model, Path(folder) / "home") as url:
            proxy = Proxy(url, share, seed)
            generator = Recorded(OpenAI(str(model), proxy.url, key_variable=None, timeout=TIMEOUT))
            found, seconds, stored = run(generator, chats, Path(folder) / "cache")
            proxy.close()
            straight = Recorded(OpenAI(str(model), url, key_variable=None, concurrency=1))
            expected, alone, _ = run(straight, chats, Path(folder) / "straight")
    report(
        {
            "prompts": prompts,
            "in flight, at most": proxy.most_at_once,
            "injected": dict(sorted(proxy.injected.items())),
            "tried again after": dict(sorted(generator.generator.http.repeated.items())),
            "answers": len(generator.places),
            "lost": prompts - len(set(generator.places)),
            "doubled": len(generator.places) - len(set(generator.places)),
            "prompts delivered more than once": sum(count > 1 for count in proxy.delivered.values()),
            "in the store": stored,
            "in order and equal to one at a time without faults": sum(map(str.__eq__, found, expected)),
            "seconds": round(seconds, 1),
            "seconds, one at a time without faults": round(alone, 1),
            "hardware": hardware(),
            "transformers": packages()["transformers"],
        }
    )


def run(generator: Recorded, chats: list[list[dict[str, str]]], cache: Path) -> tuple[list[str], float, int]:
    """The answers in order, the seconds, and how many the store holds."""
    os.environ["RETRIEVAL_CACHE"] = str(cache)
    started = time.perf_counter()
    answers = Asker(generator, Sampling(TOKENS)).ask(chats, lambda _, text: text, "see the log of the server")
    seconds = time.perf_counter() - started
    kept = sqlite3.connect(cache / "generations.sqlite").execute("select count(*) from generations").fetchone()[0]
    return [str(one) for one in answers], seconds, kept


def report(figures: dict[str, object]) -> None:
    """One figure a line."""
    for name, value in figures.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*(kind(one) for kind, one in zip((int, float, int), given, strict=False)))
