"""Prompts for chat models: a file of turns around a text, rendered by the chat template that a tokenizer has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["TEXT", "ChatPrompt", "Rendered"]

TEXT = "{text}"  # where the text goes
TURN = re.compile(r"^\[(\w+)\][ \t]*$", re.MULTILINE)
DATE = "26 Jul 2024"  # some templates put today's date in, and a prompt must not change overnight


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
    """The turns of a chat with a place for a text; the last is the assistant's, which the model goes on with.

    A file begins with `# id version`; each turn follows a line with its role: [system], [user], [assistant].
    """

    name: str  # id and version
    turns: tuple[tuple[str, str], ...]  # role and content
    source: str

    @classmethod
    def read(cls, path: Any) -> ChatPrompt:
        """The prompt in a file. Raises ValueError that says what the file lacks."""
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
        if not re.fullmatch(r"# \S+ \S+", first.strip()):
            raise ValueError(f"{path} begins with {first[:40]!r}: the first line is `# id version`")
        above, *parts = TURN.split(rest)
        turns = tuple(
            (role, content.strip()) for role, content in zip(parts[::2], parts[1::2], strict=True) if content.strip()
        )
        if above.strip() or not turns or turns[-1][0] != "assistant":
            raise ValueError(
                f"{path} is turns under [system], [user] and last [assistant], which the model goes on with"
            )
        if sum(content.count(TEXT) for _, content in turns) != 1:
            raise ValueError(f"{path} needs {TEXT} once, where the text goes")
        return cls(first.strip()[2:], turns, str(path))

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
