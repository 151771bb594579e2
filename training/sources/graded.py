"""A JSONL file of queries, each with a list of graded passages, as texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval.lists import Lists
from training.listed_texts import Listed, Record, data_file, file_digest, is_number, read_lists

__all__ = ["Graded"]

FORM = (
    'a line is {"query": text, "passages": [{"text": ..., "label": number}, ...]}, and may have "query_id"; a passage '
    'may have "id", "title" and "score"'
)


class Graded:
    """Lists of passages with grades.

    A line is {"query": ..., "passages": [{"text": ..., "label": ...}, ...]}, and may give "query_id"; a passage may
    give "id", "title", and the "score" of a teacher: all passages or none. Texts without ids are the same where they
    are equal. Lines of the same query are one list, in which a passage has the last of its labels.
    """

    def __init__(self, path: Path):
        """`path` is below RETRIEVAL_DATA, or anywhere."""
        self.path = path

    def lists(self) -> Lists:
        """The lists of the file. Raises ValueError with file and line for what is no graded list."""
        return read_lists(self.path, _graded)

    def provenance(self) -> dict[str, str]:
        """What the file was."""
        return {"sha256": file_digest(data_file(self.path))}


def _graded(found: Any) -> Record:
    fits = isinstance(found, dict) and {"query", "passages"} <= set(found) <= {"query", "passages", "query_id"}
    if not fits or not isinstance(found["passages"], list):
        raise ValueError(FORM)
    return Record(found["query"], found.get("query_id"), [_passage(one) for one in found["passages"]])


def _passage(found: Any) -> Listed:
    if not isinstance(found, dict) or not {"text", "label"} <= set(found) <= {"text", "label", "id", "title", "score"}:
        raise ValueError(FORM)
    for name in ("label", "score"):
        if name in found and not is_number(found[name]):
            raise ValueError(f'"{name}" is to be a number, not {found[name]!r}')
    return Listed(found["text"], found["label"], found.get("score"), found.get("id"), found.get("title", ""))
