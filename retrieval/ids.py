"""External document ids: a row number inside, a string at the edge, and the order that breaks ties."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "DocIds",
    "DuplicateId",
    "byte_order",
    "decode_id",
    "decode_ids",
    "encode_id",
    "encode_ids",
    "id_rank",
    "numbers",
    "taken",
]

# TREC files are split at white space, by Python tools at any that str.split knows; it is percent-encoded, % with it.
_UNSAFE = "[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000%]"
_ENCODED = re.compile("%(?:09|0[A-D]|1[C-F]|2[05]|C2%(?:85|A0)|E1%9A%80|E2%80%(?:8[0-9A]|A[89F])|E2%81%9F|E3%80%80)")
_SUSPECT = np.zeros(256, bool)  # bytes that those are made of or begin with
_SUSPECT[[*range(9, 14), *range(28, 33), ord("%"), 0xC2, 0xE1, 0xE2, 0xE3]] = True
_MORE = 8  # in the last byte of a word: the text goes on after its seven bytes
_KEPT = np.array([2**64 - 2 ** (64 - 8 * count) for count in range(8)] + [2**64 - 2**8], np.uint64)


class DuplicateId(ValueError):
    """A document id given twice; `args[1]` is the id."""

    def __str__(self) -> str:
        return self.args[0]


@dataclass(frozen=True, eq=False)
class DocIds:
    """The ids of a collection, by row. `rank` is the tie key: among equal scores the higher rank comes first."""

    values: pa.Array  # large_string [n]
    fingerprint: str  # of the corpus, or of these ids where there is no corpus
    rank: np.ndarray = field(repr=False)  # int32 [n], place of each id in ascending byte order of its written form

    @classmethod
    def of(cls, ids: Iterable[str] | pa.Array, fingerprint: str | None = None) -> DocIds:
        """Ids in row order. Raises DuplicateId for an id given twice."""
        values = ids if isinstance(ids, pa.Array) else pa.array(list(ids), pa.large_string())
        values = values.cast(pa.large_string())
        return cls(values, fingerprint or _hash(values), id_rank(values))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int) -> str:
        return self.values[int(row)].as_py()

    def take(self, rows: np.ndarray | Sequence[int]) -> list[str]:
        """The ids of these rows."""
        return taken(self.values, np.asarray(rows, np.int64)).to_pylist()

    def rows(self, ids: Sequence[str] | pa.Array) -> np.ndarray:
        """int32 rows of these ids, -1 where there is no such document."""
        wanted = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.large_string())
        find = _rows_by_hash if 4 * len(wanted) < len(self) else _rows_by_order
        return find(self.values, wanted.cast(pa.large_string()))


def _rows_by_hash(values: pa.Array, wanted: pa.Array) -> np.ndarray:
    """For few against many: the few are hashed, the many looked up."""
    wanted = pc.dictionary_encode(wanted)
    place = pc.index_in(values, value_set=wanted.dictionary)
    row_of = np.full(len(wanted.dictionary), -1, np.int32)
    row_of[numbers(place.drop_null())] = numbers(pc.indices_nonzero(place.is_valid()))
    return row_of[numbers(wanted.indices)]


def _rows_by_order(values: pa.Array, wanted: pa.Array) -> np.ndarray:
    """For many against many: sorted together, equal ids stand together."""
    places, new = byte_order(pa.concat_arrays([values, wanted]))
    rows = np.where(places < len(values), places, -1).astype(np.int32)
    rows = np.maximum.reduceat(rows, np.flatnonzero(new)) if len(rows) else rows
    found = np.empty(len(places), np.int32)
    found[places] = rows[np.cumsum(new) - 1]
    return found[len(values) :]


def id_rank(values: pa.Array) -> np.ndarray:
    """int32 [n], each id's place in ascending byte order. Raises DuplicateId for an id given twice."""
    written = encode_ids(values)
    places, new = byte_order(written)
    if not new.all():
        twice = decode_id(written[int(places[new.argmin()])].as_py())
        raise DuplicateId(f"document id {twice!r} is given twice", twice)
    rank = np.empty(len(places), np.int32)
    rank[places] = np.arange(len(places), dtype=np.int32)
    return rank


def byte_order(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Positions int64 [n] that bring strings into ascending byte order, and bool [n], whether each is a new string.

    Sorts integers of seven bytes at a time, several times faster than comparing strings where these are short.
    """
    data, starts, lengths = _bytes(values)
    words = _words(data, starts, lengths)
    risen = bool((words[1:] >= words[:-1]).all())  # as a run file's ids are
    places = np.arange(len(words)) if risen else np.argsort(words)
    words, new = words[places], np.ones(len(places), bool)
    new[1:] = words[1:] != words[:-1]
    at = 0
    while len(tied := _undecided(words, new)):
        at += 7
        members = places[tied]
        further = _words(data, starts[members] + at, lengths[members] - at)
        within = np.lexsort((further, np.cumsum(new[tied])))
        places[tied], further = members[within], further[within]
        new[tied[1:]] |= further[1:] != further[:-1]
        words[tied] = further
    return places, new


def numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The numbers of a column without nulls. Arrow's own way imports pandas, a quarter of a second."""
    chunks = [chunk for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else [column]) if len(chunk)]
    dtype = np.dtype(column.type.to_pandas_dtype())
    parts = [np.frombuffer(one.buffers()[1], dtype, len(one), one.offset * dtype.itemsize) for one in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, dtype), *parts])


def taken(values: pa.Array, places: np.ndarray) -> pa.Array:
    """The values at these places; here too Arrow's own way imports pandas."""
    buffer = pa.py_buffer(np.ascontiguousarray(places))
    return values.take(pa.Array.from_buffers(pa.from_numpy_dtype(places.dtype), len(places), [None, buffer]))


def _bytes(values: pa.Array) -> tuple[np.ndarray, ...]:
    """The bytes of all strings, uint8, with zeros after the last; int64 [n] starts and int32 [n] lengths."""
    values = values.cast(pa.large_string())
    if not len(values):
        return np.zeros(8, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int32)
    offsets = np.frombuffer(values.buffers()[1], np.int64, len(values) + 1, values.offset * 8)
    text = np.frombuffer(values.buffers()[2] or b"", np.uint8)[: offsets[-1]]
    return np.concatenate([text, np.zeros(8, np.uint8)]), offsets[:-1], np.diff(offsets).astype(np.int32)


def _words(data: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """uint64 [n]: the first seven bytes, then how many there were, so that integers compare as the strings do."""
    left = np.minimum(lengths, _MORE).astype(np.uint8)
    words = np.ndarray(len(data) - 7, ">u8", data, strides=(1,))[starts].byteswap(inplace=True).view("<u8")
    words &= _KEPT[left]
    words |= left
    return words


def _undecided(words: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Places in groups of equal words whose strings go on."""
    alone = new.copy()
    alone[:-1] &= new[1:]
    return np.flatnonzero(~alone & (words & np.uint64(0xFF) == _MORE))


def encode_id(text: str) -> str:
    """The id as TREC files carry it: white space and % are percent-encoded."""
    return re.sub(_UNSAFE, lambda match: quote(match[0]), text)


def decode_id(text: str) -> str:
    """The id that `encode_id` wrote; any other % is left as it is."""
    return _ENCODED.sub(lambda match: unquote(match[0]), text)


def encode_ids(values: pa.Array) -> pa.Array:
    """`encode_id` over an array; free where no id needs it."""
    data, starts, _ = _bytes(values)
    if not len(starts) or not _SUSPECT[data[starts[0] :]].any():
        return values
    return pa.array([encode_id(text) for text in values.to_pylist()], values.type)


def decode_ids(values: pa.Array) -> pa.Array:
    """`decode_id` over an array; free where no id needs it."""
    if not pc.any(pc.match_substring(values, "%")).as_py():
        return values
    return pa.array([decode_id(text) for text in values.to_pylist()], values.type)


def _hash(values: pa.Array) -> str:
    data, starts, lengths = _bytes(values)
    digest = hashlib.sha256(lengths.astype("<i4").data)
    digest.update(data[starts[0] : -8].data if len(starts) else b"")
    return f"ids-{digest.hexdigest()[:16]}"
