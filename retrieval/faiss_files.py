"""A FAISS index on disk: the index beside a JSON of what it is, whole or absent, opened memory-mapped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrieval.faiss_index import faiss_package, reason

__all__ = ["opened", "size", "write"]

INDEX, ABOUT = "index.faiss", "about.json"


def write(index: Any, folder: Path, about: Mapping[str, Any]) -> None:
    """Fill a folder."""
    faiss_package().write_index(index, str(folder / INDEX))
    with open(folder / INDEX, "rb") as file:
        sums = {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": file.tell()}
    (folder / ABOUT).write_text(json.dumps({**about, **sums}, indent=2) + "\n", encoding="utf-8")


def opened(folder: Path, expected: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The index, and what was said of it. Raises ValueError for a file cut short, or an index of other vectors."""
    faiss, path, fix = faiss_package(), folder / INDEX, f"delete {folder}, it is built again"
    about = _about(folder, fix)
    differing = [name for name, value in expected.items() if about.get(name) != value]
    if differing:
        both = "; ".join(f"{name}: {about.get(name)} there, {expected[name]} here" for name in differing)
        raise ValueError(f"{folder} is an index of other vectors ({both}): {fix}")
    found = path.stat().st_size if path.is_file() else None
    if found != about["bytes"]:
        has = "is missing" if found is None else f"has {found} bytes and should have {about['bytes']}"
        raise ValueError(f"{path} {has}: {fix}")
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC), about
    except RuntimeError as error:
        versions = f"written by faiss {about['faiss']}, read by {faiss.__version__}"
        raise ValueError(f"{path} cannot be read ({versions}: {reason(error)}): {fix}") from None


def size(index: Any) -> int:
    """How many bytes its file has, or would have."""
    faiss, counted = faiss_package(), [0]

    def count(piece: bytes) -> None:
        counted[0] += len(piece)

    faiss.write_index(index, faiss.PyCallbackIOWriter(count))
    return counted[0]


def _about(folder: Path, fix: str) -> dict[str, Any]:
    try:
        return json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / ABOUT} cannot be read ({error}): {fix}") from None
