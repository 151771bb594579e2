"""Recorded generations in the place of a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from retrieval.columns import lines
from retrieval.locate import on_disk
from retrieval.sampling import Request
from retrieval.store import plain
from retrieval.types import Generation

__all__ = ["Replay"]


class Replay:
    """The answers of a file that `GenerationStore.export` wrote: no model runs, and none needs to be there.

    Its contract is that of the model that was recorded. The file stands in for the store, which is neither read nor
    written. A request that is not in the file is a failure.
    """

    recorded: ClassVar[bool] = True

    def __init__(self, file: Path, model: str | None = None):
        """`file` is a path, also below RETRIEVAL_DATA. `model` is a part of the contract of the one that is meant.

        None will do for a file of one model.
        """
        self.file, self.model = file, model

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Generation]]:
        """The recorded answers, in order."""
        for place, request in enumerate(requests):
            found = self._answers.get(plain(request.about()))
            yield place, found or Generation("", failure=self._missing(request))

    def contract(self) -> Mapping[str, Any]:
        """That of the recorded model. Raises ValueError where the file has several and `model` does not tell which."""
        return json.loads(self._chosen[0])

    @property
    def _answers(self) -> dict[str, Generation]:
        return self._chosen[1]

    @cached_property
    def _chosen(self) -> tuple[str, dict[str, Generation]]:
        """The contract of the model, and its answers by request."""
        models = recorded(self._path)
        meant = [contract for contract in models if (self.model or "") in contract]
        if len(meant) != 1:
            listed = "; ".join(models) or "no generation"
            what = f"{len(meant)} models with {self.model!r}" if self.model else f"{len(models)} models"
            raise ValueError(f"{self._path} holds {what}: let `model` be a part of one of these alone: {listed}")
        return meant[0], models[meant[0]]

    @cached_property
    def _path(self) -> Path:
        path = Path(self.file).expanduser()
        folder = on_disk(path.parent, path.name)
        if folder is None:
            raise FileNotFoundError(f"no file {path.absolute()} of recorded generations, nor below RETRIEVAL_DATA")
        return folder / path.name

    @cached_property
    def _prompts(self) -> dict[str, dict[str, Any]]:
        """How each prompt was asked, the last of several ways."""
        asked = [json.loads(one) for one in self._answers]
        return {prompt_of(one): one for one in asked}

    def _missing(self, request: Request) -> str:
        asked = request.about()
        near = self._prompts.get(prompt_of(asked))
        if near is None:
            return f"{self._path} holds no answer to this prompt; record it with a model, and export the store"
        other = [
            f"{name} {near.get(name)!r}, not {value!r}" for name, value in asked.items() if near.get(name) != value
        ]
        return f"{self._path} holds an answer to this prompt with {', '.join(other)}"


def prompt_of(about: Mapping[str, Any]) -> str:
    """What a request asks, however it is sampled."""
    return plain([about.get("messages"), about.get("prompt")])


def _request(about: Any) -> str:
    """As the store writes it, so that 1 and 1.0 ask the same."""
    if not isinstance(about, dict):
        raise TypeError(f"the request is {about!r}")
    return plain(Request.of(about).about())


def recorded(path: Path) -> dict[str, dict[str, Generation]]:
    """Contract -> request -> answer, the first of several. Raises ValueError with the line that is none."""
    models: dict[str, dict[str, Generation]] = {}
    for number, line in lines(path):
        try:
            record = json.loads(line)
            names = ("text", "tokens_in", "tokens_out", "finish_reason", "logprobs")
            answer = Generation(**{name: record[name] for name in names})
            if not isinstance(answer.text, str):
                raise TypeError(f"the text is {answer.text!r}")
            models.setdefault(plain(record["model"]), {}).setdefault(_request(record["request"]), answer)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not an exported generation ({error!r})") from None
    return models
