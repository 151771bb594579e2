"""Many systems on many collections: `python -m retrieval.suite configs/suite/x.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval.protocols import Retriever, Suite

__all__ = ["suite"]


def suite(suite: Suite, retrievers: dict[str, Retriever], out: Path | None = None) -> dict[str, Any]:
    """Run every retriever over every task of a suite."""
    raise NotImplementedError
