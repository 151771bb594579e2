"""Make training data of a collection: `python -m retrieval.synthesize configs/x.yaml`. Killed, it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval.cli import run
from retrieval.locate import cache_folder
from retrieval.protocols import COUNTED, Dataset, Synthesizer

__all__ = ["synthesize"]


def synthesize(dataset: Dataset, synthesizer: Synthesizer, out: Path | None = None) -> dict[str, Any]:
    """Write what the synthesizer makes of a collection to OUT/collection, for `{type: folder, path: OUT/collection}`.

    It is in BEIR layout, judgements in split train, and appears when it is whole; synthesis.json in it says what it was
    made of. What was made and dropped is printed, and what asking a language model cost.
    """
    folder = (out or cache_folder()) / "collection"
    counts = dict(synthesizer.synthesize(dataset.open(), folder))
    about = synthesizer.provenance() if hasattr(synthesizer, "provenance") else {}
    costs = {what: count for what, count in about.items() if what.startswith(COUNTED) and what not in counts}
    print(f"{folder}:")
    for what, count in {**counts, **costs}.items():
        print(f"{what}: {count}")
    return {"counts": counts, "costs": costs}


if __name__ == "__main__":
    run(synthesize)
