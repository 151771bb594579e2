"""Texts that were written before, from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from prf.append import Append
from retrieval.columns import lines
from retrieval.types import Feedback, Queries

__all__ = ["Recorded"]


class Recorded:
    """Texts that any tool wrote for each query: lines of {"_id": query id, "texts": [...]}."""

    needs = ()

    def __init__(self, path: Path):
        """`path` is a JSONL file, read when the first text is asked for."""
        self.path = Path(path)

    def write(self, queries: Queries, feedback: Feedback | None) -> list[list[str]]:
        """The texts of each query, none where the file has none. Raises ValueError with the line that is wrong."""
        return [self._texts.get(query, []) for query in queries.ids]

    def join(self) -> Append:
        """The texts after the query."""
        return Append()

    def provenance(self) -> dict[str, Any]:
        """Which file it is, for the manifest."""
        return {"path": str(self.path), "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest()}

    @cached_property
    def _texts(self) -> dict[str, list[str]]:
        return dict(_read(self.path))


def _read(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Query id and texts of each line. Raises ValueError with file and line."""
    seen = set()
    for number, line in lines(path):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: not JSON ({error})") from None
        query, texts = (record.get("_id"), record.get("texts")) if isinstance(record, dict) else (None, None)
        if not isinstance(query, str) or not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise ValueError(f'{path}:{number}: each line is {{"_id": query id, "texts": [text, ...]}}')
        if query in seen:
            raise ValueError(f"{path}:{number}: query {query!r} is given twice; put all its texts in one line")
        seen.add(query)
        yield query, texts
