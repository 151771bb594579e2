"""A report as one HTML file that opens offline: tables, charts, and per query the rankings side by side."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from eval.cautions import cautions
from eval.cells import Cell, Curve, Texts
from eval.comparison import differences, family
from eval.embedded import embedded, size_of
from eval.views import PALETTE, bin_means, by_task, cost_names, depths, length_bins, recall_by_rank, training_curves
from retrieval.files import whole_file

__all__ = ["write_page"]

LARGEST = 19_000_000  # bytes of a page, so that it stays under 20 MB
OF_VALUES = 9_000_000  # of these, per-query values
OF_TEXTS = 10_000_000  # rankings and texts
CORRECTION = "holm"
UNIT = 10_000  # per-query values are written as whole numbers of 1/UNIT


def write_page(
    path: Path,
    cells: Sequence[Cell],
    title: str,
    baseline: str | None = None,
    texts: Mapping[str, Texts] | None = None,
    training: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    curves: Sequence[Curve] = (),
    averages: Mapping[str, Sequence[str]] | None = None,
    manifests: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write the report of some systems on some tasks; differences are from `baseline`, or from the first system.

    `texts` are by task, `training` by model (lines of training.jsonl), `averages` from name to tasks, `manifests` by
    result. The page stays under 20 MB: rankings and texts are kept of the queries that changed most, and of per-query
    values those of the first measures, and the page says how many. An average is empty for a system without one of its
    tasks. Raises ValueError as `by_task` does, and for texts of a task that has no cells.
    """
    tasks = by_task(cells, baseline)
    for task in texts or {}:
        if task not in tasks:
            raise ValueError(f"texts name the task {task!r}, of which there is no cell, only of {', '.join(tasks)}")
    data: dict[str, Any] = {
        "title": title,
        "baseline": baseline,
        "palette": PALETTE,
        "unit": UNIT,
        "systems": list(dict.fromkeys(cell.system for cell in cells)),
        "averages": _averages(tasks) if averages is None else averages,
        "tasks": _tasks(tasks, baseline, texts or {}),
        "training": [_curve(one) for one in training_curves(training or {})],
        "curves": [_curve(one) for one in curves],
        "manifests": [_manifest(name, about) for name, about in (manifests or {}).items()],
    }
    kept = embedded(tasks, baseline, texts or {}, min(OF_TEXTS, LARGEST - size_of(data)))
    for task in data["tasks"]:
        task["embedded"] = kept[task["name"]]
    with whole_file(path) as part:
        part.write_bytes(_page(title, data).encode("utf-8", "replace"))
    return path


def _page(title: str, data: Any) -> str:
    inside = {
        name: files("eval").joinpath(name).read_text("utf-8")
        for name in ("page.css", "charts.js", "page.js", "page_queries.js")
    }
    return Template(files("eval").joinpath("page.html").read_text("utf-8")).substitute(
        title=html.escape(title),
        style=inside["page.css"],
        script="\n".join(inside[name] for name in inside if name.endswith(".js")),
        data=_harmless(data),
    )


def _harmless(data: Any) -> str:
    """JSON that cannot end the element it stands in, whatever its texts hold."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _averages(tasks: Mapping[str, Any]) -> dict[str, list[str]]:
    return {f"mean of {len(tasks)}": list(tasks)} if len(tasks) > 1 else {}


def _tasks(tasks: Mapping[str, list[Cell]], baseline: str | None, texts: Mapping[str, Texts]) -> list[dict[str, Any]]:
    kept = _measures_kept(tasks)
    return [_task(name, cells, baseline, texts.get(name), kept[name]) for name, cells in tasks.items()]


def _measures_kept(tasks: Mapping[str, list[Cell]]) -> dict[str, int]:
    """How many measures of each task have their per-query values on the page: the first of all tasks come first."""
    left, kept = OF_VALUES, dict.fromkeys(tasks, 0)
    most = max(len(cells[0].evaluation.values) for cells in tasks.values())
    for number in range(most):
        for name, cells in tasks.items():
            if kept[name] == number < len(cells[0].evaluation.values):
                size = sum(size_of(_whole(list(cell.evaluation.values.values())[number])) for cell in cells)
                if size <= left:
                    left, kept[name] = left - size, number + 1
    return kept


def _task(name: str, cells: list[Cell], baseline: str | None, texts: Texts | None, kept: int) -> dict[str, Any]:
    measures = list(cells[0].evaluation.values)
    relevant, recalls = recall_by_rank(cells)
    return {
        "name": name,
        "queries": list(cells[0].evaluation.query_ids),
        "measures": measures,
        "perQuery": kept,
        "counts": [one for one in cells[0].evaluation.counts if any(c.evaluation.counts.get(one) for c in cells)],
        "costs": cost_names(cells),
        "systems": [_system(cell, kept) for cell in cells],
        "recall": {"measure": relevant, "series": [[_short(point) for point in recalls[c.system]] for c in cells]},
        "lengths": _lengths(cells, texts) if texts else None,
        "tests": _tests(cells, baseline),
        "cautions": cautions(cells),
    }


def _system(cell: Cell, kept: int) -> dict[str, Any]:
    values = list(cell.evaluation.values.values())[:kept]
    return {
        "name": cell.system,
        "mean": [_number(mean) for mean in cell.evaluation.mean.values()],
        "counts": dict(cell.evaluation.counts),
        "cost": {name: _number(value) for name, value in cell.cost.items()},
        "depth": depths([cell])[cell.system],
        "values": [_whole(one) for one in values],
    }


def _lengths(cells: list[Cell], texts: Texts) -> dict[str, Any]:
    """By measure, system and group of queries of like length."""
    bins = length_bins(cells[0].evaluation.query_ids, texts)
    means = [
        [[_number(round(mean, 5)) for mean in bin_means(cell.evaluation.values[measure], bins)] for cell in cells]
        for measure in cells[0].evaluation.values
    ]
    return {"labels": [one.label for one in bins], "sizes": [len(one.places) for one in bins], "means": means}


def _tests(cells: list[Cell], baseline: str | None) -> dict[str, Any]:
    """`family`, in words, and for each system but the baseline a paired t-test by measure, p corrected after Holm."""
    names = [cell.system for cell in cells]
    if baseline not in names or len(names) < 2:
        return {}
    found = differences({cell.system: cell.evaluation for cell in cells}, baseline, CORRECTION, resamples=None)
    of: dict[str, dict[str, Any]] = {name: {} for name in names if name != baseline}
    for one in found:
        test = one.test
        of[one.system][one.measure] = {
            "p": one.corrected["t"],
            "interval": test.interval,
            "untested": test.untested,
            "record": [test.wins, test.ties, test.losses],  # values on the page are rounded, which makes ties
        }
    return {"family": family(found, CORRECTION), "of": of}


def _curve(curve: Curve) -> dict[str, Any]:
    series = {name: [_short(point) for point in points] for name, points in curve.series.items()}
    return {"name": curve.name, "x": curve.x, "y": curve.y, "log": curve.log, "series": series}


def _manifest(name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader asks first; what a manifest of an older version lacks is left empty."""
    git, machine = about.get("git") or {}, about.get("hardware") or {}
    seconds, memory = about.get("wall_seconds"), machine.get("memory_bytes")
    return {
        "name": name,
        "verb": about.get("verb"),
        "status": about.get("status"),
        "started": about.get("started"),
        "seconds": None if seconds is None else round(seconds, 1),
        "commit": (git.get("commit") or "")[:12] + (" with changes" if git.get("dirty") else ""),
        "hardware": ", ".join(
            [*filter(None, [machine.get("cpu")]), *(machine.get("gpus") or [])]
            + ([f"{memory / 2**30:.0f} GiB"] if memory else [])
        ),
        "seeds": ", ".join(f"{key} {value}" for key, value in (about.get("seeds") or {}).items()),
        "recipe": json.dumps(about.get("recipe"), indent=1, ensure_ascii=False, default=str),
        "packages": about.get("packages") or {},
    }


def _whole(values: np.ndarray) -> list[int | None]:
    """Values in whole UNITs, None for one that is no number."""
    rounded = np.rint(np.nan_to_num(values) * UNIT).astype(np.int64).tolist()
    return [None if bad else one for one, bad in zip(rounded, np.isnan(values).tolist(), strict=True)]


def _short(point: tuple[float, float]) -> list[float | None]:
    """A point with six digits, which is more than a chart shows."""
    return [_number(float(f"{one:.6g}")) for one in point]


def _number(value: float) -> float | int | None:
    """A number as JSON has it; None for one that is not finite."""
    plain = value.item() if hasattr(value, "item") else value
    return plain if np.isfinite(plain) else None
