"""Where tokens are in UTF-8 text: Unicode's word boundaries (UAX 29, Unicode 12.1), as Lucene's StandardTokenizer does.

Words of letters, digits and Katakana, with the underscores and inner punctuation that join them, are tokens; so is each
Han or Hiragana character, each run of a script without spaces (Thai, Lao, Khmer, Myanmar) and each emoji. The rest
separates. The grammar below is made into one automaton; a token is its longest match.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numba import njit

__all__ = ["LONGEST", "Automaton", "Tables", "decode", "lower_case", "tables", "tokens"]

LONGEST = 255  # UTF-16 units; a longer token is cut there, and goes on as another
DEAD = -1

# An expression is a set of code point classes, or ("seq" | "alt" | "star", parts).
Expression = tuple


def _one(*classes: str) -> Expression:
    return ("set", frozenset(classes))


def _seq(*parts: Expression) -> Expression:
    return ("seq", parts)


def _alt(*parts: Expression) -> Expression:
    return ("alt", parts)


def _star(part: Expression) -> Expression:
    return ("star", (part,))


def _plus(part: Expression) -> Expression:
    return _seq(part, _star(part))


def _maybe(part: Expression) -> Expression:
    return _alt(part, _seq())


def _grammar() -> Expression:
    marks = ("Extend", "ZWJ", "Keycap", "VS15", "VS16", "Tag", "CancelTag", "SkinTone", "SouthEastAsianMark")

    def marked(*classes: str) -> Expression:  # WB4: marks belong to what they follow
        return _seq(_one(*classes), _star(_one(*marks)))

    letter, hebrew = marked("Letter", "Hebrew", "Hangul", "EmojiLetter"), marked("Hebrew")
    number, katakana, joint = marked("Digit", "Number"), marked("Katakana"), marked("ExtendNumLet")
    quote, within_word = marked("SingleQuote"), marked("MidLetter", "MidNumLet", "SingleQuote")
    within_number = marked("MidNum", "MidNumLet", "SingleQuote")

    def run(part: Expression, within: Expression | None = None) -> Expression:  # WB5-WB8, WB11-WB13
        between = _star(joint) if within is None else _alt(_star(joint), within)
        return _seq(part, _star(_seq(between, part)))

    hebrew_mark = _seq(hebrew, _alt(quote, _seq(marked("DoubleQuote"), hebrew)))  # WB7a-WB7c
    plain = _plus(_alt(hebrew_mark, run(number, within_number), run(letter, within_word)))
    part = _alt(run(katakana), plain)
    word = _seq(_star(joint), part, _star(_seq(_plus(joint), part)), _star(joint))  # WB13a, WB13b

    tail = _star(_one(*set(marks) - {"VS15", "VS16"}))
    joiner, style = _one("ZWJ"), _one("VS16")
    picture, tone = _seq(_one("Emoji", "EmojiLetter"), tail), _seq(_one("SkinTone"), tail)
    pictures = _seq(picture, _star(_seq(_maybe(style), _plus(joiner), picture)))  # WB3c
    toned = _seq(tone, _plus(joiner), pictures)
    chain = _seq(_alt(_seq(_star(joiner), pictures), toned), _star(_seq(style, joiner, toned)))
    emoji = _alt(
        _seq(chain, _maybe(_seq(style, _maybe(_seq(joiner, tone))))),
        _seq(_star(joiner), picture, style, _plus(_one("Tag")), _one("CancelTag")),
        tone,
    )
    flag = _seq(marked("RegionalIndicator"), marked("RegionalIndicator"))  # WB15
    keycap = _seq(_one("Digit", "KeycapBase"), tail, _maybe(_one("VS16")), _one("Keycap"), tail)

    return _alt(
        word,
        _plus(marked("SouthEastAsian", "SouthEastAsianMark")),
        marked("Han"),
        marked("Hiragana"),
        emoji,
        flag,
        keycap,
    )


class Automaton:
    """A deterministic automaton by subset construction (Rabin and Scott 1959) over Thompson's nondeterministic one.

    `next` is int8 [states, classes], DEAD where no token goes on; `accepts` bool [states]; it begins in `start`.
    """

    def __init__(self, expression: Expression, classes: list[str]):
        self.arrows: list[list[tuple[frozenset | None, int]]] = []
        start, end = self._state(), self._state()
        self._build(expression, start, end)
        states = {self._closure([start]): 0}
        todo = list(states)
        rows = []
        for state in todo:  # grows while it is read
            rows.append([self._next(state, name, states, todo) for name in classes])
        same = np.array([end in state for state in todo], int)  # states alike so far: Moore's minimisation (1956)
        while True:
            seen = np.column_stack([same, np.where(np.array(rows) == DEAD, DEAD, same[rows])])
            distinct, finer = np.unique(seen, axis=0, return_inverse=True)
            if len(distinct) == len(set(same.tolist())):
                break
            same = finer.reshape(-1)  # numpy 2.0.0 gives two dimensions
        first = [same.tolist().index(number) for number in range(len(distinct))]
        self.start = int(same[0])
        self.next = np.where(np.array(rows)[first] == DEAD, DEAD, same[np.array(rows)[first]]).astype(np.int8)
        self.accepts = np.array([end in todo[state] for state in first])

    def _state(self) -> int:
        self.arrows.append([])
        return len(self.arrows) - 1

    def _build(self, expression: Expression, start: int, end: int) -> None:
        kind, parts = expression
        if kind == "set":
            self.arrows[start].append((parts, end))
        elif kind == "alt":
            for part in parts:
                self._build(part, start, end)
        elif kind == "seq":
            for part in parts:
                start, before = self._state(), start
                self._build(part, before, start)
            self.arrows[start].append((None, end))
        else:
            inside = self._state()
            self._build(parts[0], inside, inside)
            self.arrows[start].append((None, inside))
            self.arrows[inside].append((None, end))

    def _closure(self, states: Iterable[int]) -> frozenset[int]:
        found, todo = set(states), list(states)
        while todo:
            further = [to for by, to in self.arrows[todo.pop()] if by is None and to not in found]
            found.update(further)
            todo += further
        return frozenset(found)

    def _next(self, state: frozenset, name: str, states: dict, todo: list) -> int:
        after = self._closure({to for one in state for by, to in self.arrows[one] if by and name in by})
        if not after:
            return DEAD
        if after not in states:
            states[after] = len(todo)
            todo.append(after)
        return states[after]


class Tables(NamedTuple):
    """What `tokens` reads."""

    classes: np.ndarray  # uint8 [0x110000], class of each code point
    next: np.ndarray  # int8 [states, classes], DEAD where no token goes on
    accepts: np.ndarray  # bool [states]
    start: int


@cache
def tables() -> Tables:
    """The grammar's automaton over the classes of word_break.txt."""
    names = ["Other"]
    classes = np.zeros(0x110000, np.uint8)
    for first, last, (name,) in _ranges("word_break.txt"):
        if name not in names:
            names.append(name)
        classes[first : last + 1] = names.index(name)
    automaton = Automaton(_grammar(), names)
    return Tables(classes, automaton.next, automaton.accepts, automaton.start)


@cache
def lower_case() -> np.ndarray:
    """int32 [0x110000], each code point in lower case, by itself: no letter becomes two, and context has no say."""
    lower = np.arange(0x110000, dtype=np.int32)
    for first, last, (step, distance) in _ranges("lower_case.txt"):
        lower[first : last + 1 : int(step)] += int(distance)
    return lower


def _ranges(name: str) -> Iterator[tuple[int, int, list[str]]]:
    """First and last code point of each line, and the words after them."""
    for line in files("retrieval").joinpath(name).read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            first, last, *words = line.split()
            yield int(first, 16), int(last, 16), words


@njit(cache=True, nogil=True)
def decode(text, at):
    """The code point at a place of UTF-8 text, and its bytes."""
    first = np.uint32(text[at])
    if first < 0x80:
        return first, 1
    if first < 0xE0:
        return ((first & 0x1F) << 6) | (text[at + 1] & 0x3F), 2
    if first < 0xF0:
        return ((first & 0x0F) << 12) | ((text[at + 1] & 0x3F) << 6) | (text[at + 2] & 0x3F), 3
    high = ((first & 0x07) << 18) | ((text[at + 1] & 0x3F) << 12)
    return high | ((text[at + 2] & 0x3F) << 6) | (text[at + 3] & 0x3F), 4


@njit(cache=True, nogil=True)
def tokens(text, bounds, classes, automaton, accepts, start):
    """Tokens of the texts text[bounds[i]:bounds[i + 1]]: where each begins and ends, int64, and how many a text has."""
    starts, ends = np.empty(bounds[-1] - bounds[0], np.int64), np.empty(bounds[-1] - bounds[0], np.int64)
    counts, found = np.zeros(len(bounds) - 1, np.int64), 0
    for number in range(len(counts)):
        at, stop = bounds[number], bounds[number + 1]
        before = found
        while at < stop:
            state, place, end, units = start, at, at, 0
            while place < stop:
                point, size = np.uint32(text[place]), 1
                if point >= 0x80:
                    point, size = decode(text, place)
                state = automaton[state, classes[point]]
                units += 1 if size < 4 else 2
                if state < 0 or units > LONGEST:
                    break
                place += size
                if accepts[state]:
                    end = place
            if end == at:
                at += decode(text, at)[1]
                continue
            starts[found], ends[found] = at, end
            found += 1
            at = end
        counts[number] = found - before
    return starts[:found], ends[:found], counts
