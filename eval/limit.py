"""Vectors without texts: how many documents can free embeddings tell apart? Weller et al. (2025), LIMIT, section 4.

Queries and documents are vectors of their own, optimised directly on the test's judgements: what no encoder of that
many dimensions can pass by the same descent. Existence is another question, which `eval.limit_exact` answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import comb, inf
from typing import Literal

import numpy as np
from tqdm import tqdm

from eval.limit_batch import Batch
from retrieval.limit import PATTERNS, relevant_documents
from retrieval.model_files import choose_device

__all__ = ["Descent", "Outcome", "Pattern", "Problem", "Start", "accuracy", "loss", "solve"]

Pattern = Literal["dense", "random", "cycle", "disjoint"]
Start = tuple[np.ndarray, np.ndarray]  # unit vectors of queries [queries, dimensions] and documents [n, dimensions]
# Scores of a batch on each kind of device. On a processor those that its cache holds: more are slower.
CALLS = 1 << 15  # scores that take as long as the calls of a step
COLDEST = 0.02
ROOM = {"cpu": 1 << 19, "cuda": 1 << 27}


@dataclass(frozen=True)
class Problem:
    """Rank exactly the k relevant of n documents first, for every query of a pattern."""

    documents: int
    dimensions: int
    seed: int = 42
    k: int = 2
    pattern: Pattern = "dense"
    queries: int | None = None  # at most so many; None: as many as the pattern has, of which random needs to be told

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot be, such as fewer documents than k."""
        for name in ("documents", "dimensions", "k", "queries"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}; it must be 1 or more")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}; it must be 0 or more")
        if self.documents < self.k:
            raise ValueError(f"n={self.documents} documents are fewer than the k={self.k} of a query; n is at least k")
        if self.pattern not in PATTERNS:
            raise ValueError(f"pattern {self.pattern!r} is none of {', '.join(PATTERNS)}")
        if self.pattern == "random" and self.queries is None:
            raise ValueError("the random pattern draws some of the combinations: say how many in queries")

    @property
    def asked(self) -> int:
        """How many queries there are: of dense and random C(n, k), of a cycle n, disjoint n // k, or fewer as told."""
        n, k = self.documents, self.k
        most = {"cycle": n, "disjoint": n // k}.get(self.pattern, comb(n, k))
        return most if self.queries is None else min(most, self.queries)

    @property
    def size(self) -> int:
        """Scores that a step computes."""
        return self.asked * self.documents

    def relevant(self) -> np.ndarray:
        """The documents of each query, int64 [queries, k]; drawn with the seed after that of the vectors."""
        rng = np.random.Generator(np.random.PCG64(self.seed + 1))
        return relevant_documents(self.pattern, self.k, self.documents, self.asked, rng)

    def start(self) -> Start:
        """Normal numbers, scaled to length 1: the same whatever else is solved with it, and on every device."""
        rng = np.random.Generator(np.random.PCG64(self.seed))
        drawn = [rng.standard_normal((rows, self.dimensions)) for rows in (self.asked, self.documents)]
        return tuple(one / np.linalg.norm(one, axis=1, keepdims=True) for one in drawn)  # type: ignore[return-value]


@dataclass(frozen=True)
class Descent:
    """How vectors are optimised: full batch, Adam, length 1 again after every step. The defaults are the paper's.

    It ends when every query has its documents on top, looked at each `every` steps and at the end; when the loss has
    not fallen by more than `delta` below its best for `patience` steps; or after `steps`.
    """

    learning_rate: float = 0.01
    temperature: float = 0.1
    steps: int = 100_000
    patience: int = 1000
    delta: float = 1e-5
    every: int = 50
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        """Raises ValueError for a setting that is not above 0."""
        for name in ("learning_rate", "steps", "patience", "delta", "every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"descent.{name} is {getattr(self, name)}; it must be above 0")
        if self.temperature < COLDEST:
            raise ValueError(
                f"descent.temperature is {self.temperature}; below {COLDEST} exp(1 / temperature) overflows"
            )


@dataclass(frozen=True)
class Outcome:
    """How far the vectors of a problem came."""

    problem: Problem
    accuracy: float  # the highest seen, of relevant documents among the first k
    loss: float  # the lowest when it was looked at
    steps: int

    @property
    def solved(self) -> bool:
        """Whether all queries had exactly their documents on top, at the same time."""
        return self.accuracy == 1


def solve(
    problems: Sequence[Problem],
    device: str | None = None,
    descent: Descent = Descent(),
    starts: Sequence[Start] | None = None,
    each: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """The outcomes in the order of the problems; `each` is called as a problem ends.

    Problems of like size are solved side by side, each as if alone up to rounding. `starts` are other vectors to
    begin with than each problem's own. Raises ValueError for a device that there is not.
    """
    import torch

    where, outcomes = choose_device(device), dict[int, Outcome]()
    with tqdm(total=len(problems), desc="free embeddings", unit=" problems", disable=None, leave=False) as bar:
        for members in _batches(problems, ROOM.get(where.type, ROOM["cuda"])):
            chosen = [problems[i] for i in members]
            begun = [starts[i] for i in members] if starts else [one.start() for one in chosen]
            with torch.no_grad():
                batch = Batch(begun, [one.relevant() for one in chosen], descent.temperature, where, descent.dtype)
                for place, outcome in _ended(batch, chosen, descent):
                    outcomes[members[place]] = outcome
                    each(outcome)
                    bar.update()
    return [outcomes[i] for i in range(len(problems))]


def loss(queries: np.ndarray, documents: np.ndarray, relevant: np.ndarray, temperature: float = 0.1) -> float:
    """The mean over relevant pairs of -log softmax(queries documents^T / temperature), over all documents.

    The other relevant documents are in the denominator, so it is at least ln k.
    """
    scores = queries @ documents.T / temperature
    highest = scores.max(axis=1, keepdims=True)
    mass = np.log(np.exp(scores - highest).sum(axis=1, keepdims=True)) + highest
    return float((mass - np.take_along_axis(scores, relevant, 1)).mean())


def accuracy(queries: np.ndarray, documents: np.ndarray, relevant: np.ndarray) -> float:
    """The share of relevant pairs among the first k; a document that ties with a relevant one is put before it."""
    scores = queries @ documents.T
    own = np.take_along_axis(scores, relevant, 1)
    below = (scores[:, None] < own[:, :, None]).sum(axis=2)  # of a score that is no number, nothing is
    return float((below >= len(documents) - relevant.shape[1]).mean())


def _batches(problems: Sequence[Problem], room: int) -> Iterator[list[int]]:
    """Places of problems to solve side by side, the largest first: of one k, and of like size.

    Smaller ones join as long as what pads them costs less than the calls of a batch of their own.
    """
    order = sorted(range(len(problems)), key=lambda i: (problems[i].k, -problems[i].size))
    members: list[int] = []
    padding = 0
    for place in order:
        one, first = problems[place], problems[members[0] if members else place]
        more = first.size - one.size
        alike = one.k == first.k and (more <= one.size or padding + more <= CALLS)
        if not alike or (len(members) + 1) * first.size > room and members:
            yield members
            members, padding, more = [], 0, 0
        members.append(place)
        padding += more
    if members:
        yield members


def _ended(batch: Batch, problems: Sequence[Problem], descent: Descent) -> Iterator[tuple[int, Outcome]]:
    """The place and outcome of each problem as it ends, and leaves the batch.

    Nothing waits for the device between looks: where no loss falls, the first problem to have been patient enough is
    known beforehand, and steps are taken up to there. Only those whose turn it is are looked at.
    """
    import torch

    best = torch.full_like(batch.share[:, 0], inf)  # the loss to fall below
    fell = torch.zeros_like(best, dtype=torch.int64)  # the step at which it did
    highest, lowest = torch.zeros_like(best, dtype=torch.float64), best.clone()
    live, step = list(range(len(problems))), 0
    while live:
        due = over = (step - fell >= descent.patience) | (step == descent.steps)
        if step % descent.every == 0:
            due = torch.ones_like(over)
        if due.any():
            accuracies, losses = batch.look()
            highest = torch.where(due, torch.maximum(highest, accuracies), highest)
            lowest = torch.where(due, torch.minimum(lowest, losses), lowest)
            over = over | (highest == 1)
        for place in over.nonzero().flatten().tolist():
            yield live[place], Outcome(problems[live[place]], highest[place].item(), lowest[place].item(), step)
        if over.any():
            rows = (~over).nonzero().flatten()
            live = [live[place] for place in rows.tolist()]
            if not live:
                return
            batch.keep(rows)
            best, fell, highest, lowest = best[rows], fell[rows], highest[rows], lowest[rows]
        stop = min(step - step % descent.every + descent.every, int(fell.min()) + descent.patience, descent.steps)
        while step < stop:
            step += 1
            losses = batch.step(step, descent.learning_rate)
            falls = losses < best - descent.delta
            best, fell = torch.where(falls, losses, best), torch.where(falls, step, fell)
