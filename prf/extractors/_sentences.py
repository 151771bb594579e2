"""What extractors that take sentences have in common."""

from __future__ import annotations

__all__ = ["check_count"]


def check_count(component: object, count: int) -> int:
    """How many sentences are taken. Raises ValueError for less than one."""
    if count < 1:
        raise ValueError(f"{type(component).__name__}: sentences is {count}; it is at least 1")
    return count
