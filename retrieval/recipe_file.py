"""A recipe file as a tree of plain values, and the overrides and grid choices applied to it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from retrieval.yaml_lines import Place, Reader, dotted, problem

__all__ = ["ConfigError", "RecipeFile", "read"]

COMMAND_LINE = "command line"


class ConfigError(ValueError):
    """A recipe that cannot run; one line per mistake, each naming the file, the line and the key."""


@dataclass
class RecipeFile:
    """The values of a recipe, where each was written, and the mistakes found so far."""

    file: str
    tree: dict[str, Any]
    origins: dict[Place, str]  # "configs/x.yaml:12" or "command line"
    mistakes: list[str] = field(default_factory=list)
    placed: dict[Place, str] = field(default_factory=dict)  # by "override", "grid" or "choices"

    def wrong(self, place: Place, text: str) -> None:
        """Note a mistake at a place; where nothing is written there, the line is that of the block around it."""
        known = next((place[:n] for n in range(len(place), 0, -1) if place[:n] in self.origins), ())
        self.mistakes.append(f"{self.origins.get(known, f'{self.file}:1')}: {dotted(place)}: {text}")

    def copy(self) -> RecipeFile:
        """The same values to change further, without the mistakes."""
        return RecipeFile(self.file, copy.deepcopy(self.tree), dict(self.origins), [], dict(self.placed))

    def override(self, text: str) -> None:
        """Apply `a.b=c`; `grid.a.b=[c, d]` sets what the grid has for `a.b`, and so `choices.a.b`."""
        key, equals, value = text.partition("=")
        parts = key.split(".")
        if not equals or not all(parts):
            self.mistakes.append(f"{COMMAND_LINE}: {text!r} is not of the form key=value")
            return
        if parts[0] in ("grid", "choices") and len(parts) > 2 and not self._is_component(parts[:2]):
            parts = [parts[0], ".".join(parts[1:])]
        place = self._resolve(parts, COMMAND_LINE)
        reader = Reader(COMMAND_LINE, numbered=False)
        try:
            parsed = reader.parse(value, place or ())
        except yaml.YAMLError as error:
            self.mistakes.append(f"{COMMAND_LINE}: {key}: {problem(error)[1]}")
            return
        self.mistakes += reader.mistakes
        if place:
            self._put(place, parsed, {place: COMMAND_LINE, **reader.origins}, "override")

    def choose(self, grid: Place, key: str, i: int, value: Any, under: Place = ()) -> None:
        """Put the i-th value that the grid at a place has for a dotted key, counted from `under`, into its place."""
        written: Place = (*grid, key, i)
        origin = self.origins.get(written) or self.origins[(*grid, key)]
        place = self._resolve([*map(str, under), *key.split(".")], origin)
        if place:
            n = len(written)
            below = {place + p[n:]: line for p, line in self.origins.items() if p[:n] == written}
            self._put(place, copy.deepcopy(value), {place: origin, **below}, str(grid[0]))

    def _is_component(self, parts: list[str]) -> bool:
        """Whether `choices.plain` is a component of that name, and no key of a grid, which has a list."""
        held = self.tree.get(parts[0])
        return isinstance(held, dict) and isinstance(held.get(parts[1]), dict | str)

    def _resolve(self, parts: list[str], origin: str) -> Place | None:
        """The place a dotted key means; on the way, a name that stands for a component becomes its block."""
        place: Place = ()
        block: Any = self.tree
        for n, part in enumerate(parts):
            key: Any = self._element(block, part, place, origin) if isinstance(block, list) else part
            if key is None:
                return None
            place = (*place, key)
            if n + 1 < len(parts):
                inner: Any = block.get(key) if isinstance(block, dict) else block[key]
                if not isinstance(inner, dict | list):
                    block[key] = {} if inner is None else {"type": inner}
                    self.origins.setdefault(place, origin)
                block = block[key]
        return place

    def _element(self, block: list, part: str, place: Place, origin: str) -> int | None:
        if part.isdecimal() and int(part) < len(block):
            return int(part)
        known = {0: "no elements", 1: "one element, 0"}.get(len(block), f"{len(block)} elements, 0 to {len(block) - 1}")
        self.mistakes.append(f"{origin}: {dotted((*place, part))}: {dotted(place)} has {known}")
        return None

    def _put(self, place: Place, value: Any, origins: Mapping[Place, str], by: str) -> None:
        """Set a value. A new `type` empties its block: the old component's arguments are not the new one's."""
        block: Any = self.tree
        for part in place[:-1]:
            block = block[part]
        new_type = len(place) > 1 and place[-1] == "type" and isinstance(block, dict) and block.get("type") != value
        if new_type:
            block.clear()
        self._forget(place[:-1] if new_type else place, place, by)
        block[place[-1]] = value
        self.origins |= origins
        self.placed[place] = by

    def _forget(self, under: Place, place: Place, by: str) -> None:
        """Drop what was noted below a place; what an override or the grid had put there must not vanish unnoticed."""
        for old in [p for p in self.origins if p[: len(under)] == under and (p != under or p == place)]:
            placed = self.placed.pop(old, None)
            if placed == "override" and by == "grid":
                self.wrong(old, f"the grid's {dotted(place)} replaces it; write grid.{dotted(old)}=[...] instead")
            elif placed and old != place:
                self.wrong(old, f"{dotted(place)} replaces it; write it after that")
            del self.origins[old]


def read(path: str | Path) -> RecipeFile:
    """The recipe at a path; a key given twice is noted as a mistake. Raises ConfigError where it cannot be read."""
    reader = Reader(str(path))
    try:
        tree = reader.parse(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        line, text = problem(error)
        raise ConfigError(f"{path}:{line}: {text}") from None
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a recipe is a block of `key: value` lines")
    return RecipeFile(str(path), tree, reader.origins, reader.mistakes)
