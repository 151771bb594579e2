"""A finished experiment in its folder: its manifest, its recipe, and which run file holds which system."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.config import Recipe, load
from retrieval.run_file import find_run
from retrieval.verbs import verb
from retrieval.yaml_lines import Place, dump

__all__ = ["Finished", "given_options", "leaves", "read_finished", "recipe_of"]

NAME = "manifest.json"
NEEDED = ("status", "verb", "recipe", "results")
SEARCHED = ("run", "baseline")  # the files of retrieval.search, in the order of its results
ENDINGS = (".parquet", ".trec", ".trec.gz")  # of the same run; the first holds queries without results too


@dataclass(frozen=True)
class Finished:
    """A folder of results with its manifest."""

    folder: Path
    manifest: Mapping[str, Any]

    def recipe(self) -> Recipe:
        """The recipe, checked as of now. Raises ConfigError where it is none any more."""
        return recipe_of(verb(self.manifest["verb"]), self.manifest["recipe"])

    def split(self) -> str:
        """The split that was measured on."""
        recipe = self.manifest["recipe"]
        return recipe["test"] if "test" in recipe else recipe["split"]  # with both, split is what was learnt from

    def systems(self) -> dict[str, Mapping[str, Any]]:
        """The figures of each system that has a run, in the order of the results."""
        results = self.manifest["results"]
        named = results.items() if isinstance(results, Mapping) else ()
        found = {name: one for name, one in named if isinstance(one, Mapping) and "mean" in one}
        return {name: one for name, one in found.items() if not one.get("optimistic")}  # retrieval.tune's bound

    def made_of(self, place: str) -> Mapping[str, Any]:
        """What a part of the recipe said of its origin; empty where the manifest does not tell."""
        return (self.manifest.get("made_of") or {}).get(place) or {}

    def run_files(self) -> dict[str, list[Path]]:
        """The files of each system's run. Raises ValueError where there are none."""
        runs = self.manifest["recipe"].get("runs")
        found = {}
        for n, name in enumerate(self.systems()):
            if isinstance(runs, Mapping):
                found[name] = [find_run(runs[name])]
                continue
            stem = SEARCHED[min(n, 1)] if self.manifest["verb"] == "search" else name
            found[name] = [path for end in ENDINGS if (path := self.folder / f"{stem}{end}").is_file()]
        lacking = [name for name, files in found.items() if not files]
        if lacking or not found:
            what = f"no run file of {lacking[0]!r}" if lacking else "no figures of a run"
            verbs = "search, train, tune, curve, evaluate, compare or report"
            raise ValueError(f"{self.folder} holds {what} ({self.manifest['verb']}): pack takes results of {verbs}")
        return found


def read_finished(folder: Path) -> list[Finished]:
    """The results in a folder: its own, or those of each point of a grid.

    Raises ValueError for a folder without a manifest, one that is not finished, and a manifest that lacks what is
    needed.
    """
    if (folder / NAME).is_file():
        return [_read(folder)]
    points = sorted(path.parent for path in folder.glob(f"*/{NAME}"))
    if not points:
        raise ValueError(f"{folder} has no {NAME}, nor has a folder in it: name a folder of results, as runs/search/x")
    return [_read(point) for point in points]


def recipe_of(function: Callable, recipe: Mapping[str, Any]) -> Recipe:
    """A resolved recipe, checked against the function it calls. Raises ConfigError with what does not fit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(dump({key: value for key, value in recipe.items() if key != "out"}), encoding="utf-8")
        return load(function, path)[0]


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every plain value of a recipe with its place."""
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield place, value
        return
    for key, one in inner:
        yield from leaves(one, (*place, key))


def given_options(arguments: Sequence[str], known: Mapping[str, str], usage: str) -> tuple[list[str], dict[str, str]]:
    """Words, and options key=value with the defaults of those left out. Raises ValueError for an unknown one."""
    words, options = [], dict(known)
    for one in arguments:
        key, equals, value = one.partition("=")
        if not equals or Path(one).exists():
            words.append(one)
        elif key not in known or (known[key] in ("true", "false") and value not in ("true", "false")):
            raise ValueError(f"{one}: no such option; {usage}")
        else:
            options[key] = value
    if any(word.startswith("-") for word in words):
        raise ValueError(usage)
    return words, options


def _read(folder: Path) -> Finished:
    try:
        manifest = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / NAME} is damaged ({error}): run the recipe again") from None
    lacking = [key for key in NEEDED if not isinstance(manifest, dict) or key not in manifest]
    status = manifest.get("status") if isinstance(manifest, dict) else None
    if status in ("running", "failed"):
        raise ValueError(f"{folder} is not finished ({status}): run its recipe again, which resumes it")
    if lacking:
        raise ValueError(
            f"{folder / NAME} has no {', '.join(lacking)}: it is of an older version; run the recipe again"
        )
    return Finished(folder, manifest)
