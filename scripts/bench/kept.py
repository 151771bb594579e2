"""Finished runs of a bench, a JSON line each with the settings it was made with; those of other settings stay unread."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Kept"]


class Kept:
    """What earlier calls of a bench found with the same settings, so that the same command goes on where it stopped."""

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        """`settings` are plain values, all that a figure follows from but what names its run."""
        self.path, self.settings = path, json.loads(json.dumps(settings))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.path.is_file():
            found = map(json.loads, self.path.read_text().splitlines())
            yield from (one for one in found if one.get("settings") == self.settings)

    def has(self, **run: Any) -> bool:
        """Whether a run of this name is finished."""
        return any(run.items() <= one.items() for one in self)

    def add(self, **line: Any) -> None:
        """Keep a finished run: its name, and what it found."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({**line, "settings": self.settings}) + "\n")
