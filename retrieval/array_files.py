"""A folder of flat arrays: written piece by piece, whole or absent, sizes checked when it is opened, memory-mapped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.files import whole_folder

__all__ = ["ArrayFiles", "ArrayWriter", "read_about", "writing"]

ABOUT = "about.json"


class ArrayWriter:
    """One array of a folder, written in pieces of one dtype."""

    def __init__(self, path: Path, dtype: Any):
        self.dtype, self.count = np.dtype(dtype), 0
        self._file = open(path, "wb")

    def append(self, piece: np.ndarray) -> None:
        """Add to the end."""
        np.ascontiguousarray(piece, self.dtype).tofile(self._file)
        self.count += len(piece)

    def close(self) -> None:
        """Write what is left."""
        self._file.close()


class ArrayFolder:
    """A folder that is being written."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._writers: dict[str, ArrayWriter] = {}

    def writer(self, name: str, dtype: Any) -> ArrayWriter:
        """A new array."""
        self._writers[name] = ArrayWriter(self.folder / name, dtype)
        return self._writers[name]

    def write(self, name: str, array: np.ndarray) -> None:
        """A whole array at once."""
        self.writer(name, array.dtype).append(array)

    def finish(self, about: Mapping[str, Any]) -> None:
        """Close every array and write what they are."""
        for writer in self._writers.values():
            writer.close()
        arrays = {name: [writer.dtype.str, writer.count] for name, writer in self._writers.items()}
        text = json.dumps({**about, "arrays": arrays}, indent=2)
        (self.folder / ABOUT).write_text(text + "\n", encoding="utf-8")


@contextmanager
def writing(folder: Path) -> Iterator[ArrayFolder]:
    """A folder of arrays that takes its place when the block ends without an error, after `finish`."""
    with whole_folder(folder, shared=True) as part:
        yield ArrayFolder(part)


def read_about(folder: Path) -> dict[str, Any]:
    """What `finish` wrote. Raises ValueError where there is nothing of the kind."""
    try:
        return json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} is no index: {ABOUT} cannot be read ({error}); delete it, it is built again"
        ) from None


class ArrayFiles:
    """The arrays of a finished folder."""

    def __init__(self, folder: Path):
        """Open them. Raises ValueError that names the first file missing or cut short."""
        self.folder, self.about = folder, read_about(folder)
        for name, (dtype, count) in self.about["arrays"].items():
            wanted = np.dtype(dtype).itemsize * count
            found = (folder / name).stat().st_size if (folder / name).is_file() else None
            if found != wanted:
                has = "is missing" if found is None else f"has {found} bytes and should have {wanted}"
                raise ValueError(f"{folder / name} {has}: delete {folder}, it is built again")

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, count = self.about["arrays"][name]
        if not count:
            return np.zeros(0, dtype)
        return np.memmap(self.folder / name, dtype, "r", shape=(count,))

    def digests(self) -> dict[str, str]:
        """SHA-256 of each array."""
        found = {}
        for name in self.about["arrays"]:
            with open(self.folder / name, "rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return found
