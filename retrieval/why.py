"""Why two results differ: what their manifests do not have in common, the most likely cause first."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.manifest import NAME
from retrieval.protocols import COUNTED

__all__ = ["Unlike", "Why", "why"]

ABSENT = "(absent)"
SECTIONS = ("recipe", "verb", "made_of", "git", "packages", "python", "platform", "hardware", "environment", "results")
# how likely each kind of difference moves a figure: the lower, the earlier it is listed
DATA, PROMPT, MODEL, SETTING, SEED, CODE, MAJOR, MINOR, GPU, VARIABLE, PATCH, MACHINE = range(12)
GROUPS = {
    DATA: "data",
    PROMPT: "prompt",
    **dict.fromkeys((MODEL, SETTING, SEED), "model"),
    CODE: "code",
    **dict.fromkeys((MAJOR, MINOR, PATCH), "packages"),
    **dict.fromkeys((GPU, VARIABLE, MACHINE), "hardware"),
}
_DATA = {"dataset", "runs", "split", "test", "measures", "suite", "corpus", "qrels", "data"}
_PROMPT = re.compile("prompt|instruction|template|prefix")
_MODEL = {"type", "model", "revision", "weights", "adapter", "query_adapter", "tokenizer", "retriever", "encoder"}
_NO_CAUSE = {"out", "explain", "folder"}  # where things lie, and what was asked about them
_NO_FIGURE = {"cost", "seconds", "looks", "paired t-test", "corrected p", "p is", "made", "file", "differences"}


@dataclass(frozen=True)
class Unlike:
    """A fact that two manifests do not share; values are as JSON has them, or say that there is none."""

    key: str
    a: Any
    b: Any
    likely: int  # the lower, the likelier a cause


@dataclass(frozen=True)
class Why:
    """Two results beside each other."""

    a: Path
    b: Path
    causes: Mapping[str, list[Unlike]]  # by group, the likeliest first, in groups and within them
    results: list[Unlike]  # figures that differ
    figures: int  # that both have
    unknown: list[str]  # what could not be compared, in a line each


def why(a: Path, b: Path) -> Why:
    """Compare the manifests of two folders of results, of whatever version.

    Raises FileNotFoundError where there is no manifest, and ValueError for a file that is none.
    """
    first, second = read(a), read(b)
    found = sorted(_causes(first, second), key=lambda one: one.likely)
    groups = {
        GROUPS[one.likely]: [other for other in found if GROUPS[other.likely] == GROUPS[one.likely]] for one in found
    }
    results, figures = _results(first, second)
    return Why(a, b, groups, results, figures, [*_unknown(a, first), *_unknown(b, second)])


def read(path: Path) -> dict[str, Any]:
    """A manifest, by its path or that of its folder."""
    file = path / NAME if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no {NAME} at {path}: name a folder of results, or the manifest in it")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{file} is no manifest: it is not JSON") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("recipe"), dict):
        raise ValueError(f"{file} is no manifest: it holds no recipe")
    return manifest


def _unknown(path: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    lacking = [section for section in SECTIONS if section not in manifest]
    if lacking:
        old = "of an older version" if manifest.get("status") == "finished" else f"of a run {_status(manifest)}"
        yield f"{path} has no {', '.join(lacking)}, as a manifest {old} may: not compared"


def _status(manifest: Mapping[str, Any]) -> str:
    return f"that is {manifest['status']}" if manifest.get("status") else "of unknown end"


def _causes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Unlike]:
    written = {_short(one) for one in _unlike(a, b, "recipe")}
    for section, judge in JUDGES.items():
        for one in _unlike(a, b, section):
            likely = judge(one)
            repeated = section == "made_of" and _short(one) in written  # components say again what the recipe says
            if likely is not None and not repeated:
                yield Unlike(NAMED.get(one.key, one.key) or section, one.a, one.b, likely)


def _short(one: Unlike) -> tuple[str, str, str]:
    return one.key.rpartition(".")[2], repr(one.a), repr(one.b)


def _unlike(a: Mapping[str, Any], b: Mapping[str, Any], section: str) -> Iterator[Unlike]:
    """The values of a section, by dotted key, that are not the same; nothing where either has no such section."""
    if section not in a or section not in b:
        return
    first, second = dict(_leaves(a[section])), dict(_leaves(b[section]))
    for key in {**first, **second}:
        here, there = first.get(key), second.get(key)
        if here != there:  # a setting that came later and is off (null) is as good as absent
            yield Unlike(key, first.get(key, ABSENT), second.get(key, ABSENT), 0)


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Plain values and lists of them, by dotted key."""
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        value = {str(number): one for number, one in enumerate(value)}
    if not isinstance(value, dict):
        yield place, value
        return
    for key, one in value.items():
        yield from _leaves(one, f"{place}.{key}" if place else str(key))


def _of_recipe(one: Unlike) -> int | None:
    """What a setting is of; None for one that cannot be a cause."""
    parts = one.key.split(".")
    if _NO_CAUSE & {*parts} or parts[-1].startswith(COUNTED) or _only_places(one):
        return None
    if any(_PROMPT.search(part) for part in parts):
        return PROMPT
    if parts[-1] == "seed":
        return SEED
    if _DATA & {*parts}:
        return DATA
    return MODEL if parts[-1] in _MODEL else SETTING


def _only_places(one: Unlike) -> bool:
    """Whether it says only where something lies on a machine; what lies there is told by digests."""
    given = [value for value in (one.a, one.b) if value != ABSENT]
    return all(isinstance(value, str) and Path(value).is_absolute() for value in given)


def _of_code(one: Unlike) -> int | None:
    return None if one.key == "dirty" else CODE  # the digest of what is not committed says that and more


def _of_version(one: Unlike) -> int:
    """By the first number of a version that differs; a package that one lacks is as a new major version."""
    first, second = (re.findall(r"\d+", str(version).partition("+")[0]) for version in (one.a, one.b))
    if ABSENT in (one.a, one.b) or first[:1] != second[:1]:
        return MAJOR
    return MINOR if first[1:2] != second[1:2] else PATCH


def _of_hardware(one: Unlike) -> int:
    return GPU if one.key == "gpus" else MACHINE


JUDGES: dict[str, Callable[[Unlike], int | None]] = {
    "recipe": _of_recipe,
    "made_of": _of_recipe,
    "verb": _of_code,
    "git": _of_code,
    "packages": _of_version,
    "python": _of_version,
    "hardware": _of_hardware,
    "environment": lambda one: VARIABLE,
    "platform": lambda one: MACHINE,
}
NAMED = {"diff": "uncommitted changes"}


def _results(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[list[Unlike], int]:
    """The figures that differ, means first, and how many both have."""
    first, second = (dict(_figures(manifest.get("results"))) for manifest in (a, b))
    shared = [key for key in first if key in second]
    unlike = [Unlike(key, first[key], second[key], 0) for key in shared if not _equal(first[key], second[key])]
    return sorted(unlike, key=lambda one: "mean" not in one.key.split(".")), len(shared)


def _figures(results: Any) -> Iterator[tuple[str, float]]:
    """Numbers by dotted key; without the name of the only system, which may have changed."""
    systems = [name for name, one in results.items() if _is_system(one)] if isinstance(results, dict) else []
    if len(systems) == 1:
        results = results | results[systems[0]]
        del results[systems[0]]
    for key, value in _leaves(results):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and not _NO_FIGURE & {*key.split(".")}:
            yield key, value


def _is_system(value: Any) -> bool:
    return isinstance(value, dict) and "mean" in value


def _equal(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
