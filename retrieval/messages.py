"""Prompt files to chat messages: turns with named places, filled in without reading what is filled in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["MessagePrompt", "prompt_file"]

PLACE = re.compile(r"\{(\w+)\}")
TURN = re.compile(r"^\[(\w+)\][ \t]*$", re.MULTILINE)
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class MessagePrompt:
    """The turns of a chat with places such as `{query}`.

    A file begins with `# id version`; each turn follows a line with its role: [system], [user], [assistant].
    """

    name: str  # id and version
    turns: tuple[tuple[str, str], ...]  # role and content
    digest: str  # SHA-256 of the file

    @classmethod
    def read(cls, path: Any, needed: Collection[str], optional: Collection[str] = ()) -> MessagePrompt:
        """The prompt in a file. Raises ValueError that says what it lacks, or which place nothing is known of."""
        text = path.read_text(encoding="utf-8")
        first, _, rest = text.partition("\n")
        if not re.fullmatch(r"# \S+ \S+", first.strip()):
            raise ValueError(f"{path} begins with {first[:40]!r}: the first line is `# id version`")
        above, *parts = TURN.split(rest)
        turns = tuple((role, content.strip()) for role, content in zip(parts[::2], parts[1::2], strict=True))
        if above.strip() or not turns or turns[-1][0] != "user" or not {role for role, _ in turns} <= {*ROLES}:
            raise ValueError(f"{path} is turns under [system], [user] and [assistant], the last of them [user]")
        found = {place for _, content in turns for place in PLACE.findall(content)}
        lacking, unknown = sorted({*needed} - found), sorted(found - {*needed, *optional})
        if lacking or unknown:
            wrong = f"lacks {{{lacking[0]}}}" if lacking else f"has {{{unknown[0]}}}, of which nothing is known"
            places = ", ".join(f"{{{one}}}" for one in [*needed, *optional])
            raise ValueError(f"{path} {wrong}: the places are {places}")
        return cls(first.strip()[2:], turns, hashlib.sha256(text.encode()).hexdigest())

    def messages(self, **values: object) -> list[dict[str, str]]:
        """The chat with these values in their places; braces within a value stay what they are."""
        return [
            {"role": role, "content": PLACE.sub(lambda place: str(values[place[1]]), content)}
            for role, content in self.turns
        ]

    def about(self) -> dict[str, str]:
        """Plain values, for a contract."""
        return {"prompt": self.name, "prompt sha256": self.digest}


def prompt_file(package: str, name: str, own: Path | None) -> Any:
    """The user's own file, or that of this name in the folder `prompts` of a package."""
    from importlib.resources import files

    return Path(own) if own else files(package) / "prompts" / f"{name}.txt"
