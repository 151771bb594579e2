"""Prompts for chat models: files of turns, with places for texts, rendered or filled in for a model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["TEXT", "ChatPrompt", "MessagePrompt", "Rendered", "prompt_file"]

TEXT = "{text}"  # where the text goes
PLACE = re.compile(r"\{(\w+)\}")
TURN = re.compile(r"^\[(\w+)\][ \t]*$", re.MULTILINE)
DATE = "26 Jul 2024"  # some templates put today's date in, and a prompt must not change overnight
ROLES = ("system", "user", "assistant")

Turns = tuple[tuple[str, str], ...]  # role and content


def prompt_file(package: str, name: str, own: Path | None) -> Any:
    """The user's own file, or that of this name in the folder `prompts` of a package."""
    from importlib.resources import files

    return Path(own) if own else files(package) / "prompts" / f"{name}.txt"


def read_turns(path: Any) -> tuple[str, Turns]:
    """Id and version, and the turns that are not empty.

    A file begins with `# id version`; each turn follows a line with its role: [system], [user], [assistant]. Raises
    ValueError for another first line; there are no turns where something stands above them, or a role is unknown.
    """
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    if not re.fullmatch(r"# \S+ \S+", first.strip()):
        raise ValueError(f"{path} begins with {first[:40]!r}: the first line is `# id version`")
    above, *parts = TURN.split(rest)
    turns = tuple((role, content.strip()) for role, content in zip(parts[::2], parts[1::2], strict=True))
    known = not above.strip() and {role for role, _ in turns} <= {*ROLES}
    return first.strip()[2:], tuple(turn for turn in turns if turn[1]) if known else ()


@dataclass(frozen=True)
class Rendered:
    """What a model reads before and after a text."""

    name: str
    before: str
    after: str

    def about(self) -> dict[str, str]:
        """Plain values, for a contract."""
        return {"prompt": self.name, "before": self.before, "after": self.after}


@dataclass(frozen=True)
class ChatPrompt:
    """The turns of a chat with a place for a text; the last is the assistant's, which the model goes on with."""

    name: str  # id and version
    turns: Turns
    source: str

    @classmethod
    def read(cls, path: Any) -> ChatPrompt:
        """The prompt in a file. Raises ValueError that says what the file lacks."""
        name, turns = read_turns(path)
        if not turns or turns[-1][0] != "assistant":
            raise ValueError(
                f"{path} is turns under [system], [user] and last [assistant], which the model goes on with"
            )
        if sum(content.count(TEXT) for _, content in turns) != 1:
            raise ValueError(f"{path} needs {TEXT} once, where the text goes")
        return cls(name, turns, str(path))

    def render(self, tokenizer: Any, model: str) -> Rendered:
        """What comes before and after the text. Raises ValueError for a template that does not take these turns."""
        from jinja2.exceptions import TemplateError

        if not tokenizer.chat_template:
            raise ValueError(
                f"{model} has no chat template: take a chat model, or add chat_template.jinja to its folder"
            )
        messages = [{"role": role, "content": content} for role, content in self.turns]
        try:
            whole = tokenizer.apply_chat_template(
                messages, tokenize=False, continue_final_message=True, date_string=DATE
            )
        except TemplateError as error:
            raise ValueError(f"the chat template of {model} refuses {self.source} ({error}): {_OWN}") from None
        lost = next((role for role, content in self.turns if content not in whole), None)
        if lost or whole.count(TEXT) != 1:
            raise ValueError(f"the chat template of {model} leaves out or repeats a turn ({lost}): {_OWN}")
        return Rendered(self.name, *whole.split(TEXT))


_OWN = "name a prompt file of your own with turns that it takes, such as one without [system]"


@dataclass(frozen=True)
class MessagePrompt:
    """The turns of a chat with places such as `{query}`, filled in without reading what is filled in."""

    name: str  # id and version
    turns: Turns
    digest: str  # SHA-256 of the file

    @classmethod
    def read(cls, path: Any, needed: Collection[str], optional: Collection[str] = ()) -> MessagePrompt:
        """The prompt in a file. Raises ValueError that says what it lacks, or which place nothing is known of."""
        name, turns = read_turns(path)
        if not turns or turns[-1][0] != "user":
            raise ValueError(f"{path} is turns under [system], [user] and [assistant], the last of them [user]")
        found = {place for _, content in turns for place in PLACE.findall(content)}
        lacking, unknown = sorted({*needed} - found), sorted(found - {*needed, *optional})
        if lacking or unknown:
            wrong = f"lacks {{{lacking[0]}}}" if lacking else f"has {{{unknown[0]}}}, of which nothing is known"
            places = ", ".join(f"{{{one}}}" for one in [*needed, *optional])
            raise ValueError(f"{path} {wrong}: the places are {places}")
        return cls(name, turns, hashlib.sha256(path.read_bytes()).hexdigest())

    def messages(self, **values: object) -> list[dict[str, str]]:
        """The chat with these values in their places; braces within a value stay what they are."""
        return [
            {"role": role, "content": PLACE.sub(lambda place: str(values[place[1]]), content)}
            for role, content in self.turns
        ]

    def about(self) -> dict[str, str]:
        """Plain values, for a contract."""
        return {"prompt": self.name, "prompt sha256": self.digest}
