"""The optional package mteb, and its tasks by name."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["find_task", "mteb_package"]


def mteb_package() -> Any:
    """The package. Raises ModuleNotFoundError with the line that installs it."""
    try:
        return importlib.import_module("mteb")
    except ModuleNotFoundError as error:
        if error.name != "mteb":
            raise
        message = "this needs the package mteb: pip install -c requirements.txt -e '.[mteb]'"
        raise ModuleNotFoundError(message, name="mteb") from None


def find_task(name: str) -> Any:
    """The task of MTEB's registry, or that of a class anywhere, `my_lab.tasks:MyTask`. Nothing is loaded.

    Raises ValueError for an unknown name, with the nearest.
    """
    package = mteb_package()
    module, colon, attribute = name.partition(":")
    if colon:
        return getattr(importlib.import_module(module), attribute)()
    try:
        return package.get_task(name)
    except KeyError:
        import difflib

        from mteb.get_tasks import _TASKS_REGISTRY

        folded = {known.casefold(): known for known in _TASKS_REGISTRY}
        near = [folded[one] for one in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.4)]
        raise ValueError(f"MTEB has no task {name!r}; the nearest are {', '.join(near) or 'none'}") from None
