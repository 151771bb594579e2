"""A model that is a rule, and the query that a writer's own join makes of what it wrote."""

from __future__ import annotations

import numpy as np

from retrieval.types import Feedback, Generation, Queries
from tests.prf.toy import run

QUERIES = Queries(["q0", "q1"], ["why is the sky blue", "tall trees"])
ONE = Queries(["q0"], ["tall trees"])


class Rule:
    """A generator that answers by a rule, and remembers what it was asked."""

    def __init__(self, rule):
        self.rule, self.calls = rule, []

    def generate(self, requests):
        self.calls.append(list(requests))
        answers = [self.rule(request) for request in requests]
        return enumerate(one if isinstance(one, Generation) else Generation(one, 10, 2, "stop") for one in answers)

    @property
    def requests(self):
        """All that was asked so far."""
        return [request for call in self.calls for request in call]

    @property
    def prompts(self):
        """The last turn of each request."""
        return [request.messages[-1]["content"] for request in self.requests]


def saying(*answers):
    """A model that gives these answers in turn, over and over."""
    told = [0]

    def rule(request):
        told[0] += 1
        return answers[(told[0] - 1) % len(answers)]

    return Rule(rule)


def failing(*words):
    """A model that is gone, or only for prompts with one of these words."""

    def rule(request):
        gone = not words or any(word in request.messages[-1]["content"] for word in words)
        return Generation("", failure="the server is gone") if gone else "some text"

    return Rule(rule)


def found(*texts):
    """Feedback of these texts for each query."""
    every = [text for one in texts for text in one]
    first = np.cumsum([0, *map(len, texts)])
    lists = [[(int(first[i]) + j, float(len(one) - j)) for j in range(len(one))] for i, one in enumerate(texts)]
    return Feedback(run(len(every), *lists), texts=lambda rows: [every[row] for row in rows])


def rewritten(writer, queries=QUERIES, feedback=None):
    """The queries as the writer's own join makes them of its texts."""
    return writer.join().reformulate(queries, found(*writer.write(queries, feedback)))
