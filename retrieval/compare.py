"""Compare runs query by query: `python -m retrieval.compare configs/x.yaml`. `--why A B`: why two results differ."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eval import evaluate
from eval.cells import Cell
from eval.changes import Change, changes
from eval.comparison import Comparison
from eval.comparison import compare as compared
from eval.comparison_report import print_comparison
from eval.comparison_text import json_text, latex, markdown
from eval.resampling import RESAMPLES
from eval.texts import texts_of
from retrieval.cli import errors_in_a_line, run
from retrieval.files import whole_file
from retrieval.looks import look, told
from retrieval.protocols import Dataset
from retrieval.run_file import find_run, read_run
from retrieval.search import MEASURES, check
from retrieval.why import why
from retrieval.why_report import print_why

__all__ = ["compare", "run_or_why"]


def compare(
    dataset: Dataset,
    runs: dict[str, Path],
    split: str = "test",
    measures: list[str] = MEASURES,  # noqa: B006 - read only
    baseline: str | None = None,
    correction: str = "holm",
    resamples: int = RESAMPLES,
    seed: int = 0,
    changed: int = 3,
    out: Path | None = None,
) -> dict[str, Any]:
    """Test every difference between runs, and show the queries that `changed` most; LaTeX, Markdown, JSON go to OUT.

    `runs` names run files or folders of results, which may be below RETRIEVAL_DATA. Each is compared with `baseline`,
    or without one with all others, by a paired t-test, randomisation and bootstrap, corrected by holm, bonferroni or
    benjamini-hochberg. `python -m retrieval.compare --why A B` says instead in what two folders of results differ.
    """
    if changed < 0:
        raise ValueError(f"changed is {changed}: how many queries to show of each pair, 0 for none")
    files = {name: find_run(path) for name, path in runs.items()}
    collection = dataset.open()
    check(collection, split, measures)
    qrels, task = collection.qrels(split), f"{collection.name}, {split}"
    cells = [
        Cell(name, task, evaluate(one, qrels, measures), one, qrels)
        for name, one in ((name, read_run(path, name=name)) for name, path in files.items())
    ]
    comparison = compared(cells, baseline, correction, resamples, seed)
    found = [one.run for one in cells]
    shown = changes(comparison, texts_of(collection, split, found, qrels), changed) if changed else []
    seen = look(collection, split, "compare", found)
    print_comparison(comparison, shown)
    print(told(seen))
    if out:
        _write(comparison, shown, out)
    read = {name: {"file": str(path), "sha256": _digest(path)} for name, path in files.items()}
    return comparison.to_dict() | {"runs": read, "looks": seen}


def run_or_why(function: Callable, arguments: Sequence[str] | None = None) -> Any:
    """What the command line says: a recipe, or `--why A B`. Exits as `retrieval.cli.run` does."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] != ["--why"]:
        return run(function, given)
    with errors_in_a_line():
        if len(given) != 3:
            raise ValueError(f"--why takes two folders of results, or their manifests, and was given {len(given) - 1}")
        print_why(why(Path(given[1]), Path(given[2])))
    return None


def _write(comparison: Comparison, shown: Sequence[Change], out: Path) -> None:
    written = {
        "comparison.tex": latex(comparison),
        "comparison.md": markdown(comparison, shown),
        "comparison.json": json_text(comparison, shown),
    }
    for name, text in written.items():
        with whole_file(out / name) as part:
            part.write_text(text, encoding="utf-8")
    print(f"written: {', '.join(str(out / name) for name in written)}")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    run_or_why(compare)
