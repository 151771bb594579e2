"""How the numbers of vectors lie in a file: float32, float16, bfloat16, or int8 with a scale per dimension."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

__all__ = ["Number", "header_bytes", "narrow", "mapped", "row_bytes", "scale", "suffix", "widen"]

Number = Literal["float32", "float16", "bfloat16", "int8"]
_KINDS = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16, "int8": np.int8}  # numpy has no bfloat16
_SUFFIXES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "i8"}


def suffix(dtype: Number) -> str:
    """The ending of a file of such numbers."""
    return _SUFFIXES[dtype]


def row_bytes(dtype: Number, width: int) -> int:
    """The size of one vector."""
    return np.dtype(_KINDS[dtype]).itemsize * width


def header_bytes(dtype: Number, width: int) -> int:
    """The size of what stands before the vectors: the scales of int8."""
    return 4 * width if dtype == "int8" else 0


def narrow(vectors: np.ndarray, dtype: Number) -> list[np.ndarray]:
    """What is written for float32 [n, width], in order: of int8 the scales float32 [width] (largest / 127) come first.

    Raises ValueError for a number that float16 cannot hold.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    if dtype == "float32":
        return [vectors]
    if dtype == "float16":
        if len(vectors) and np.abs(vectors).max() > np.finfo(np.float16).max:
            raise ValueError(f"{np.abs(vectors).max():g} is more than float16 can hold: store bfloat16 or float32")
        return [vectors.astype(np.float16)]
    if dtype == "bfloat16":
        return [_to_bfloat16(vectors)]
    largest = np.abs(vectors).max(axis=0, initial=0)
    # a scale below the smallest normal number would lose digits, or be 0
    scales = np.maximum(np.where(largest > 0, largest, 1) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    return [scales, np.rint(vectors / scales).clip(-127, 127).astype(np.int8)]


def mapped(path: Path, dtype: Number, shape: tuple[int, int], before: int = 0) -> np.ndarray:
    """The stored numbers [n, width], memory-mapped; `before` are bytes ahead of scales and vectors."""
    if not shape[0] or not shape[1]:
        return np.empty(shape, _KINDS[dtype])
    return np.memmap(path, _KINDS[dtype], "r", before + header_bytes(dtype, shape[1]), shape=shape)


def scale(path: Path, dtype: Number, width: int, before: int = 0) -> np.ndarray | None:
    """The scales float32 [width] of an int8 file; None for others."""
    return np.fromfile(path, np.float32, width, offset=before) if dtype == "int8" else None


def widen(numbers: np.ndarray, dtype: Number, scales: np.ndarray | None) -> np.ndarray:
    """Stored numbers as float32; those of float32 are handed on as they are."""
    if dtype == "float32":
        return numbers
    if dtype == "bfloat16":
        return (numbers.astype(np.uint32) << np.uint32(16)).view(np.float32)
    wide = numbers.astype(np.float32)
    return wide if scales is None else np.multiply(wide, scales, out=wide)


def _to_bfloat16(vectors: np.ndarray) -> np.ndarray:
    """uint16, rounded to the nearest, ties to even; the numbers are finite."""
    bits = vectors.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
