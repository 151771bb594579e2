"""What suites share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["average_of", "short"]


def average_of(name: str, parts: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """An average over tasks, and over averages that count as one set each, under a name that counts and names them."""
    return {f"{name} ({len(parts)}: {', '.join(map(short, parts))})": list(parts)}


def short(average: str) -> str:
    """The name that `average_of` was given; a task's stays as it is."""
    return average.partition(" (")[0]
