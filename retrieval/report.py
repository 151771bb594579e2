"""A page and pictures of results beside each other: `python -m retrieval.report configs/report/x.yaml`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval import evaluate
from eval.cells import Cell
from eval.page import write_page
from eval.plots import write_plots
from eval.report import figures, print_report
from eval.texts import texts_of
from retrieval.cli import run
from retrieval.looks import look, told
from retrieval.protocols import Dataset
from retrieval.run_file import find_run, read_run
from retrieval.search import MEASURES, check
from retrieval.types import Run
from retrieval.why import read

__all__ = ["report"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Result:
    """A run, and what the folder that it is in says of it."""

    run: Run
    path: Path
    manifest: Mapping[str, Any] | None
    training: list[dict[str, Any]]

    @property
    def cost(self) -> dict[str, float]:
        """What retrieving cost, and bytes per vector, where the manifest tells."""
        results = _block((self.manifest or {}).get("results"))
        own = _block(results.get(self.path.stem if self.path.stem == "baseline" in results else self.run.name))
        sizes = {name: value for name, value in _block(own.get("index")).items() if name.startswith("bytes")}
        return {**_block(own.get("cost")), **sizes}


def report(
    dataset: Dataset,
    runs: dict[str, Path],
    split: str = "test",
    measures: list[str] = MEASURES,  # noqa: B006 - read only
    baseline: str | None = None,
    title: str | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Write OUT/report.html, one file that opens offline, and its charts as PNG and SVG to OUT/plots.

    `runs` names run files, or folders of results, whose manifests give cost and training curves; paths may be below
    RETRIEVAL_DATA. Differences are from `baseline`, or on the page from the first run. Without `title` the page is
    named after the collection and the split.
    """
    if not runs or "looks" in runs:
        raise ValueError("runs: name another so, looks is taken" if runs else "runs: name at least one run file")
    if baseline is not None and baseline not in runs:
        raise ValueError(f"baseline {baseline!r} is none of the runs: {', '.join(runs)}")
    collection = dataset.open()
    check(collection, split, measures)
    found = {name: _result(find_run(path)) for name, path in runs.items()}
    qrels, task = collection.qrels(split), f"{collection.name}, {split}"
    cells = [
        Cell(name, task, evaluate(one.run, qrels, measures), one.run, qrels, one.cost) for name, one in found.items()
    ]
    systems = {cell.system: cell.evaluation for cell in cells}
    seen = look(collection, split, "report", [cell.run for cell in cells])
    print_report(systems, task, baseline, [told(seen)])
    if out:
        texts = {task: texts_of(collection, split, [cell.run for cell in cells], qrels)}
        training = {name: one.training for name, one in found.items() if one.training}
        manifests = {name: one.manifest for name, one in found.items() if one.manifest}
        page = write_page(out / "report.html", cells, title or task, baseline, texts, training, manifests=manifests)
        plots = write_plots(out / "plots", cells, baseline, texts, training)
        print(f"page:     {page} ({page.stat().st_size / 1e6:.1f} MB)\npictures: {len(plots)} in {out / 'plots'}")
    return figures(systems, baseline) | {"looks": seen}


def _result(path: Path) -> _Result:
    about, lines = path.parent / "manifest.json", path.parent / "training.jsonl"
    manifest = _manifest(about) if about.is_file() else None
    trained = path.stem == "trained" and lines.is_file()
    training = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()] if trained else []
    return _Result(read_run(path), path, manifest, training)


def _manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a folder that a run file lies in; any tool's file may be called so, and says nothing here."""
    try:
        return read(path)
    except ValueError as error:
        log.warning("%s; it tells no cost", error)
        return None


def _block(value: Any) -> dict[str, Any]:
    """A block of a manifest; empty where a manifest of another version has none, or something else there."""
    return value if isinstance(value, dict) else {}


if __name__ == "__main__":
    run(report)
