"""Prompts that ask a language model for a query of a document: example pairs, then the document, as text to go on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from retrieval.asking import cut_words
from retrieval.chat_prompt import PLACE, prompt_file
from retrieval.columns import lines
from retrieval.files import whole_file

__all__ = ["Pair", "QueryPrompt", "read_pairs", "write_pairs"]

Style = Literal["pairs", "inpars", "good-bad"]
PARTS = re.compile(r"^\[(instruction|pair)\][ \t]*$", re.MULTILINE)


class Pair(NamedTuple):
    """A query and a document that answers it."""

    query: str
    document: str
    worse: str = ""  # a query that fits the document less, where a prompt shows one


@dataclass(frozen=True)
class QueryPrompt:
    """How a query is asked for.

    "pairs" is example pairs alone, as soft prompts are tuned with (SPTAR, Promptagator's few shots); "inpars" says
    first what is wanted; "good-bad" shows a worse question beside the good one (InPars' "guided by bad questions").
    """

    style: Style = "pairs"
    file: Path | None = None  # in place of our own of that style
    examples: Path | None = None  # JSON lines of query and document; None is ours, and with "pairs" none at all
    shots: int | None = None  # the first so many of the examples; None is all
    words: int = 1024  # of a document
    chat: bool = False  # the text is the turn of a user, for models with a chat template

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise ValueError(f"there is no prompt {self.style!r}: choose from {', '.join(get_args(Style))}")
        if self.words < 1 or (self.shots is not None and self.shots < 0):
            raise ValueError(f"words is at least 1 and shots 0 or None, not {self.words} and {self.shots}")

    def text(self, document: str, examples: Sequence[Pair] | None = None) -> str:
        """What the model goes on with: the pairs, by default the prompt's own, and one that lacks its query."""
        instruction, pair = self._parts
        shown = self.shown if examples is None else examples
        filled = [self._filled(pair, number, one) for number, one in enumerate(shown, 1)]
        asked = self._filled(pair[: pair.index("{query}")], len(filled) + 1, Pair("", document))
        return "\n\n".join([*([instruction] if instruction else []), *filled, asked]).rstrip()

    @cached_property
    def shown(self) -> list[Pair]:
        """The example pairs. Raises ValueError where there are fewer than `shots`."""
        ours = None if self.style == "pairs" else prompt_file("training.synthesis", "weak-examples", None)
        path = self.examples or (ours and ours.with_suffix(".jsonl"))
        found = read_pairs(path, "{worse}" in self._parts[1]) if path else []
        if self.shots is not None and len(found) < self.shots:
            raise ValueError(f"{path or 'the prompt'} has {len(found)} examples, and shots is {self.shots}")
        return found[: self.shots]

    def about(self) -> dict[str, Any]:
        """What determines the text around a document, as plain values."""
        digest = hashlib.sha256(json.dumps([self._parts, self.shown]).encode()).hexdigest()
        return {"prompt": self.style, "prompt sha256": digest, "document words": self.words, "chat": self.chat}

    @cached_property
    def _parts(self) -> tuple[str, str]:
        """The instruction, and a pair. Raises ValueError for a file that holds none."""
        path = prompt_file("training.synthesis", f"weak-{self.style}", self.file)
        _, *parts = PARTS.split(path.read_text(encoding="utf-8"))
        read = {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}
        pair = read.get("pair", "")
        before, query, _ = pair.partition("{query}")
        unknown = {*PLACE.findall(pair)} - {"document", "query", "worse", "number"}
        if not query or "{document}" not in before or "{worse}" in before or unknown:
            raise ValueError(
                f"{path} is [instruction], if wanted, and [pair] with {{document}}, then {{query}}, then, if wanted, "
                "{worse}; {number} counts"
            )
        return read.get("instruction", ""), pair

    def _filled(self, pair: str, number: int, one: Pair) -> str:
        if "{worse}" in pair and not one.worse.strip():
            raise ValueError(f"the prompt {self.style} shows a worse query beside {one.query!r}, which has none")
        values: Mapping[str, object] = one._asdict() | {"number": number}
        values = {**values, "document": cut_words(one.document, self.words)[0]}
        return PLACE.sub(lambda place: str(values[place[1]]), pair)


def read_pairs(path: Path, worse: bool = False) -> list[Pair]:
    """The pairs of a JSON lines file. Raises ValueError that names the line that is none, or lacks a `worse` query."""
    return [_pair(line, f"{path}:{number}", worse) for number, line in lines(Path(path))]


def write_pairs(pairs: Sequence[Pair], path: Path) -> None:
    """Write pairs as `read_pairs` reads them."""
    with whole_file(path) as part:
        part.write_text("".join(json.dumps(one._asdict(), ensure_ascii=False) + "\n" for one in pairs), "utf-8")


def _pair(line: bytes, where: str, worse: bool) -> Pair:
    try:
        one = Pair(**json.loads(line))
    except (ValueError, TypeError):
        one = Pair("", "")
    needed = one if worse else one[:2]
    if not all(isinstance(text, str) for text in one) or not all(text.strip() for text in needed):
        shown = "as this prompt does" if worse else "where a prompt shows one"
        raise ValueError(f'{where}: each line is {{"query": ..., "document": ...}}, and "worse" {shown}')
    return one
