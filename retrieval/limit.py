"""Collections made as LIMIT is made: Weller et al. (2025), On the theoretical limitations of embedding-based retrieval.

A document is a person and what the person likes; a query asks who likes one thing, which exactly k people do. Which k
is the pattern, and patterns that combine the same few documents in many ways are what single vectors cannot follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations, islice
from math import ceil, comb

import numpy as np

__all__ = ["PATTERNS", "LimitData", "LimitSplit", "density", "generate", "relevant_documents", "strength"]

PADDING = 850  # attributes to pad documents with, as many as LIMIT has


@dataclass(frozen=True)
class LimitSplit:
    """The queries and judgements of one split."""

    queries: list[tuple[str, str]]  # (id, text)
    qrels: dict[str, dict[str, int]]  # query id -> document id -> 1


@dataclass(frozen=True)
class LimitData:
    """One corpus and the splits over it: `train`, `dev` and `test`, of which the first two may be empty."""

    documents: list[tuple[str, str, str]]  # (id, title, text): the id is the person's name, the title ""
    splits: dict[str, LimitSplit]


def generate(
    pattern: str = "dense",
    k: int = 2,
    documents: int = 46,
    queries: int = 1000,
    distractors: int = 49_954,
    items: int = 45,
    train_queries: int = 1000,
    dev_queries: int = 100,
    seed: int = 0,
) -> LimitData:
    """The collection of these settings, the same to the byte wherever it is made; by default the test split is LIMIT's.

    The test split asks `queries` questions about `documents` people, each answered by exactly k of them. Its pattern:
    dense (the first combinations of k people in lexicographic order), random (different combinations, drawn), cycle
    (person i and the k - 1 after, modulo `documents`) or disjoint (the next k people every time). The other splits ask
    for other things and about other people, in the same pattern: copies of the test's, of which the last may be
    partial and then has fewer people. Distractors like nothing that is asked for. Every person likes `items` things,
    in shuffled order, and people and queries are shuffled too.

    What is asked for and what pads the documents are drawn alike: from single words up to 2329 queries in all splits
    (and 850 items or fewer), then partly from pairs of words, which share words with each other and so cost a matcher
    of words its certainty. Raises ValueError for settings that cannot be met.
    """
    sizes = {"test": queries, "dev": dev_queries, "train": train_queries}
    _refuse_below(1, k=k, documents=documents, queries=queries, items=items)
    _refuse_below(0, distractors=distractors, dev_queries=dev_queries, train_queries=train_queries, seed=seed)
    rng = np.random.Generator(np.random.PCG64(seed))
    relevant, people = _Shape(pattern, k, documents, queries).splits(list(sizes.values()), rng)
    names = _names(people + distractors, rng)
    likes = _likes(relevant, len(names))
    padding = _padding(likes, items, len(relevant))
    attributes = _attributes(len(relevant), padding, rng)
    held = _held(likes, items, len(relevant) + np.arange(padding), rng)
    starts = np.cumsum([0, *sizes.values()])[:-1]
    made = {
        split: _split(split, start + rng.permutation(size), relevant, attributes, names)
        for (split, size), start in zip(sizes.items(), starts, strict=True)
    }
    corpus = [
        (names[person], "", _sentence(names[person], [attributes[item] for item in held[person]]))
        for person in rng.permutation(len(names))
    ]
    return LimitData(corpus, {split: made[split] for split in ("train", "dev", "test")})


def relevant_documents(pattern: str, k: int, documents: int, queries: int, rng: np.random.Generator) -> np.ndarray:
    """The documents that each query of a pattern wants, int64 [queries, k]; `rng` draws where the pattern is random.

    Raises ValueError for more queries than the documents have combinations of.
    """
    return _Shape(pattern, k, documents, queries).splits([queries], rng)[0]


def density(qrels: Mapping[str, Mapping[str, int]]) -> float:
    """2|E| / (|V| (|V| - 1)) of the graph of queries, with an edge where two share a relevant document.

    A judgement is relevant when its grade is above 0. Raises ValueError for fewer than two queries.
    """
    if len(qrels) < 2:
        raise ValueError(
            f"{len(qrels)} queries have no density; it is the share of pairs of queries, so give two or more"
        )
    return 2 * len(_overlaps(qrels)) / (len(qrels) * (len(qrels) - 1))


def strength(qrels: Mapping[str, Mapping[str, int]]) -> float:
    """The mean over queries of the summed Jaccard overlap of their relevant documents with each other query's.

    A judgement is relevant when its grade is above 0. Raises ValueError where there are no queries.
    """
    if not qrels:
        raise ValueError("no queries have no strength; it is a mean over queries, so give one or more")
    return 2 * float(_overlaps(qrels).sum()) / len(qrels)


@dataclass(frozen=True)
class _Shape:
    """The pattern of the test split, and the splits made in its image."""

    pattern: str
    k: int
    documents: int
    queries: int

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise ValueError(f"pattern {self.pattern!r} is none of {', '.join(PATTERNS)}")
        if self.k > self.documents:
            raise ValueError(f"k={self.k} relevant documents per query need documents={self.k}, not {self.documents}")
        if self.pattern in ("dense", "random") and self.queries > comb(self.documents, self.k):
            raise ValueError(
                f"{self.documents} documents have {comb(self.documents, self.k)} combinations of {self.k}, for "
                f"queries={self.queries}; documents={_fewest(self.k, self.queries)} would be enough"
            )
        if self.pattern == "disjoint" and self.queries * self.k > self.documents:
            raise ValueError(
                f"the disjoint pattern of queries={self.queries} and k={self.k} needs "
                f"documents={self.queries * self.k}, not {self.documents}"
            )

    def splits(self, sizes: Sequence[int], rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """The people relevant to each query of splits of these sizes, int64 [queries, k], and how many people."""
        parts, people = [np.empty((0, self.k), np.int64)], 0
        for size in (copy for wanted in sizes for copy in self._copies(wanted)):
            members = self._members(size)
            parts.append(people + PATTERNS[self.pattern](self.k, members, size, rng))
            people += members
        return np.concatenate(parts), people

    def _copies(self, size: int) -> list[int]:
        return [min(self.queries, size - start) for start in range(0, size, self.queries)]

    def _members(self, size: int) -> int:
        """The people of a copy: as many to a query as in the test, and enough that all queries may differ."""
        return min(self.documents, max(ceil(self.documents * size / self.queries), _fewest(self.k, size)))


def _fewest(k: int, queries: int) -> int:
    """The smallest n with C(n, k) >= queries."""
    documents = k
    while comb(documents, k) < queries:
        documents += 1
    return documents


def _dense(k: int, documents: int, queries: int, rng: np.random.Generator) -> np.ndarray:
    return np.array(list(islice(combinations(range(documents), k), queries)), np.int64)


def _random(k: int, documents: int, queries: int, rng: np.random.Generator) -> np.ndarray:
    drawn: dict[tuple[int, ...], None] = {}  # a dict keeps the order of drawing
    while len(drawn) < queries:
        drawn[tuple(sorted(rng.permutation(documents)[:k].tolist()))] = None
    return np.array(list(drawn), np.int64)


def _cycle(k: int, documents: int, queries: int, rng: np.random.Generator) -> np.ndarray:
    return (np.arange(queries)[:, None] + np.arange(k)) % documents


def _disjoint(k: int, documents: int, queries: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(queries * k).reshape(queries, k)


# k, documents, queries, rng -> int64 [queries, k], k different documents each
PATTERNS: dict[str, Callable[[int, int, int, np.random.Generator], np.ndarray]] = {
    "dense": _dense,
    "random": _random,
    "cycle": _cycle,
    "disjoint": _disjoint,
}


def _refuse_below(least: int, **settings: int) -> None:
    for name, value in settings.items():
        if value < least:
            raise ValueError(f"{name}={value}; it must be {least} or more")


def _likes(relevant: np.ndarray, people: int) -> list[list[int]]:
    """The queries whose attribute each person likes."""
    likes: list[list[int]] = [[] for _ in range(people)]
    for query, liking in enumerate(relevant.tolist()):
        for person in liking:
            likes[person].append(query)
    return likes


def _padding(likes: Sequence[Sequence[int]], items: int, queries: int) -> int:
    """How many attributes to pad from. Raises ValueError where documents are too short or attributes too few."""
    most = max(map(len, likes))
    if most > items:
        raise ValueError(
            f"a document of this pattern has {most} attributes that are asked for, more than items={items}; "
            f"items={most} would be enough"
        )
    needed, available = items - min(map(len, likes)), len(_single()) + len(_pairs())
    if queries + needed > available:
        raise ValueError(
            f"{queries} queries in all splits and {needed} other items in a document need {queries + needed} "
            f"attributes, and there are {available}; ask for {queries + needed - available} fewer"
        )
    return min(available - queries, max(needed, PADDING))


def _attributes(queries: int, padding: int, rng: np.random.Generator) -> list[str]:
    """The attribute of each query, then those to pad with; drawn alike, so that a document's style tells nothing."""
    single, pairs = _single(), _pairs()
    order = [single[i] for i in rng.permutation(len(single))] + [pairs[i] for i in rng.permutation(len(pairs))]
    return [order[i] for i in rng.permutation(queries + padding)]


def _names(people: int, rng: np.random.Generator) -> list[str]:
    first, last = _words("first_names"), _words("last_names")
    if people > len(first) * len(last):
        raise ValueError(
            f"{people} people (distractors and the relevant ones of all splits) are more than the {len(first)} x "
            f"{len(last)} names; ask for {people - len(first) * len(last)} fewer"
        )
    drawn = rng.permutation(len(first) * len(last))[:people].tolist()
    return [f"{first[name // len(last)]} {last[name % len(last)]}" for name in drawn]


def _held(likes: Sequence[list[int]], items: int, padding: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The attributes of each document in the order of its text, int64 [people, items]."""
    held = np.empty((len(likes), items), np.int64)
    for row, liked in zip(held, likes, strict=True):
        others = padding[rng.permutation(len(padding))[: items - len(liked)]]
        row[:] = np.concatenate([np.array(liked, np.int64), others])[rng.permutation(items)]
    return held


def _sentence(name: str, likes: Sequence[str]) -> str:
    """`Ada Byron likes A, B and C.`"""
    return f"{name} likes {' and '.join(part for part in (', '.join(likes[:-1]), likes[-1]) if part)}."


def _split(
    split: str, order: np.ndarray, relevant: np.ndarray, attributes: Sequence[str], names: Sequence[str]
) -> LimitSplit:
    """The queries in this order, under ids that count from 0."""
    ids = [f"{split}_{i}" for i in range(len(order))]
    queries = [(i, f"Who likes {attributes[query]}?") for i, query in zip(ids, order, strict=True)]
    qrels = {i: {names[person]: 1 for person in relevant[query]} for i, query in zip(ids, order, strict=True)}
    return LimitSplit(queries, qrels)


def _overlaps(qrels: Mapping[str, Mapping[str, int]]) -> np.ndarray:
    """The Jaccard overlap of each pair of queries that share a relevant document, float64 [edges]."""
    relevant = [[doc for doc, grade in judged.items() if grade > 0] for judged in qrels.values()]
    sharing: dict[str, list[int]] = {}
    for query, docs in enumerate(relevant):
        for doc in docs:
            sharing.setdefault(doc, []).append(query)
    sizes = np.array([len(docs) for docs in relevant])
    pairs = [np.array(queries)[np.stack(np.triu_indices(len(queries), 1))] for queries in sharing.values()]
    first, second = np.concatenate([np.empty((2, 0), np.int64), *pairs], axis=1)
    edges, shared = np.unique(first * len(relevant) + second, return_counts=True)
    first, second = np.divmod(edges, len(relevant))
    return shared / (sizes[first] + sizes[second] - shared)


@cache
def _words(name: str) -> tuple[str, ...]:
    text = files("retrieval.datasets").joinpath(f"limit_{name}.txt").read_text(encoding="utf-8")
    return tuple(text.split())


def _single() -> tuple[str, ...]:
    return _words("attributes")


@cache
def _pairs() -> tuple[str, ...]:
    return tuple(f"{adjective} {noun}" for adjective in _words("adjectives") for noun in _words("nouns"))
