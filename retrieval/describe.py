"""What a recipe takes (`--help`), and what it would do (`--dry-run`)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from retrieval import protocols
from retrieval.config import FOLDERS, Recipe, components
from retrieval.manifest import earlier, one_line
from retrieval.yaml_lines import dotted, dump

__all__ = ["MENDABLE", "help_text", "plan", "usage"]

# What the user can mend: wrong values and data, missing files and packages.
MENDABLE = (ValueError, OSError, ImportError)


def usage(function: Callable) -> str:
    """How the recipe is called."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    called = f"-m {spec.name if spec else function.__module__}"
    if function.__module__ == "__main__" and not spec:
        called = sys.argv[0]
    return f"python {called} RECIPE.yaml [key=value ...] [--dry-run]"


def help_text(function: Callable) -> str:
    """The recipe's docstring, its parameters with types and defaults, and the components there are."""
    lines = [f"usage: {usage(function)}", "", inspect.getdoc(function) or function.__name__, "", "parameters:"]
    for key, parameter in inspect.signature(function).parameters.items():
        wanted = parameter.annotation
        shown = wanted if isinstance(wanted, str) else inspect.formatannotation(wanted)
        required = parameter.default is inspect.Parameter.empty
        lines.append(f"  {key}: {shown}" + ("  (required)" if required else f" = {parameter.default!r}"))
    kinds: dict[str, list[type]] = {}
    for protocol, folder in FOLDERS.items():
        kinds.setdefault(folder, []).append(protocol)
    for folder, wanted_as in kinds.items():
        found = components(wanted_as[0])
        if found:
            names = ", ".join(protocol.__name__ for protocol in wanted_as)
            lines += ["", f"{names}, in {folder.replace('.', '/')}/:"]
            lines += [f"  {name:{max(map(len, found))}}  {line}".rstrip() for name, line in found.items()]
    return "\n".join([*lines, "", "`type: module:Class` names a component from anywhere else."])


def plan(recipes: list[Recipe], grows: bool = False) -> Iterator[str]:
    """The resolved recipes as YAML, and in comments where results go, the data and what is built, in order.

    Opens the datasets, and builds the components that have a method `plan`; runs nothing.
    """
    built: dict[str, Any] = {}
    for n, recipe in enumerate(recipes):
        if n:
            yield "---"
        yield f"# {recipe.function.__name__}, out: {recipe.arguments['out']} ({_standing(recipe, grows)})"
        yield dump(recipe.to_dict()).rstrip("\n")
        first: dict[str, str] = {}
        for part in recipe.parts():
            place = dotted(part.place)
            same = first.setdefault(part.key(), place)
            yield f"# builds {place}: {part.name or part.function.__name__}" + (
                f", the same as {same}" if same != place else _line(part, built)
            )
            if same == place and part.protocol is protocols.Dataset:
                yield from _data(part, built)


def _standing(recipe: Recipe, grows: bool) -> str:
    try:
        before = earlier(recipe.arguments["out"], recipe.function.__name__, recipe.to_dict(), grows)
    except ValueError as error:
        return f"refused: {one_line(error)}"
    return "new" if before is None else before["status"]


def _line(part: Recipe, built: dict[str, Any]) -> str:
    if not hasattr(part.function, "plan"):
        return ""
    try:
        return f": {one_line(part.build(built).plan())}"
    except MENDABLE as error:
        return f": error: {one_line(error)}"


def _data(part: Recipe, built: dict[str, Any]) -> Iterator[str]:
    place = dotted(part.place)
    try:
        collection = part.build(built).open()
        yield f"# data {place}: {len(collection.corpus)} documents"
        for split in collection.splits():
            counts = ", ".join(f"{count} {what}" for what, count in collection.counts(split).items())
            yield f"# data {place} {split}: {counts}"
    except MENDABLE as error:
        yield f"# data {place}: error: {one_line(error)}"
