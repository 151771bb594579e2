"""What QueryGym's runs made of their queries: the new query whole, and the texts that a model wrote for it.

python scripts/bench/querygym.py QUERIES.jsonl RUN.queries.tsv OUT.jsonl    # lines for the writer `recorded`
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

__all__ = ["asked", "expanded", "texts"]


def asked(path: Path) -> dict[str, str]:
    """The queries of a collection, by id."""
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {str(record["_id"]): record["text"].strip() for record in records}


def expanded(path: Path, queries: dict[str, str]) -> dict[str, str]:
    """The new query of each query of a run: an id, a tab and a text that may go on over several lines."""
    found: dict[str, str] = {}
    name = ""
    for line in path.read_text(encoding="utf-8").split("\n"):
        first, tab, rest = line.partition("\t")
        name, line = (first, rest) if tab and (first in queries or first.isdigit()) else (name, f" {line}")
        if not name:
            sys.exit(f"{path} begins with {line[:40]!r}, which is no query of the collection")
        found[name] = found.get(name, "") + line
    return found


def texts(query: str, new: str) -> list[str]:
    """What was written: the parts of the new query between the repetitions of the query."""
    parts = re.split(re.escape(query), new, flags=re.IGNORECASE) if query else [new]
    return [part.strip() for part in parts if part.strip(" .,;:?!\"'\n")]


def main(queries: Path, run: Path, out: Path) -> None:
    """Write the texts of each query of a run."""
    known = asked(queries)
    with open(out, "w", encoding="utf-8") as file:
        for query, new in expanded(run, known).items():
            file.write(json.dumps({"_id": query, "texts": texts(known[query], new)}, ensure_ascii=False) + "\n")
    print(f"texts in {out}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
