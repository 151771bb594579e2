"""What is known of collections by name: how many documents, queries and judgements they hold, and digests of each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import yaml

from retrieval.collection import Collection
from retrieval.types import Qrels

__all__ = ["Known", "digest_of_qrels", "digest_of_queries", "known", "known_names"]

FILE = Path(__file__).with_name("known_collections.yaml")


@dataclass(frozen=True)
class Known:
    """Known values of one collection; what is not known is absent."""

    name: str
    source: str  # who says so
    documents: int | None = None
    splits: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)  # queries and judgements of each
    digests: Mapping[str, str] = field(default_factory=dict)  # of "corpus", "queries" and the splits, by content
    remark: str = ""


def known(collection: Collection) -> Known | None:
    """What is known of a collection by its folder (`cqadupstack/android`) or its name; None where nothing is.

    A collection that ir_datasets opened has the name of its id, with the split last.
    """
    folder = "/".join(collection.folder.resolve().parts[-2:])
    names = [folder, collection.name]
    for prefix in ("beir-", "nano-beir-"):
        if collection.name.startswith(prefix):
            rest = collection.name.removeprefix(prefix)
            family = "nano-beir/" if prefix.startswith("nano") else ""
            names += [family + rest, family + rest.rpartition("-")[0], family + rest.replace("-", "/", 1)]
    return next((_all()[name] for name in names if name in _all()), None)


def known_names() -> list[str]:
    """The collections of which something is known."""
    return sorted(_all())


def digest_of_queries(texts: Mapping[str, str]) -> str:
    """The same for the same queries in any order and any file format."""
    return _digest(f"{name}\0{text}" for name, text in sorted(texts.items()))


def digest_of_qrels(qrels: Qrels) -> str:
    """The same for the same judgements in any order and any file format."""
    names = np.array(qrels.query_ids, object)[qrels.query] if len(qrels) else []
    judged = zip(names, qrels.doc_ids.to_pylist(), qrels.grades.tolist(), strict=True)
    return _digest(f"{query}\0{document}\0{grade}" for query, document, grade in sorted(judged))


def _digest(lines) -> str:  # type: ignore[no-untyped-def]
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode() + b"\n")
    return found.hexdigest()


@cache
def _all() -> Mapping[str, Known]:
    held = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    found = {}
    for family in held:
        for name, about in family["collections"].items():
            splits = {split: tuple(counts) for split, counts in about.pop("splits", {}).items()}
            found[name] = Known(name, family["source"], splits=splits, **about)  # type: ignore[arg-type]
    return found
