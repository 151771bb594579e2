"""What suites share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["average_of"]


def average_of(name: str, tasks: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """An average over tasks under a name that counts and names them."""
    return {f"{name} ({len(tasks)}: {', '.join(tasks)})": list(tasks)}
