"""Files and folders that are whole or absent, whatever interrupts the writing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["digest", "whole_file", "whole_folder"]


def digest(settings: Any) -> str:
    """A name for plain values: the same for equal ones."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; the file takes its place only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        _sync(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path, shared: bool = False) -> Iterator[Path]:
    """A folder to write into; it takes its place only when the block ends without an error.

    Raises FileExistsError for a folder that holds something, unless it is `shared`: named after its content, so that
    the one another process finished first is as good.
    """
    if not shared and folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} exists already: choose another folder, or delete it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        yield part
        for path in part.rglob("*"):
            if path.is_file():
                _sync(path)
        part.chmod(0o777 & ~_umask())  # mkdtemp lets nobody else in
        try:
            os.replace(part, folder)
        except OSError:
            if not (shared and folder.is_dir()):
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
