"""Strings and their numbers: a hash table over one buffer of bytes, compiled, so that millions of terms cost little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

__all__ = ["Vocabulary", "string_buffers", "strings"]

EMPTY = -1
_FNV = (np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3))  # Fowler, Noll, Vo: offset basis and prime, 64 bit


class Vocabulary:
    """Terms in the order in which they first came; term i is bytes[offsets[i]:offsets[i + 1]], UTF-8."""

    def __init__(self, whole: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None):
        """An empty vocabulary, or one again whose `whole` was written."""
        self._slots, self._data, self._offsets = whole or (
            np.full(1 << 12, EMPTY, np.int32),
            np.zeros(1 << 16, np.uint8),
            np.zeros(1 << 12, np.int64),
        )
        self.count = len(whole[2]) - 1 if whole else 0

    def __len__(self) -> int:
        return self.count

    @property
    def table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slots int32, bytes uint8 and offsets int64 with their spare room, for compiled code."""
        return self._slots, self._data, self._offsets

    @property
    def whole(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same without spare room, to be written."""
        return self._slots, self._data[: self._offsets[self.count]], self._offsets[: self.count + 1]

    @property
    def terms(self) -> pa.Array:
        """large_string [terms]."""
        return strings(*self.whole[1:])

    def add(self, terms: pa.Array) -> np.ndarray:
        """int32 ids of these terms; new ones are added in order."""
        data, offsets = string_buffers(terms)
        self._reserve(len(terms), int(offsets[-1] - offsets[0]))
        ids = np.empty(len(terms), np.int32)
        self.count = add_all(self._slots, self._data, self._offsets, self.count, data, offsets, ids)
        return ids

    def find(self, terms: pa.Array | Sequence[str]) -> np.ndarray:
        """int32 ids of these terms, -1 for one that is not there."""
        array = terms if isinstance(terms, pa.Array) else pa.array(terms, pa.large_string())
        data, offsets = string_buffers(array)
        ids = np.empty(len(array), np.int32)
        find_all(self._slots, self._data, self._offsets, data, offsets, ids)
        return ids

    def take(self, numbers: np.ndarray) -> pa.Array:
        """The terms of these numbers, large_string."""
        return strings(*pick(self._data, self._offsets, numbers))

    def _reserve(self, terms: int, size: int) -> None:
        """Room for so many more."""
        used, needed = int(self._offsets[self.count]), self.count + terms
        self._data = _grown(self._data, used, used + size)
        self._offsets = _grown(self._offsets, self.count + 1, needed + 1)
        if len(self._slots) < 2 * needed:
            self._slots = np.full(_slots_for(needed), EMPTY, np.int32)
            rehash(self._slots, self._data, self._offsets, self.count)


def string_buffers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes, uint8, and offsets into them, int64 [n + 1], of strings; missing ones are empty."""
    texts = texts.cast(pa.large_string())
    if texts.null_count:
        texts = texts.fill_null("")
    if not len(texts):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, texts.offset * 8)
    return np.frombuffer(texts.buffers()[2] or b"", np.uint8), offsets


def strings(data: np.ndarray, offsets: np.ndarray) -> pa.Array:
    """large_string from bytes and offsets that begin with 0."""
    buffers: list[Any] = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers)


def _grown(array: np.ndarray, used: int, needed: int) -> np.ndarray:
    if needed <= len(array):
        return array
    larger = np.zeros(max(needed, 2 * len(array)), array.dtype)
    larger[:used] = array[:used]
    return larger


def _slots_for(count: int) -> int:
    return 1 << max(12, (4 * count - 1).bit_length())


@njit(cache=True, nogil=True)
def hash_bytes(data, start, stop):
    """FNV-1a, its high bits folded into the low ones that choose a slot."""
    value = _FNV[0]
    for i in range(start, stop):
        value = (value ^ np.uint64(data[i])) * _FNV[1]
    return value ^ (value >> np.uint64(29))


@njit(cache=True, nogil=True)
def slot_of(slots, data, offsets, other, start, stop):
    """Where other[start:stop] is, or would be put."""
    mask = np.uint64(len(slots) - 1)
    place = hash_bytes(other, start, stop) & mask
    while slots[place] != EMPTY:
        first = offsets[slots[place]]
        if offsets[slots[place] + 1] - first == stop - start:
            i = 0
            while i < stop - start and data[first + i] == other[start + i]:
                i += 1
            if i == stop - start:
                break
        place = (place + np.uint64(1)) & mask
    return place


@njit(cache=True, nogil=True)
def add_one(slots, data, offsets, count, other, start, stop):
    """The id of other[start:stop], and the count of terms after it was added. There is room for it."""
    place = slot_of(slots, data, offsets, other, start, stop)
    if slots[place] != EMPTY:
        return slots[place], count
    slots[place] = count
    first = offsets[count]
    for i in range(stop - start):  # not a slice: making one costs as much as the rest
        data[first + i] = other[start + i]
    offsets[count + 1] = first + stop - start
    return slots[place], count + 1


@njit(cache=True, nogil=True)
def add_all(slots, data, offsets, count, other, bounds, ids):
    """Fill `ids`; the count of terms after."""
    for i in range(len(ids)):
        ids[i], count = add_one(slots, data, offsets, count, other, bounds[i], bounds[i + 1])
    return count


@njit(cache=True, nogil=True)
def find_all(slots, data, offsets, other, bounds, ids):
    """Fill `ids`, -1 where there is none."""
    for i in range(len(ids)):
        ids[i] = slots[slot_of(slots, data, offsets, other, bounds[i], bounds[i + 1])]


@njit(cache=True, nogil=True)
def pick(data, offsets, numbers):
    """Bytes and offsets of these terms."""
    bounds = np.zeros(len(numbers) + 1, np.int64)
    for i in range(len(numbers)):
        bounds[i + 1] = bounds[i] + offsets[numbers[i] + 1] - offsets[numbers[i]]
    picked = np.empty(bounds[-1], np.uint8)
    for i in range(len(numbers)):
        first = offsets[numbers[i]]
        for j in range(bounds[i + 1] - bounds[i]):
            picked[bounds[i] + j] = data[first + j]
    return picked, bounds


@njit(cache=True, nogil=True)
def rehash(slots, data, offsets, count):
    """Fill empty slots with terms that are all different."""
    mask = np.uint64(len(slots) - 1)
    for number in range(count):
        place = hash_bytes(data, offsets[number], offsets[number + 1]) & mask
        while slots[place] != EMPTY:
            place = (place + np.uint64(1)) & mask
        slots[place] = number
