"""Texts that QueryGym's runs added to their queries, as JSONL for `type: generated`.

python scripts/querygym_texts.py QUERIES.jsonl RUN.queries.tsv OUT.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(queries: Path, run: Path, out: Path) -> None:
    """Each line of a run is an id and a query that was repeated before the text was added: what is left is the text."""
    records = map(json.loads, queries.read_text(encoding="utf-8").splitlines())
    asked = {str(record["_id"]): record["text"].strip() for record in records}
    texts: dict[str, str] = {}
    name = ""
    for line in run.read_text(encoding="utf-8").split("\n"):  # a text may go on over several lines
        first, tab, rest = line.partition("\t")
        name, line = (first, rest) if tab and first in asked else (name, f" {line}")
        if not name:
            sys.exit(f"{run} begins with {line[:40]!r}, which is no query of {queries}")
        texts[name] = texts.get(name, "") + line
    with open(out, "w", encoding="utf-8") as file:
        for query, text in texts.items():
            while asked[query] and text.lower().startswith(asked[query].lower()):
                text = text[len(asked[query]) :].strip()
            file.write(json.dumps({"_id": query, "texts": [text]}, ensure_ascii=False) + "\n")
    print(f"{len(texts)} texts in {out}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
