"""Runs with judgements, and what trec_eval's own code says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytrec_eval
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st

from retrieval.ids import DocIds, encode_id
from retrieval.types import Run

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are shared
# zero bytes end a C string, and Arrow takes U+FEFF at the start of a file for a mark
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1, max_size=3)
IDS = st.one_of(TEXT, st.sampled_from(["a", "b", "a b", "a%20b", "A", "é", "\U0001f600", "10", "9"]))
SCORES = st.sampled_from([-3.0, 0.0, 0.25, 0.5, 1.0000001, 1.0])  # few, so that many tie


@st.composite
def judged_runs(draw):
    """(run, qrels as dictionary): ties, lists of any length, missing queries, unknown documents, negative grades."""
    docs = draw(st.lists(IDS, min_size=1, max_size=9, unique=True))
    queries = draw(st.lists(IDS, min_size=1, max_size=4, unique=True))
    found = {query: draw(st.dictionaries(st.sampled_from(docs), SCORES)) for query in queries}
    judged = draw(
        st.dictionaries(
            st.one_of(st.sampled_from(queries), IDS),
            st.dictionaries(st.one_of(st.sampled_from(docs), IDS), st.integers(-2, 4), min_size=1),
            min_size=1,
        )
    )
    assume(set(judged) & set(queries))
    return run_of(found, docs), judged


def run_of(found, docs=None, name="run"):
    """A Run from query -> document -> score."""
    table = DocIds.of(docs or sorted({doc for scores in found.values() for doc in scores}))
    longest = max(map(len, found.values()))
    rows, scores = np.full((len(found), longest), -1, np.int32), np.zeros((len(found), longest), np.float32)
    for number, results in enumerate(found.values()):
        rows[number, : len(results)] = table.rows(list(results))
        scores[number, : len(results)] = list(results.values())
    return Run.ordered(tuple(found), table, rows, scores, name)


def trec_eval(found, judged, measures, level=1, judged_only=False):
    """measure -> query -> value, by trec_eval's own code; a query it does not report scores 0."""
    # it crashes on a query with negative grades only, which one more document that nothing retrieves prevents
    judged = {
        query: {**grades, "nowhere": 0} if max(grades.values()) < 0 else grades for query, grades in judged.items()
    }
    evaluator = pytrec_eval.RelevanceEvaluator(judged, set(measures.values()), level, judged_only)
    values = evaluator.evaluate({query: scores for query, scores in found.items() if scores})
    return {
        ours: {query: values.get(query, {}).get(theirs, 0.0) for query in judged} for ours, theirs in measures.items()
    }


def encoded(table):
    return {encode_id(query): {encode_id(doc): value for doc, value in row.items()} for query, row in table.items()}


def by_query(evaluation):
    return {
        measure: dict(zip(map(encode_id, evaluation.query_ids), values.tolist(), strict=True))
        for measure, values in evaluation.values.items()
    }


def parsed(path: Path, columns: tuple[int, int, int], convert: type) -> dict[str, dict[str, float]]:
    """A TREC file as the simplest tool reads it."""
    table: dict[str, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line:
            query, doc, value = (line.split()[column] for column in columns)
            table.setdefault(query, {})[doc] = convert(value)
    return table
