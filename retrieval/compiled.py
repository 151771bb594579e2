"""What there is to say of compiled code: that the first use waits for it, and on how many cores it runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

__all__ = ["chosen", "cores", "drop_stale", "tell_first_use"]

log = logging.getLogger(__name__)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def drop_stale(function: Any, *modules: ModuleType) -> None:
    """Forget the compiled code of a function that calls into newer modules: numba compares with its own file alone."""
    newest = max(Path(str(module.__file__)).stat().st_mtime for module in modules)
    for kept in Path(function.stats.cache_path).glob(f"*.{function.__name__}-*.nbi"):
        if kept.stat().st_mtime < newest:
            kept.unlink(missing_ok=True)


def chosen(name: str, value: Any, among: Any) -> None:
    """Raises ValueError for a value that is none of a Literal's."""
    if value not in get_args(among):
        raise ValueError(f"{name} is one of {', '.join(map(str, get_args(among)))}, not {value!r}")


def tell_first_use(function: Any, what: str) -> None:
    """Log that numba compiles now, where it has nothing of this function in its cache and so will take a while."""
    kept = Path(function.stats.cache_path)
    if not function.signatures and not any(kept.glob(f"*.{function.__name__}-*.nbi")):
        log.warning("compiling %s for this machine, once; it takes some seconds", what)
