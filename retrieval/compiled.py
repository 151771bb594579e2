"""What there is to say of compiled code: that the first use waits for it, and on how many cores it runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

__all__ = ["cores", "tell_first_use"]

log = logging.getLogger(__name__)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tell_first_use(function: Any, what: str) -> None:
    """Log that numba compiles now, where it has nothing of this function in its cache and so will take a while."""
    kept = Path(function.stats.cache_path)
    if not function.signatures and not any(kept.glob(f"*.{function.__name__}-*.nbi")):
        log.warning("compiling %s for this machine, once; it takes some seconds", what)
