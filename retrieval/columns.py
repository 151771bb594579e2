"""Text files of columns, such as TREC runs and judgements, by way of Arrow; a malformed line is named."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.files import whole_file
from retrieval.ids import decode_id, decode_ids, encode_ids, numbers

__all__ = ["TEXT", "joined", "lines", "lines_with", "numbered", "read_columns", "shown", "whole_text", "written"]

TEXT = pa.dictionary(pa.int32(), pa.string())
_BLOCK = 1 << 20  # bytes that one thread parses at a time, few enough for their dictionary to stay in the cache
_BLANKS = b"\t\v\f\r"


def read_columns(path: Path, form: Mapping[str, pa.DataType], separator: str | None = None, skip: int = 0) -> pa.Table:
    """The columns of a text file, gzipped where it ends in .gz: each TEXT, a float or an integer, as `form` names them.

    `separator` None is white space of any kind and length. The first `skip` lines are left out.
    Raises ValueError with the line where one has other columns, an empty one, or what is no number.
    """
    if not any(True for _ in lines(path, skip)):
        return pa.schema(form.items()).empty_table()
    for source in _sources(path, separator):
        try:
            with _unpacking(path), source:
                return _checked(_parse(source, form, separator or " ", skip), spaces=separator is not None)
        except pa.ArrowInvalid:
            continue  # the next source, or the slow search for the line
    raise ValueError(_complaint(path, form, separator, skip))


def lines(path: Path, skip: int = 0) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1, without line ends."""
    with _unpacking(path), _open(path) as file:
        for number, line in enumerate(file, 1):
            if number > skip and line.strip():
                yield number, line.rstrip(b"\r\n")


def lines_with(path: Path, cells: Mapping[int, str], separator: str | None = None) -> list[int]:
    """The numbers of the lines that hold these ids in these columns; between white space ids are percent-encoded."""
    found = []
    for number, line in lines(path):
        texts = [text.decode() for text in line.split(separator.encode() if separator else None)]
        if all(cell == (texts[place] if separator else decode_id(texts[place])) for place, cell in cells.items()):
            found.append(number)
    return found


def numbered(column: pa.ChunkedArray, encoded: bool) -> tuple[pa.Array, np.ndarray]:
    """The texts of a TEXT column, each once as they first appear, and the place of each row's text, int32.

    `encoded` texts are decoded.
    """
    chunks = column.unify_dictionaries().chunks
    if not chunks:
        return pa.array([], pa.string()), np.zeros(0, np.int32)
    texts = chunks[0].dictionary
    texts = (decode_ids(texts) if encoded else texts).dictionary_encode()  # two spellings may be one id
    places = np.concatenate([numbers(chunk.indices) for chunk in chunks])
    return texts.dictionary, numbers(texts.indices)[places]


@contextmanager
def whole_text(path: Path) -> Iterator[pa.NativeFile]:
    """A file to write lines to, gzipped for .gz; it takes its place only when the block ends without an error."""
    compression = "gzip" if path.suffix == ".gz" else None
    with whole_file(path) as part, pa.output_stream(str(part), compression=compression) as file:
        yield file


def joined(columns: Sequence[pa.Array | np.ndarray | str]) -> pa.Buffer:
    """The text of all lines; the last column ends in \\n. Arrow writes float32 with as few digits as bring it back."""
    arrays = [pa.array(column) if isinstance(column, np.ndarray) else column for column in columns]
    texts = [
        pa.scalar(array, pa.large_string()) if isinstance(array, str) else array.cast(pa.large_string())
        for array in arrays
    ]
    return pc.binary_join_element_wise(*texts, pa.scalar(" ", pa.large_string())).buffers()[2]


def written(ids: pa.Array | Sequence[str], kind: str) -> pa.Array:
    """Ids as a file separated by white space holds them. Raises ValueError for an empty one."""
    ids = (ids if isinstance(ids, pa.Array) else pa.array(list(ids))).cast(pa.large_string())
    if len(ids) and pc.min(pc.binary_length(ids)).as_py() == 0:
        raise ValueError(f"a {kind} id is empty: columns separated by white space cannot hold it")
    return encode_ids(ids)


def _sources(path: Path, separator: str | None) -> Iterator[pa.NativeFile]:
    yield pa.input_stream(str(path))
    if separator is None:  # most files hold single spaces; what does not is brought to that
        yield pa.PythonFile(_SingleSpaces(path), "r")


def _parse(source: pa.NativeFile, form: Mapping[str, pa.DataType], separator: str, skip: int) -> pa.Table:
    from pyarrow import csv

    return csv.read_csv(
        source,
        csv.ReadOptions(column_names=list(form), block_size=_BLOCK, skip_rows=skip),
        csv.ParseOptions(delimiter=separator, quote_char=False, double_quote=False),
        csv.ConvertOptions(column_types=dict(form), null_values=[], strings_can_be_null=False),
    )


def _checked(table: pa.Table, spaces: bool) -> pa.Table:
    """The table. Raises ArrowInvalid for NaN, for an empty text and, unless `spaces`, for white space in a text."""
    for column in table.columns:
        if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
            raise pa.ArrowInvalid("a number is NaN")
        for texts in (chunk.dictionary for chunk in column.chunks if column.type == TEXT):
            data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
            blank = not spaces and ((data > 8) & (data < 14)).any()
            if blank or pc.min(pc.binary_length(texts)).as_py() == 0:
                raise pa.ArrowInvalid("a line was not cut where its columns end")
    return table


class _SingleSpaces(io.RawIOBase):
    """The bytes of a file with every stretch of white space made one space, and none at the ends of lines."""

    def __init__(self, path: Path):
        self._file, self._rest, self._ready = _open(path), b"", b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; none at the end of the file."""
        while not self._ready:
            block = self._file.read(_BLOCK)
            if not block and not self._rest:
                return b""
            whole, end, self._rest = (self._rest + (block or b"\n")).rpartition(b"\n")
            self._ready = _single_spaces(whole + end)
        given, self._ready = (self._ready, b"") if size < 0 else (self._ready[:size], self._ready[size:])
        return given

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _single_spaces(text: bytes) -> bytes:
    text = text.translate(bytes.maketrans(_BLANKS, b" " * len(_BLANKS)))
    if b"  " in text:
        text = re.sub(b" {2,}", b" ", text)
    return text.replace(b" \n", b"\n").replace(b"\n ", b"\n").removeprefix(b" ")


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else open(path, "rb")  # type: ignore[return-value]


@contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    """Name the file that is cut short or not gzip at all."""
    try:
        yield
    except (EOFError, OSError, zlib.error) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise ValueError(f"{path} is not a whole gzip file: {error}") from None


def _complaint(path: Path, form: Mapping[str, pa.DataType], separator: str | None, skip: int) -> str:
    """What is wrong with the first line that is wrong."""
    expected = f"{len(form)} columns ({', '.join(form)}) separated by {'tabs' if separator else 'white space'}"
    for number, line in lines(path, skip):
        cells = line.split(separator.encode() if separator else None)
        if len(cells) != len(form):
            return f"{path}:{number}: expected {expected}, found {len(cells)}: {shown(line)}"
        for (name, wanted), cell in zip(form.items(), cells, strict=True):
            if wrong := _wrong(cell, wanted):
                return f"{path}:{number}: {name} {shown(cell)} {wrong}"
    return f"{path} cannot be read as {expected}"


def _wrong(cell: bytes, wanted: pa.DataType) -> str | None:
    try:
        text = cell.decode()
    except UnicodeDecodeError:
        return "is not UTF-8"
    if wanted == TEXT:
        return None if text else "is empty"
    try:
        number = pa.scalar(text).cast(wanted).as_py()
    except pa.ArrowInvalid:
        number = float("nan")
    return f"is not {'a number' if pa.types.is_floating(wanted) else 'a whole number'}" if number != number else None


def shown(text: bytes) -> str:
    """The text as an error shows it."""
    quoted = repr(text.decode(errors="backslashreplace"))
    return quoted if len(quoted) <= 120 else f"{quoted[:117]}..."
