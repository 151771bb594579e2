"""Requests as a model reads them: chat template, tokens, whether there is room, and the seed of the random numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from retrieval.chat_prompt import DATE
from retrieval.model_files import tokenizer_hash
from retrieval.sampling import Request

__all__ = ["FORMAT", "Prompt", "PromptReader"]

FORMAT = 2  # of prompts and texts, in contracts: answers of another are asked for again
THOUGHTS = "<think>"


@dataclass(frozen=True)
class Prompt:
    """What a model reads; `failure` says why it cannot."""

    text: str
    ids: Sequence[int] = ()
    seed: int = 0  # of this request's random numbers
    failure: str | None = None
    opened: bool = False  # the chat template has opened the model's thoughts, whose tag the answer then lacks

    def whole(self, text: str) -> str:
        """The answer with the tag that opens its thoughts, also where the template has written it."""
        return THOUGHTS + text if self.opened else text


class PromptReader:
    """Renders and tokenises requests with what is in a model's folder."""

    def __init__(self, folder: Path, model: str, options: Mapping[str, Any]):
        """`model` is its name, for errors; `options` are the chat template's, such as enable_thinking."""
        from transformers import AutoConfig, AutoTokenizer

        self.model, self.options = model, dict(options)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.config = AutoConfig.from_pretrained(folder).get_text_config()

    def read(self, request: Request, room: int | None = None, virtual: int = 0) -> Prompt:
        """The prompt of a request. `room` is the most tokens of prompt, answer and `virtual` ones; None is the model's.

        Raises ValueError for messages where the model has no chat template.
        """
        text, refused = self._text(request)
        if refused:
            return Prompt("", failure=refused)
        ids = self.tokenizer(text, add_special_tokens=request.messages is None, verbose=False).input_ids
        room = room or getattr(self.config, "max_position_embeddings", None)
        needed = len(ids) + virtual + request.sampling.max_tokens
        failure = None
        if not ids:
            failure = "the prompt is empty"
        elif room and needed > room:
            soft = f", {virtual} virtual tokens" if virtual else ""
            failure = (
                f"a prompt of {len(ids)} tokens{soft} and max_tokens {request.sampling.max_tokens} are more than the "
                f"{room} tokens that {self.model} takes: shorten the texts, or lower max_tokens"
            )
        opened = request.messages is not None and text.rstrip().endswith(THOUGHTS)
        return Prompt(text, ids, seed(request, text), failure, opened)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, control tokens left out."""
        return str(self.tokenizer.decode([*ids], skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def kept(self, ids: Sequence[int], text: str) -> int:
        """How many of the first tokens make up this text, which is theirs or a part of it from the start."""
        count = len(ids)
        while count and self.decode(ids[: count - 1]).startswith(text):
            count -= 1
        return count

    def about(self) -> dict[str, Any]:
        """What determines a prompt, as plain values for a contract."""
        template = self.tokenizer.chat_template  # one, or several by name
        text = json.dumps(template, sort_keys=True) if isinstance(template, Mapping) else template
        digest = None if text is None else hashlib.sha256(text.encode()).hexdigest()
        return {
            "format": FORMAT,
            "tokenizer": tokenizer_hash(self.tokenizer),
            "chat template": digest,
            "template options": self.options,
        }

    def _text(self, request: Request) -> tuple[str, str | None]:
        """The rendered prompt, and why there is none."""
        from jinja2.exceptions import TemplateError

        if request.messages is None:
            return request.prompt or "", None
        if not self.tokenizer.chat_template:
            raise ValueError(
                f"{self.model} has no chat template: take a chat model, or add chat_template.jinja to its folder"
            )
        turns = [dict(one) for one in request.messages]
        template = dated(self.tokenizer.get_chat_template())
        how = {"tokenize": False, "add_generation_prompt": True, "date_string": DATE, "chat_template": template}
        try:
            return str(self.tokenizer.apply_chat_template(turns, **{**how, **self.options})), None
        except TemplateError as error:
            return (
                "",
                f"the chat template of {self.model} refuses these turns ({error}): name a prompt file without them",
            )


def dated(template: str) -> str:
    """The template with a strftime_now of its own, which says DATE: transformers takes no function for it."""
    if "strftime_now" not in template:
        return template
    now = datetime.strptime(DATE, "%d %b %Y")
    parts = [f"%{flag}{part}" for flag in ("", "-") for part in "aAbBdejmyYHIMSpcxXDFTuwUV"] + ["%%"]
    said = "".join(f" | replace({part!r}, {now.strftime(part)!r})" for part in parts)
    return f"{{% macro strftime_now(format) %}}{{{{ format{said} }}}}{{% endmacro %}}\n{template}"


def seed(request: Request, text: str) -> int:
    """Of a request's random numbers: of its own seed and sample, and of the rendered prompt, whatever is beside it."""
    named = f"{request.sampling.seed}\n{request.sample}\n{text}"
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:4], "big")
