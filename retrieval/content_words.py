"""The words of a text that carry its content: Unicode's words in lower case without function words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

import pyarrow as pa

from retrieval.vocabulary import string_buffers
from retrieval.word_break import tables, tokens

__all__ = ["content_words", "function_words"]


@cache
def function_words() -> frozenset[str]:
    """The words of function_words.txt."""
    lines = files("retrieval").joinpath("function_words.txt").read_text(encoding="ascii").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def content_words(texts: Sequence[str], repeated: bool = False) -> list[list[str]]:
    """The words of each text, each once, where they first come; possessive 's is off, as is all punctuation.

    `repeated` gives them as often as they come.
    """
    data, bounds = string_buffers(pa.array([text.lower() for text in texts], pa.large_string()))
    starts, ends, counts = tokens(data, bounds, *tables())
    whole, stops, found, at = data.tobytes(), function_words(), [], 0
    for count in counts.tolist():
        spans = zip(starts[at : at + count].tolist(), ends[at : at + count].tolist(), strict=True)
        words: Iterable[str] = (_bare(whole[start:end].decode()) for start, end in spans)
        found.append([word for word in (words if repeated else dict.fromkeys(words)) if word and word not in stops])
        at += count
    return found


def _bare(word: str) -> str:
    word = word.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").strip("_")
    return word.removesuffix("'s")
