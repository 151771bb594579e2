"""The figures that a recipe says it gives, read from the comment at its head, and whether results give them.

    # What it shows: MEASURE FIGURE, MEASURE FIGURE [whose], FIGURE +-TOLERANCE [whose] (and for comparison ...).

- A figure directly after a measure is one to check: `nDCG@10 0.6789, R@100 0.9253`.
- `[whose]` after a figure says which of several results gives it: a system (`[bm25]`, `[trained]`), a value of the grid
  (`[rm3]`, `[depth=3]`), or several of these with commas (`[rm3, dl19]`); `[mean]` is the mean over the grid. A figure
  with it needs no measure of its own, and is of the one before: `nDCG@10 0.4715 [rm3], 0.4685 [rocchio]`. Each result
  that fits must give the figure. Without it, the figure is of the recipe's own system.
- `+-0.005` after a figure is its tolerance; otherwise a result must round to the digits that are there.
- What stands in parentheses, and a number without measure and name, is for readers: published figures, other settings.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.measures import parse

__all__ = ["Expected", "given", "head", "read_expected"]

ASIDE = re.compile(r"(?<=\s)\((?:[^()]|\([^()]*\))*\)")  # not the parameters of a measure, which follow its name
NUMBER = r"(?P<figure>\d+\.\d+)(?!\d|\.\d)"
FIGURE = re.compile(
    r"(?:(?<![\w@.-])(?P<measure>[A-Za-z]\w*(?:\([^()]*\))?(?:@\d+)?)\s+)?(?<![\w.=-])"
    + NUMBER
    + r"(?:\s*\+-\s*(?P<tolerance>\d+\.\d+))?(?:\s*\[(?P<whose>[^\]]*)\])?"
)
OWN = "trained"  # a training's own system; any other recipe's is the first
MEAN = "mean"
SLACK = 1e-9  # of rounding a result, whose last bits are off


@dataclass(frozen=True)
class Expected:
    """One figure that a recipe must give."""

    measure: str  # as ir_measures writes it
    figure: float
    tolerance: float
    whose: tuple[str, ...] = ()  # lower case; empty for the recipe's own system
    written: str = ""  # the figure with the digits it has there

    def __str__(self) -> str:
        return f"{self.measure} [{', '.join(self.whose)}]" if self.whose else self.measure

    def agrees(self, value: float) -> bool:
        """Whether a result is the figure, within the tolerance."""
        return abs(value - self.figure) <= self.tolerance + SLACK


def head(path: Path) -> str:
    """The comment that a recipe begins with, as one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    size = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("#").strip() for line in lines[:size])


def read_expected(text: str) -> list[Expected]:
    """The figures in a text that are to be checked. Raises ValueError for one with a name and no measure before it."""
    found, measure = [], None
    for match in FIGURE.finditer(ASIDE.sub(" ", text)):
        direct = _measure(match["measure"])
        measure = direct or measure
        if direct is None and match["whose"] is None:
            continue
        if measure is None:
            raise ValueError(f"{match[0]!r} names a result and follows no measure, as in 'nDCG@10 0.6789 [bm25]'")
        digits = len(match["figure"].partition(".")[2])
        tolerance = float(match["tolerance"]) if match["tolerance"] else 0.5 * 10**-digits
        whose = tuple(word.strip().casefold() for word in (match["whose"] or "").split(",") if word.strip())
        found.append(Expected(measure, float(match["figure"]), tolerance, whose, match["figure"]))
    return found


def given(one: Expected, results: Sequence[tuple[Mapping[str, Any], Any]]) -> list[float]:
    """The values of all results that an expectation is of; `results` are those of each point of a grid, with the point.

    Raises ValueError where none fits, with the names that there are.
    """
    if one.whose == (MEAN,):
        own = [given(Expected(one.measure, 0, 0), [result]) for result in results]
        return [math.fsum(values[0] for values in own) / len(own)]
    fitting = [means for point, found in results for means in _fitting({*one.whose}, _names(point), found)]
    values = [means[one.measure] for means in fitting if one.measure in means]
    if not values:
        systems = {name for _, found in results for names, _ in _systems(found) for name in names}
        known = ", ".join(sorted(systems | {name for point, _ in results for name in _names(point)}))
        measured = sorted({measure for means in fitting for measure in means})
        raise ValueError(
            f"{one} is not there: " + (f"measured is {', '.join(measured)}" if fitting else f"names are {known}")
        )
    return values


def _fitting(whose: set[str], point: set[str], results: Any) -> list[Mapping[str, float]]:
    """The means of the results of a point that are so named; its own system's where only the point is named."""
    if whose <= point:
        return [means for _, means in _own(results)]
    return [means for names, means in _systems(results) if whose <= names | point]


def _measure(name: str | None) -> str | None:
    try:
        return None if name is None else str(parse(name))
    except ValueError:
        return None


def _own(results: Any) -> list[tuple[set[str], Mapping[str, float]]]:
    systems = list(_systems(results))
    return [one for one in systems if OWN in one[0]] or systems[:1]


def _systems(results: Any, names: frozenset[str] = frozenset()) -> Iterator[tuple[set[str], Mapping[str, float]]]:
    """Every block of results that has means, with the keys that lead to it."""
    if not isinstance(results, Mapping):
        return
    if isinstance(results.get("mean"), Mapping):
        yield {*names}, results["mean"]
        return
    for name, inner in results.items():
        yield from _systems(inner, names | {str(name).casefold()})


def _names(point: Mapping[str, Any]) -> set[str]:
    """What the values that a grid chose may be called."""
    found = set()
    for key, value in point.items():
        kind = value.get("type") if isinstance(value, Mapping) else value
        text = kind if isinstance(kind, str) else json.dumps(kind)
        found |= {text.casefold(), f"{key.rpartition('.')[2]}={text}".casefold()}
    return found
