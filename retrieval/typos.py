"""Misspelling: words of a query with one slip of the fingers each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from retrieval.content_words import function_words
from retrieval.types import Queries

__all__ = ["KINDS", "Kind", "check_typos", "misspelt", "with_typos"]

Kind = Literal["swap", "deletion", "insertion", "substitution", "keyboard"]
KINDS: tuple[Kind, ...] = get_args(Kind)

WORD = re.compile(r"(?<![^\W_])[A-Za-z]{4,}(?![^\W_])")  # letters a to z alone: no numbers, no names such as IL2
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")  # each key a little right of the one above it


def with_typos(text: str, rng: np.random.Generator, rate: float = 0.1, kinds: Sequence[Kind] = KINDS) -> str:
    """The text with `rate` of its words misspelt, at least one, each by one typo of a kind drawn from `kinds`.

    `swap` exchanges neighbouring letters that differ; `deletion` and `insertion` are of one letter; `substitution` puts
    another in its place, and `keyboard` one that lies beside it on a QWERTY keyboard. Words of under four letters,
    function words and what holds other characters stay as they are; a text without other words is returned as it is.
    """
    words = [word for word in WORD.finditer(text) if word[0].lower() not in function_words()]
    count = min(len(words), max(1, round(rate * len(words))))
    parts, at = [], 0
    for place in sorted(rng.choice(len(words), count, replace=False).tolist()) if words else ():
        word = words[place]
        parts += [text[at : word.start()], _misspelt(word[0], rng, kinds)]
        at = word.end()
    return "".join([*parts, text[at:]])


def misspelt(
    queries: Queries, seed: int, rate: float = 0.1, kinds: Sequence[Kind] = KINDS, share: float = 1.0
) -> tuple[Queries, np.ndarray]:
    """A share of the queries with typos, under the same ids, and which of them changed, bool [queries].

    A query's typos follow from the seed and its id alone, whatever other queries there are.
    """
    texts = []
    for name, text in zip(queries.ids, queries.texts, strict=True):
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        rng = np.random.default_rng([seed, number])
        texts.append(with_typos(text, rng, rate, kinds) if rng.random() < share else text)
    changed = np.array([new != old for new, old in zip(texts, queries.texts, strict=True)], bool)
    return replace(queries, texts=texts), changed


def check_typos(rate: float, kinds: Sequence[str] | None) -> tuple[Kind, ...]:
    """The kinds, all for None. Raises ValueError for a rate or kinds that cannot be."""
    if not 0 < rate <= 1:
        raise ValueError(f"rate is {rate}; it is the share of words that are misspelt, above 0 and at most 1")
    odd = [kind for kind in kinds or () if kind not in KINDS]
    if odd or kinds == []:
        what = f"there is no kind of typo {odd[0]!r}" if odd else "kinds is empty"
        raise ValueError(f"{what}: choose from {', '.join(KINDS)}")
    return KINDS if kinds is None else tuple(kinds)  # type: ignore[arg-type]


def _misspelt(word: str, rng: np.random.Generator, kinds: Sequence[Kind]) -> str:
    kind = kinds[int(rng.integers(len(kinds)))]
    at = int(rng.integers(len(word)))
    if kind == "swap":
        return _swapped(word, rng)
    if kind == "deletion":
        return word[:at] + word[at + 1 :]
    if kind == "insertion":
        at = int(rng.integers(len(word) + 1))
        return word[:at] + _like(LETTERS[rng.integers(26)], word[max(at - 1, 0)]) + word[at:]
    letter = word[at].lower()
    choice = NEIGHBOURS[letter] if kind == "keyboard" else LETTERS.replace(letter, "")
    return word[:at] + _like(choice[rng.integers(len(choice))], word[at]) + word[at + 1 :]


def _swapped(word: str, rng: np.random.Generator) -> str:
    """Two neighbours exchanged; a word of one letter over and over, which has none, loses its last."""
    places = [at for at in range(len(word) - 1) if word[at] != word[at + 1]]
    if not places:
        return word[:-1]
    at = places[rng.integers(len(places))]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _like(letter: str, other: str) -> str:
    return letter.upper() if other.isupper() else letter


def _neighbours() -> dict[str, str]:
    """The keys beside each key, left and right, above and below."""
    place = {letter: (row, column) for row, keys in enumerate(ROWS) for column, letter in enumerate(keys)}
    steps = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0))
    of = {spot: letter for letter, spot in place.items()}
    return {
        letter: "".join(of[row + down, column + right] for down, right in steps if (row + down, column + right) in of)
        for letter, (row, column) in place.items()
    }


NEIGHBOURS = _neighbours()
