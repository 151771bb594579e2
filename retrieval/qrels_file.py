"""Judgement files: BEIR's, separated by tabs so that ids may hold spaces, and TREC's four columns."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from retrieval.columns import TEXT, joined, lines, lines_with, numbered, read_columns, shown, whole_text, written
from retrieval.ids import numbers, taken
from retrieval.judgements import JUDGED
from retrieval.types import Qrels

__all__ = ["read_qrels", "write_qrels"]

log = logging.getLogger(__name__)

_BEIR = {"query-id": TEXT, "corpus-id": TEXT, "score": pa.int32()}
_TREC = {"query": TEXT, "iteration": TEXT, "document": TEXT, "grade": pa.int32()}


def read_qrels(path: Path | str) -> Qrels:
    """Read judgements, BEIR or TREC as the first line tells, gzipped where the name ends in .gz.

    Queries come in the order of the file. A judgement given again is kept once, with a warning. Raises ValueError with
    file and line for a malformed line, for a second grade of the same document, where there are no judgements, and for
    a model's.
    """
    path = Path(path)
    number, first = next(lines(path), (0, b""))
    if first.startswith(JUDGED):
        raise ValueError(
            f"{path} holds judgements of a model, not of people: read it as a dataset of type model_judged"
        )
    beir = first.split(b"\t") == [name.encode() for name in _BEIR]
    if not beir and first.count(b"\t") == 2:
        raise ValueError(f"{path}:{number}: expected the header {chr(9).join(_BEIR)!r}, found {shown(first)}")
    form, separator = (_BEIR, "\t") if beir else (_TREC, None)
    table = read_columns(path, form, separator, skip=number if beir else 0)
    if not len(table):
        raise ValueError(f"{path} holds no judgements")
    query_ids, query = numbered(table.column(0), encoded=not beir)
    doc_ids, doc = numbered(table.column(-2), encoded=not beir)
    grades = numbers(table.column(-1))
    kept = _kept(path, query.astype(np.int64) << 32 | doc, grades, (query_ids, doc_ids), separator)
    kept = kept[np.argsort(query[kept], kind="stable")]
    docs = taken(doc_ids, doc[kept]).cast(pa.string())
    return Qrels(tuple(query_ids.to_pylist()), query[kept], docs, grades[kept].astype(np.int32))


def write_qrels(qrels: Qrels, path: Path | str) -> None:
    """Write judgements of people as a TREC file, whole or not at all.

    Raises ValueError for an empty id, for a query with none, and for a model's, whose name the file cannot hold.
    """
    if qrels.judge is not None:
        raise ValueError(f"{qrels.judge} judged, not people, which a qrels file cannot tell: keep the judgements file")
    bare = len(qrels.query_ids) - len(np.unique(qrels.query))
    if bare:
        raise ValueError(f"{bare} of {len(qrels.query_ids)} queries have no judgement: a TREC file cannot hold them")
    queries = written(qrels.query_ids, "query").take(pa.array(qrels.query))
    grades = pa.array([f"{grade}\n" for grade in qrels.grades.tolist()], pa.large_string())
    with whole_text(Path(path)) as file:
        if len(qrels):
            file.write(joined([queries, "0", written(qrels.doc_ids, "document"), grades]))


def _kept(
    path: Path, pairs: np.ndarray, grades: np.ndarray, ids: tuple[pa.Array, pa.Array], separator: str | None
) -> np.ndarray:
    """The first line of each (query, document) pair, ascending; `pairs` is query << 32 | document."""
    order = np.argsort(pairs, kind="stable")
    again = np.flatnonzero(pairs[order][1:] == pairs[order][:-1]) + 1
    clash = again[grades[order][again] != grades[order][again - 1]]
    if len(clash):
        raise ValueError(_clash(path, pairs, grades, order[: clash[0] + 1], ids, separator))
    if len(again):
        log.warning("%s: %d judgements are given again; each is kept once", path, len(again))
    return np.sort(np.delete(order, again))


def _clash(
    path: Path,
    pairs: np.ndarray,
    grades: np.ndarray,
    order: np.ndarray,
    ids: tuple[pa.Array, pa.Array],
    separator: str | None,
) -> str:
    """What is wrong with the last line of `order`: its grade is not that of the line before it, of the same pair."""
    pair = int(pairs[order[-1]])
    query, doc = ids[0][pair >> 32].as_py(), ids[1][pair & 0xFFFFFFFF].as_py()
    found = lines_with(path, {0: query, 1 if separator else 2: doc}, separator)
    nth = np.count_nonzero(pairs[order] == pair) - 1
    return (
        f"{path}:{found[nth]}: document {doc!r} has grade {grades[order[-1]]} for query {query!r}, "
        f"and grade {grades[order[-2]]} on line {found[nth - 1]}: keep one"
    )
