"""A JSONL file of queries, each with a positive and negatives, as texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval.lists import Lists
from training.listed_texts import Listed, Record, data_file, file_digest, is_number, read_lists

__all__ = ["Triples"]

FORM = (
    'a line is {"query": text, "positive": text, "negative": text or list of texts}, and may have "query_id", '
    '"positive_id", "negative_id" and "scores"'
)
KEYS = {"query", "positive", "negative", "query_id", "positive_id", "negative_id", "scores"}


class Triples:
    """Triples of query, positive and negatives; positives are labelled 1 and negatives 0.

    A line is {"query": ..., "positive": ..., "negative": ...}; "negative" is a text or a list of them. It may give
    "query_id", "positive_id", "negative_id" (one or a list, as the texts), and "scores" of a teacher, the positive's
    first: all lines or none. Texts without ids are the same where they are equal. Lines of the same query are one
    list, in which what is positive in any line is positive.
    """

    def __init__(self, path: Path):
        """`path` is below RETRIEVAL_DATA, or anywhere."""
        self.path = path

    def lists(self) -> Lists:
        """The lists of the file. Raises ValueError with file and line for what is no triple."""
        return read_lists(self.path, _triple, again="highest")

    def provenance(self) -> dict[str, str]:
        """What the file was."""
        return {"sha256": file_digest(data_file(self.path))}


def _triple(found: Any) -> Record:
    if not isinstance(found, dict) or not {"query", "positive", "negative"} <= set(found) <= KEYS:
        raise ValueError(FORM)
    texts = [found["positive"], *_several(found["negative"])]
    ids = [found.get("positive_id"), *_several(found.get("negative_id", [None] * (len(texts) - 1)))]
    scores = found.get("scores", [None] * len(texts))
    if len(ids) != len(texts) or not isinstance(scores, list) or len(scores) != len(texts):
        raise ValueError(f"{len(texts) - 1} negatives take as many ids, and one score more; {FORM}")
    if "scores" in found and not all(map(is_number, scores)):
        raise ValueError(f'"scores" are to be numbers, not {scores!r}')
    labels = [1.0] + [0.0] * (len(texts) - 1)
    return Record(found["query"], found.get("query_id"), list(map(Listed, texts, labels, scores, ids)))


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
