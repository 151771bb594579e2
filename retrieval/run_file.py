"""Run files: TREC text, which every tool reads, and Parquet, which holds all that a Run holds and loads faster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from retrieval.columns import TEXT, joined, lines, lines_with, numbered, read_columns, whole_text, written
from retrieval.files import whole_file
from retrieval.ids import DocIds, byte_order, decode_id, decode_ids, numbers, taken
from retrieval.locate import data_folder
from retrieval.order import PAD, order
from retrieval.types import Run

__all__ = ["find_run", "read_run", "write_run"]

_TREC = {"query": TEXT, "Q0": TEXT, "document": TEXT, "rank": TEXT, "score": pa.float32(), "tag": TEXT}
_PARQUET = pa.schema(
    {"query": pa.large_string(), "document": pa.large_string(), "score": pa.float32(), "rank": pa.int32()}
)  # rank: DocIds.rank of the document, so that ids need no sorting when read; earlier files have none
_RESULTS = 1 << 18  # results turned into text at a time
_FILES = ("run.parquet", "run.trec", "trained.parquet")  # of a folder of results, the first that is there


@dataclass(frozen=True, eq=False)
class _Results:
    """What a run file holds, in its order."""

    query_ids: Sequence[str]
    query: np.ndarray  # int32 [results], places in query_ids
    doc_ids: pa.Array  # large_string, each id once
    doc: np.ndarray  # int32 [results], places in doc_ids
    scores: np.ndarray  # float32 [results]
    name: str


def write_run(run: Run, path: Path | str) -> None:
    """Write a run, whole or not at all: Parquet for .parquet, otherwise a TREC file, gzipped for .gz.

    A TREC file leaves out queries without results: `read_run` puts them back when told the `query_ids`. Scores are
    written with the fewest digits that give the same float32, ids percent-encoded. Raises ValueError for an empty id.
    """
    write = _write_parquet if Path(path).suffix == ".parquet" else _write_trec
    write(run, Path(path))


def read_run(
    path: Path | str, query_ids: Sequence[str] | None = None, docs: DocIds | None = None, name: str | None = None
) -> Run:
    """Read a run that `write_run` or any TREC tool wrote; a TREC file is ordered by score and document id, not by rank.

    `query_ids` sets the queries and their order, and keeps those without results. `docs` maps the documents to rows of
    a corpus; without it the run has a table of just its own. `name` replaces the one in the file.
    Raises ValueError that names the line for what is malformed, NaN or there twice, and that counts unknown queries
    and documents.
    """
    path = Path(path)
    parquet = path.suffix == ".parquet"
    held = _read_parquet(path, docs) if parquet else _read_trec(path)
    pa.default_memory_pool().release_unused()
    if query_ids is not None:
        held = _asked(path, held, query_ids)
    table = DocIds.of(held.doc_ids) if docs is None else docs
    rows, scores = _lists(held, held.doc if docs is None else _rows(path, held, docs))
    _refuse_repeats(path, held, rows, table)
    if not parquet:
        rows, scores = _settled(rows, scores, table.rank)
    try:
        return Run(tuple(held.query_ids), table, rows, scores, name or held.name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def find_run(path: Path | str) -> Path:
    """The run file of a path as it is, or below RETRIEVAL_DATA; of a folder of results, the run it holds.

    Raises FileNotFoundError that says where it was looked for, or which files of the folder may be named.
    """
    data = data_folder()
    places = [Path(path), *([data / path] if data else [])]
    there = next((place for place in places if place.exists()), None)
    if there is None:
        raise FileNotFoundError(f"no run at {' nor '.join(map(str, places))}: name a run file or a folder of results")
    if there.is_file():
        return there
    files = [there / name for name in _FILES if (there / name).is_file()]
    if not files:
        held = ", ".join(sorted(one.name for one in there.glob("*.parquet"))) or "no run"
        raise FileNotFoundError(f"{there} has none of {', '.join(_FILES)}; it holds {held}: name the file")
    return files[0]


def _write_trec(run: Run, path: Path) -> None:
    queries = written(run.query_ids, "query")
    tag = written([run.name], "run")[0].as_py() + "\n"
    step = max(1, _RESULTS // max(1, run.rows.shape[1]))
    with whole_text(path) as file:
        for start in range(0, len(queries), step):
            query, rank = np.nonzero(run.rows[start : start + step] != PAD)
            if len(query):
                query += start
                docs = written(taken(run.docs.values, run.rows[query, rank]), "document")
                file.write(joined([taken(queries, query), "Q0", docs, rank + 1, run.scores[query, rank], tag]))


def _read_trec(path: Path) -> _Results:
    _, first = next(lines(path), (0, path.stem.encode()))
    table = read_columns(path, _TREC).select(["query", "document", "score"])
    query_ids, query = numbered(table["query"], encoded=True)
    scores = numbers(table["score"])
    texts = [decode_ids(chunk.dictionary) for chunk in table["document"].chunks]
    places = [numbers(chunk.indices) for chunk in table["document"].chunks]
    starts = np.cumsum([0, *map(len, texts)])
    together = _together(texts)
    del table, texts  # as large as what is made of them
    doc_ids, code = _distinct(together)
    docs = [code[start:][place] for start, place in zip(starts, places, strict=False)]
    doc = np.concatenate([np.zeros(0, np.int32), *docs])
    return _Results(query_ids.to_pylist(), query, doc_ids, doc, scores, decode_id(first.split()[-1].decode()))


def _together(texts: Sequence[pa.Array]) -> pa.Array:
    parts = [part.cast(pa.large_string()) for part in texts]
    return parts[0] if len(parts) == 1 else pa.concat_arrays([pa.nulls(0, pa.large_string()), *parts])


def _distinct(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """These texts, each once, in byte order; and the place of each text given, int32."""
    pa.default_memory_pool().release_unused()  # Arrow keeps what it no longer needs, and this takes much
    places, new = byte_order(texts)
    code = np.empty(len(places), np.int32)
    code[places] = np.cumsum(new, dtype=np.int32) - 1
    return taken(texts, places[new]), code


def _write_parquet(run: Run, path: Path) -> None:
    from pyarrow import parquet

    query, place = np.nonzero(run.rows != PAD)
    rows = run.rows[query, place]
    queries = pa.array(list(run.query_ids), pa.large_string())
    about = {"query_ids": list(run.query_ids), "name": run.name, "docs": run.docs.fingerprint}
    table = pa.table(
        [taken(queries, query), taken(run.docs.values, rows), run.scores[query, place], run.docs.rank[rows]],
        _PARQUET.with_metadata({"run": json.dumps(about)}),
    )
    with whole_file(path) as part:
        parquet.write_table(table, part, compression="zstd", use_dictionary=["query", "document"])


def _read_parquet(path: Path, docs: DocIds | None) -> _Results:
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path, read_dictionary=["query"])
        about = json.loads(file.metadata.metadata[b"run"])
        held, name, corpus = about["query_ids"], about["name"], about["docs"]
    except (pa.ArrowInvalid, KeyError, TypeError):
        raise ValueError(f"{path} is no Parquet run that write_run wrote: write it again, or a TREC file") from None
    columns, expected = file.schema_arrow.remove_metadata(), _PARQUET.set(0, pa.field("query", TEXT))
    if columns not in (expected, expected.remove(3)):
        raise ValueError(f"{path} has columns {columns}, and a run has {expected}")
    if docs is not None and corpus != docs.fingerprint and not corpus.startswith("ids-"):
        raise ValueError(
            f"{path} was made on the corpus {corpus} and is read for {docs.fingerprint}: open that corpus, "
            "or read it without `docs`"
        )
    table = file.read()
    names, query = numbered(table["query"], encoded=False)
    place = {text: number for number, text in enumerate(held)}
    if not place.keys() >= set(names.to_pylist()) or any(column.null_count for column in table.columns):
        raise ValueError(
            f"{path} has gaps, or results of queries that it does not list: it was changed after write_run"
        )
    places = np.array([place[text] for text in names.to_pylist()], np.int32)
    texts = _together(table["document"].chunks)
    doc_ids, doc = _ranked(texts, numbers(table["rank"])) if "rank" in table.column_names else _distinct(texts)
    return _Results(held, places[query], doc_ids, doc, numbers(table["score"]), name)


def _ranked(texts: pa.Array, rank: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """As `_distinct`, of texts whose order is known."""
    used = np.zeros(int(rank.max(initial=-1)) + 1, bool)
    used[rank] = True
    code = (np.cumsum(used, dtype=np.int32) - 1)[rank]
    one = np.empty(np.count_nonzero(used), np.int32)
    one[code] = np.arange(len(code), dtype=np.int32)
    return taken(texts, one), code


def _asked(path: Path, held: _Results, query_ids: Sequence[str]) -> _Results:
    """The results under the queries asked for."""
    place = {query: number for number, query in enumerate(query_ids)}
    if len(place) < len(query_ids):
        raise ValueError(f"{len(query_ids)} query ids were asked of {path}, only {len(place)} of them distinct")
    unknown = [query for query in held.query_ids if query not in place]
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} of its {len(held.query_ids)} queries, such as {unknown[0]!r}, are not among the "
            f"{len(query_ids)} asked for{f', such as {query_ids[0]!r}' if query_ids else ''}"
        )
    places = np.array([place[query] for query in held.query_ids], np.int32)
    return replace(held, query_ids=query_ids, query=places[held.query])


def _rows(path: Path, held: _Results, docs: DocIds) -> np.ndarray:
    """int32 rows in `docs` of all results."""
    known = docs.rows(held.doc_ids)
    rows = known[held.doc]
    if (rows < 0).any():
        first = held.doc_ids[int(held.doc[(rows < 0).argmax()])].as_py()
        raise ValueError(
            f"{path}: {np.count_nonzero(known < 0)} of its {len(known)} documents are not among the {len(docs)} of the "
            f"corpus, the first is {first!r}"
        )
    return rows


def _lists(held: _Results, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int32 rows and float32 scores [queries, longest list] in the order of the file, padded."""
    scores = held.scores
    if (held.query[1:] < held.query[:-1]).any():
        grouped = np.argsort(held.query, kind="stable")
        rows, scores = rows[grouped], scores[grouped]
    counts = np.bincount(held.query, minlength=len(held.query_ids))
    filled = np.arange(counts.max(initial=0)) < counts[:, None]
    lists = np.full(filled.shape, PAD, np.int32), np.full(filled.shape, -np.inf, np.float32)
    lists[0][filled], lists[1][filled] = rows, scores
    return lists


def _settled(rows: np.ndarray, scores: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lists in the one order; only those that do not fall strictly need sorting."""
    falls = (scores[:, 1:] < scores[:, :-1]) | (rows[:, 1:] == PAD)
    unsettled = np.flatnonzero(~falls.all(axis=1))
    rows[unsettled], scores[unsettled] = order(rows[unsettled], scores[unsettled], rank)
    return rows, scores


def _refuse_repeats(path: Path, held: _Results, rows: np.ndarray, docs: DocIds) -> None:
    ascending = np.sort(rows, axis=1)
    twice = (ascending[:, 1:] == ascending[:, :-1]) & (ascending[:, 1:] != PAD)
    if twice.any():
        number, place = (int(axis[0]) for axis in np.nonzero(twice))
        query, doc = held.query_ids[number], docs[ascending[number, place]]
        first, second = ("", "") if path.suffix == ".parquet" else lines_with(path, {0: query, 2: doc})[:2]
        where = f"{path}:{second}: " if second else f"{path}: "
        known = f", first on line {first}" if first else ""
        raise ValueError(f"{where}document {doc!r} is there twice for query {query!r}{known}")
