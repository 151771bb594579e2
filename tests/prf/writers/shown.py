"""What tests of writers that read documents share: models, and a first pass over a handful of texts."""

from __future__ import annotations

import re

import numpy as np

from retrieval.ids import DocIds
from retrieval.types import Feedback, Generation, Queries, Run
from tests.prf.writers.rules import Rule

PASSAGE = re.compile(r"^\[(\d+)\] (.*)$", re.MULTILINE)


def ruled(rule):
    """A model that answers by a rule, or always the same."""
    return Rule(rule if callable(rule) else lambda request: rule)


def broken(request):
    return Generation("", failure="the server is gone")


def asked(request):
    """The last turn of a chat."""
    return request.messages[-1]["content"]


def queries(*texts):
    return Queries([f"q{i}" for i in range(len(texts))], list(texts))


def first_pass(texts, *found):
    """`found` is a list of rows per query, best first."""
    width = max(map(len, found), default=0)
    rows = np.full((len(found), width), -1, np.int32)
    scores = np.full((len(found), width), -np.inf, np.float32)
    for i, one in enumerate(found):
        rows[i, : len(one)], scores[i, : len(one)] = one, np.arange(len(one), 0, -1)
    ids = DocIds.of([f"d{i:03}" for i in range(len(texts))])
    run = Run.ordered([f"q{i}" for i in range(len(found))], ids, rows, scores, "toy")
    return Feedback(run, lambda wanted: [texts[row] for row in wanted.tolist()])


def joined(writer, asked_for, texts):
    """The new texts of the queries by the writer's own join, over what it wrote."""
    every = [text for one in texts for text in one]
    starts = np.cumsum([0, *map(len, texts)]).tolist()
    rows = [list(range(a, b)) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    return writer.join().reformulate(asked_for, first_pass(every, *rows))
