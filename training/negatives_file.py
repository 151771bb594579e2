"""Mined negatives as JSON lines, one a query: {"qid": "q1", "docid": ["d7", "d3"], "score": [0.7, 0.6]}."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from retrieval.columns import lines
from retrieval.corpus import Corpus
from retrieval.files import whole_file
from retrieval.lists import Lists
from retrieval.types import Run
from training.mining import Negatives, rows_among

__all__ = ["read_negatives", "write_negatives"]

FORM = 'no record of negatives; a line is {"qid": "...", "docid": ["...", ...]}, and may have the "score" of each'


def write_negatives(path: Path, run: Run, negatives: Negatives) -> None:
    """Write what was mined out of a run, whole or not at all; scores are similarities, in the order of the run."""
    with whole_file(path) as part, open(part, "w", encoding="utf-8") as file:
        for number, query in enumerate(run.query_ids):
            columns = negatives.columns[negatives.offsets[number] : negatives.offsets[number + 1]]
            found, scores = run.docs.take(run.rows[number, columns]), run.scores[number, columns].tolist()
            file.write(json.dumps({"qid": query, "docid": found, "score": scores}, ensure_ascii=False) + "\n")


def read_negatives(path: Path, lists: Lists, corpus: Corpus, relevant: float) -> Negatives:
    """The negatives of these lists in such a file, which may be of other queries too.

    What a list holds already is left out, and counted. Raises ValueError, with file and line, for what is no record, a
    document that the corpus lacks, and a positive (a label of `relevant` or higher); and for a file of other queries.
    """
    place = {query: number for number, query in enumerate(lists.queries.ids)}
    found: list[list[int]] = [[] for _ in place]
    counts = {"mining: mined negatives": 0, "mining: listed already": 0}
    known = False
    relevant_rows, ends = lists.relevant(relevant)
    for number, query, ids in _records(path):
        rows = corpus.ids.rows(ids)
        if (rows < 0).any():
            raise ValueError(f"{path}:{number}: document {ids[int((rows < 0).argmax())]!r} is not in the corpus")
        if query not in place:
            continue
        known = True
        own = slice(lists.offsets[place[query]], lists.offsets[place[query] + 1])
        rows = rows_among(lists.passages, rows, corpus.fingerprint)
        wrong = np.isin(rows, relevant_rows[ends[place[query]] : ends[place[query] + 1]])
        if wrong.any():
            raise ValueError(
                f"{path}:{number}: query {query!r} has {ids[int(wrong.argmax())]!r} among its negatives, which is one "
                f"of its positives (label {relevant:g} or higher): mine again with these judgements"
            )
        new = [row for row in dict.fromkeys(rows.tolist()) if row not in {*lists.rows[own], *found[place[query]]}]
        counts["mining: listed already"] += len(ids) - len(new)
        found[place[query]] += new
    if not known:
        raise ValueError(f"{path} has negatives for none of the {len(place)} training queries: it is of other queries")
    offsets = np.cumsum([0, *map(len, found)])
    counts["mining: mined negatives"] = int(offsets[-1])
    mined = np.array([row for rows in found for row in rows], np.int32)
    return Negatives(offsets, mined, np.full(len(mined), -1), counts)


def _records(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Line, query id and document ids of each record."""
    for number, line in lines(path):
        try:
            record = json.loads(line)
            query, ids = record["qid"], record["docid"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path}:{number}: {FORM}") from None
        if not isinstance(query, str) or not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise ValueError(f"{path}:{number}: {FORM}")
        yield number, query, ids
