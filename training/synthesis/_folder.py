"""The folder of a synthetic collection: written whole, with what it was made of and what was counted on the way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from retrieval.collection import write_collection
from retrieval.corpus import Document
from retrieval.files import digest, whole_folder

__all__ = ["NAME", "Made", "refuse_empty", "written"]

NAME = "synthesis.json"


@dataclass
class Made:
    """What a synthesizer has made so far besides documents; filled while these are written."""

    queries: dict[str, str] = field(default_factory=dict)  # id -> text
    qrels: dict[str, dict[str, int]] = field(default_factory=dict)  # query id -> document id -> label
    counts: Counter[str] = field(default_factory=Counter)


def written(
    folder: Path,
    made_of: Mapping[str, Any],
    documents: Callable[[Made], Iterable[Document]],
    instructions: Mapping[str, str] = MappingProxyType({}),
) -> Mapping[str, int]:
    """Write a collection with judgements in split train, and synthesis.json beside them; its counts.

    `instructions` are those of queries that may be in it, by id. What an earlier call with equal `made_of` (plain
    values) wrote is left as it is. Raises ValueError where the folder was made of something else.
    """
    instructed = {"instructions": digest(dict(instructions))} if instructions else {}
    made_of = json.loads(json.dumps({**made_of, **instructed}))
    if (folder / NAME).is_file():
        about = json.loads((folder / NAME).read_text(encoding="utf-8"))
        there = about["made of"]
        differing = [key for key in {**made_of, **there} if made_of.get(key) != there.get(key)]
        if differing:
            shown = f"{differing[0]} is {there.get(differing[0])} there, {made_of.get(differing[0])} here"
            raise ValueError(f"{folder} was made of something else ({shown}): choose another folder, or delete it")
        return about["counts"]
    made = Made()
    with whole_folder(folder) as part:
        write_collection(part, documents(made), made.queries, {"train": made.qrels}, instructions=instructions)
        about = {"counts": made.counts, "made of": made_of}
        (part / NAME).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return dict(made.counts)


def refuse_empty(made: Made) -> None:
    """Raises ValueError where no query is left, with what dropped how many."""
    if not made.queries:
        dropped = {what: count for what, count in made.counts.items() if what.startswith("dropped: ")}
        why = ", ".join(f"{what.removeprefix('dropped: ')} {count}" for what, count in dropped.items())
        raise ValueError(f"the synthetic set is empty: of {made.counts['queries']} queries none is left; {why}")
