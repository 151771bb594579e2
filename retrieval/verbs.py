"""The recipes that there are, `python -m retrieval.<verb>`, and which of them a recipe file is of."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from retrieval.recipe_file import read

__all__ = ["verb", "verb_of", "verbs"]

RUNS = re.compile(r'\nif __name__ == "__main__":\n    run\w*\((\w+)[,)]')  # how the file of a verb ends


@cache
def verbs() -> tuple[str, ...]:
    """Their names: files of this folder that run the function of their own name as a recipe."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return tuple(path.stem for path in files if path.stem in RUNS.findall(path.read_text(encoding="utf-8")))


def verb(name: str) -> Callable:
    """The function of a verb. Raises ValueError for a name that is none, with those there are."""
    if name not in verbs():
        raise ValueError(f"no verb {name!r}; there are {', '.join(verbs())}")
    return getattr(importlib.import_module(f"retrieval.{name}"), name)


def verb_of(path: Path) -> Callable:
    """The verb whose parameters a recipe fits.

    Of several that it fits, the one that its folder is named after (configs/compare/x.yaml), else the one that takes
    the fewest parameters. Raises ValueError where it fits none, ConfigError where the file is no recipe.
    """
    keys = {*read(path).tree} - {"grid"}
    fitting = [function for function in map(verb, verbs()) if _fits(function, keys)]
    if not fitting:
        raise ValueError(f"{path}: no verb takes {', '.join(sorted(keys))}")
    named = [function for function in fitting if function.__name__ in path.parts[:-1]]
    return min(named or fitting, key=lambda function: len(inspect.signature(function).parameters))


def _fits(function: Callable, keys: set[str]) -> bool:
    parameters = inspect.signature(function).parameters
    needed = {name for name, one in parameters.items() if one.default is inspect.Parameter.empty}
    return needed <= keys <= {*parameters}
