"""Quality against cost of the runs of a grid: `python scripts/promptprf_grid.py OUT.png FOLDER ...`.

Reads each finished manifest.json of retrieval.search below the folders, such as those of configs/promptprf/grid.yaml and
alone.yaml. Draws the first measure against the milliseconds of a query, without those of making features, which is done
once for a document and beforehand; and against the tokens that a language model read and wrote for the features.
Squares are runs without feedback; a line joins those that nothing cheaper matches.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKENS = ("tokens in", "tokens out")  # kept answers count with what they took


@dataclass(frozen=True)
class Point:
    """A run."""

    name: str
    measure: str
    quality: float
    milliseconds: float  # a query
    tokens: int  # of features
    feedback: bool


def points(folders: list[str]) -> Iterator[Point]:
    """The finished runs, in the order of their folders."""
    for path in sorted(path for folder in folders for path in Path(folder).rglob("manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["verb"] == "search" and manifest["status"] == "finished":
            yield point(manifest, path.parent.name)


def point(manifest: dict[str, Any], folder: str) -> Point:
    """What a manifest says; a run of a grid is named by what the grid chose."""
    results = manifest["results"]
    system, one = next((name, one) for name, one in results.items() if "mean" in one)
    measure, quality = next(iter(one["mean"].items()))
    name = ", ".join(_short(value) for value in manifest["point"].values()) or folder
    made = one["cost"].get("generation seconds", 0) / results["collection"]["queries"]
    seconds = max(0.0, one["cost"]["seconds per query"] - made)
    tokens = sum(one["cost"].get(what, 0) for what in TOKENS)
    plain = any(key.endswith("depth") and value == 0 for key, value in manifest["point"].items())
    return Point(name, measure, quality, 1000 * seconds, tokens, "promptprf" in system and not plain)


def best(found: list[Point], cost: str) -> list[Point]:
    """Those that no cheaper one matches, the cheapest first."""
    kept: list[Point] = []
    for one in sorted(found, key=lambda p: (getattr(p, cost), -p.quality)):
        if not kept or one.quality > kept[-1].quality:
            kept.append(one)
    return kept


def draw(found: list[Point], path: Path) -> None:
    """A panel for each cost that there is."""
    from matplotlib.figure import Figure

    costs = {"milliseconds": "milliseconds a query"}
    if any(one.tokens for one in found):
        costs["tokens"] = "tokens of the language model for features"
    figure = Figure(figsize=(2 + 5 * len(costs), 5), layout="constrained")
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axes, (cost, label) in zip(panels, costs.items(), strict=True):
        for feedback, marker in ((True, "o"), (False, "s")):
            some = [one for one in found if one.feedback == feedback]
            label_ = "with feedback" if feedback else "without"
            axes.scatter([getattr(p, cost) for p in some], [p.quality for p in some], s=24, marker=marker, label=label_)
        front = best(found, cost)
        axes.plot([getattr(p, cost) for p in front], [p.quality for p in front], color="0.75", zorder=0)
        for one in front:
            axes.annotate(one.name, (getattr(one, cost), one.quality), (4, 4), textcoords="offset points", fontsize=7)
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel(found[0].measure)
    figure.axes[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)


def _short(value: Any) -> str:
    """A value of a grid in a few letters: the type of a component, the last part of a model's name."""
    if isinstance(value, dict):
        return str(value.get("type", value))
    return str(value).rpartition("/")[2]


def main(arguments: list[str]) -> None:
    """Print a table, best first, and write the picture."""
    if len(arguments) < 2:
        sys.exit(__doc__)
    found = list(points(arguments[1:]))
    if not found or len({one.measure for one in found}) > 1:
        sys.exit(
            f"{len(found)} finished runs below {' '.join(arguments[1:])}: some are needed, all of one first measure"
        )
    print(f"{found[0].measure:>10}{'ms/query':>10}{'tokens':>10}  run")
    for one in sorted(found, key=lambda p: -p.quality):
        print(
            f"{one.quality:10.4f}{one.milliseconds:10.1f}{one.tokens:10}  {one.name}{'' if one.feedback else ' (alone)'}"
        )
    draw(found, Path(arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
