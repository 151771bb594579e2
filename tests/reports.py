"""Systems, tasks and texts to make reports of."""

from __future__ import annotations

import numpy as np

from eval import evaluate
from eval.cells import Cell, Texts
from retrieval.ids import DocIds
from retrieval.types import Qrels, Run

BREAKING = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'> & \u2028 <!--"
MEASURES = ["nDCG@10", "R@10", "RR"]


def cell(system, task, lists, judged, cost=None, measures=MEASURES):
    """A system that returns these lists of documents, best first, by query."""
    docs = DocIds.of(sorted({doc for ranked in lists.values() for doc in ranked}))
    rows = np.full((len(lists), max(map(len, lists.values()))), -1, np.int32)
    for number, ranked in enumerate(lists.values()):
        rows[number, : len(ranked)] = docs.rows(ranked)
    scores = np.where(rows >= 0, -np.arange(rows.shape[1], dtype=np.float32), -np.inf).astype(np.float32)
    run, qrels = Run(list(lists), docs, rows, scores, system), Qrels.from_dict(judged)
    return Cell(system, task, evaluate(run, qrels, measures), run, qrels, cost or {})


def texts(queries=("qa", "qb", "qc")):
    """A text for every query, that of qa and of document da made to break out of a page."""
    spoken = {query: f"what does {query} ask" for query in queries} | {"qa": f"query qa {BREAKING}"}
    return Texts(spoken, lambda doc: f"text of {doc} {BREAKING if doc == 'da' else ''}".strip())


def toy():
    """Three systems on two tasks, the third on the first alone: (cells, texts by task)."""
    judged = {"qa": {"da": 3, "db": 1, "dc": 0}, "qb": {"dd": 2, "dz": 1}, "qc": {"de": 1}}
    first = {"qa": ["dc", "db", "da"], "qb": ["dx", "dd"], "qc": ["de"]}
    second = {"qa": ["da", "db"], "qb": ["dx", "dy"], "qc": ["de"]}
    third = {"qa": ["da", "dx"], "qb": ["dd"], "qc": ["dy", "de"]}
    cells = [
        cell("first", "small", first, judged, {"seconds per query": 0.001, "tokens out": 0}),
        cell("second", "small", second, judged, {"seconds per query": 0.5}),
        cell("third", "small", third, judged, {"seconds per query": 0.02, "tokens out": 700.5}),
        cell("first", "large", first, {"qa": {"da": 1}, "qb": {"dd": 1}}),
        cell("second", "large", second, {"qa": {"da": 1}, "qb": {"dd": 1}}),
    ]
    return cells, {"small": texts(), "large": texts()}


def many(systems, queries, depth=20, documents=3000):
    """Random systems on one task, the later the better: (cells, texts by task)."""
    rng, docs = np.random.default_rng(0), DocIds.of([f"d{number}" for number in range(documents)])
    ids = [f"q{number}" for number in range(queries)]
    gold = rng.integers(0, documents, queries)
    judged = Qrels.from_dict({query: {f"d{doc}": 1} for query, doc in zip(ids, gold, strict=True)})
    cells = []
    for number in range(systems):
        rows = (rng.integers(0, documents, (queries, 1)) + 7 * np.arange(depth)).astype(np.int32) % documents
        found = np.flatnonzero((rng.random(queries) < (number + 1) / systems) & ~(rows == gold[:, None]).any(axis=1))
        rows[found, rng.integers(0, depth, len(found))] = gold[found]
        scores = np.tile(-np.arange(depth, dtype=np.float32), (queries, 1))
        run = Run(ids, docs, rows, scores, f"system {number}")
        cells.append(Cell(run.name, "many", evaluate(run, judged, MEASURES), run, judged))
    spoken = {query: f"{'word ' * (1 + number % 9)}{query}" for number, query in enumerate(ids)}
    return cells, {"many": Texts(spoken, lambda doc: f"{doc} tells of much. " * 60)}
