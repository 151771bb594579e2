"""What writers that ask a language model share: answers become clean texts, failures are counted, examples are read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from retrieval.asking import Asker
from retrieval.chat_prompt import MessagePrompt, prompt_file
from retrieval.columns import lines
from retrieval.protocols import Generator
from retrieval.sampling import Sampling
from retrieval.types import Queries

__all__ = ["Kinds", "Texts", "examples_in", "joined", "passage", "prompt_of"]

FIX = (
    "take another model, or more max_tokens where it thinks aloud; "
    "or fallback: keep leaves such a text out, and counts it"
)
REFUSAL = re.compile(
    r"(?:(?:i['’]?m|i am) (?:very |really |so )?sorry|sorry|i apologi[sz]e|unfortunately|as an ai\b[^.,]*)?[,.]?\s*"
    r"(?:but\s+)?\b(?:i (?:can['’]?t|cannot|can not|won['’]?t|will not)|i(?:['’]?m| am) (?:not able|unable) to|i must) "
    r"(?:assist|comply|fulfil|help(?! but)|provide|answer|write|generate|create|do that|decline)",
    re.IGNORECASE,
)
QUOTES = ('""', "''", "“”", "‘’")

Item = TypeVar("Item")
Chat = Sequence[Mapping[str, str]]


class Texts:
    """Asks a model, some samples for each chat, and gives what it wrote as clean texts."""

    def __init__(
        self,
        generator: Generator,
        sampling: Sampling,
        samples: int = 1,
        fallback: str | None = None,
        read: Callable[[str], str | None] | None = None,
        thoughts: bool = False,
    ):
        """`read` makes a text of an answer, None where there is none, by default `passage`; `thoughts` are part of it.

        Raises ValueError for settings that cannot be, and for several samples at temperature 0, which are all the same.
        """
        if samples < 1 or fallback not in (None, "keep"):
            raise ValueError(f'samples is at least 1 and fallback "keep" or None, not {samples} and {fallback!r}')
        if samples > 1 and sampling.temperature == 0:
            raise ValueError(f"{samples} samples at temperature 0 are all the same: give sampling a temperature, or 1")
        self.samples, self.read, self.thoughts = samples, read or passage, thoughts
        self.asker = Asker(generator, sampling, fallback)

    def write(self, chats: Sequence[Chat]) -> list[list[str]]:
        """The texts of each chat. Raises ValueError for a failure, or leaves it out where the fallback is keep."""
        return [[text for text in texts if text is not None] for texts in self.slots(chats)]

    def slots(self, chats: Sequence[Chat]) -> list[list[str | None]]:
        """As `write`, with None in the place of what failed: empty, refused, unreadable, or no answer at all."""
        answers = self.asker.ask(chats, self._read, FIX, self.samples, self.thoughts)
        return [answers[start : start + self.samples] for start in range(0, len(answers), self.samples)]

    def provenance(self) -> dict[str, Any]:
        """What determines a text, as plain values, and counts of all that was asked so far."""
        return {"samples": self.samples, **self.asker.about(), **self.asker.counts()}

    def _read(self, place: int, answer: str) -> str | None:
        return None if REFUSAL.match(answer.strip()) else self.read(answer)


class Kinds:
    """Texts of several kinds for each query, each kind by a prompt of its own."""

    def __init__(self, family: str, kinds: Sequence[str], known: Sequence[str], folder: Path | None, texts: Texts):
        """Prompts are <family>_<kind>.txt in `folder`. Raises ValueError for no kind, one unknown, one named twice."""
        unknown = [kind for kind in kinds if kind not in known]
        if unknown or not kinds or len({*kinds}) != len(kinds):
            wrong = f"there is no {unknown[0]!r}" if unknown else f"name some, each once, not {list(kinds)}"
            raise ValueError(f"{family} has the kinds {', '.join(known)}: {wrong}")
        own = {kind: Path(folder) / f"{family}_{kind}.txt" if folder else None for kind in kinds}
        self.prompts = {kind: prompt_of(f"{family}_{kind}", own[kind], ("query",)) for kind in kinds}
        self.texts = texts

    def write(self, queries: Queries) -> list[list[str]]:
        """The texts of each query, kind by kind; all are asked for in one call."""
        chats = [prompt.messages(query=query) for query in queries.texts for prompt in self.prompts.values()]
        return joined(self.texts.write(chats), len(self.prompts))

    def provenance(self) -> dict[str, Any]:
        """As that of `Texts`, with the prompt of each kind."""
        return {"prompts": {kind: one.about() for kind, one in self.prompts.items()}, **self.texts.provenance()}


def joined(lists: Sequence[Sequence[Item]], each: int) -> list[list[Item]]:
    """The items of every `each` lists as one list."""
    return [[item for one in lists[start : start + each] for item in one] for start in range(0, len(lists), each)]


def prompt_of(name: str, own: Path | None, needed: Sequence[str], optional: Sequence[str] = ()) -> MessagePrompt:
    """The user's own prompt, or that of this name beside the writers. Raises ValueError that says what it lacks."""
    return MessagePrompt.read(prompt_file("prf.writers", name, own), needed, optional)


def passage(answer: str) -> str | None:
    """An answer in one line, without quotes around it; None where it has no letter or digit."""
    text = " ".join(answer.split())
    if len(text) > 1 and text[0] + text[-1] in QUOTES and text[0] not in text[1:-1] and text[-1] not in text[1:-1]:
        text = text[1:-1].strip()
    return text if any(one.isalnum() for one in text) else None


def examples_in(path: Path, count: int) -> list[tuple[str, str]]:
    """The first queries of a JSONL file, each with its text.

    Lines are {"query": ..., "text": ...}, or {"query": ..., "passages": [...]}, of which the first counts. Raises
    ValueError that names the line that is wrong, and where there are fewer.
    """
    if count < 1:
        raise ValueError(f"shots is {count}; of examples it needs at least 1")
    found: list[tuple[str, str]] = []
    for number, line in lines(Path(path)):
        found.append(_example(line, f"{path}:{number}"))
        if len(found) == count:
            return found
    raise ValueError(f"{path} has {len(found)} examples, and {count} are wanted: add some, or lower shots")


def _example(line: bytes, where: str) -> tuple[str, str]:
    try:
        record = json.loads(line)
        text = record["text"] if "text" in record else record["passages"][0]
        query = record["query"]
    except (ValueError, KeyError, TypeError, IndexError):
        query = text = None
    if not (isinstance(query, str) and isinstance(text, str) and query.strip() and text.strip()):
        raise ValueError(f'{where}: each line is {{"query": ..., "text": ...}} or {{"query": ..., "passages": [...]}}')
    return query, text
