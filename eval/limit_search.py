"""The critical n of a dimension: the most documents whose every pair (or k) free embeddings can rank first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from eval.limit import Descent, Outcome, Pattern, Problem, solve

__all__ = ["Critical", "Wanted", "critical_n"]

SWEEP = range(-4, 6)  # around the largest n that is solved


@dataclass(frozen=True)
class Wanted:
    """What is searched for: which problems of each dimension and n are tried, one a seed."""

    dimensions: tuple[int, ...]
    seeds: tuple[int, ...]
    k: int = 2
    pattern: Pattern = "dense"
    queries: int | None = None
    largest: int = 2048

    def __post_init__(self) -> None:
        """Raises ValueError for an empty list, for what stands twice, and for what no problem could be."""
        for name in ("dimensions", "seeds"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} is an empty list: give at least one")
            twice = sorted(value for value in {*values} if values.count(value) > 1)
            if twice:
                raise ValueError(f"{name} has {twice[0]} twice: give each once")
        if self.largest <= self.k:
            raise ValueError(f"largest={self.largest}; n starts above k={self.k}, so give {self.k + 1} or more")
        for dimensions in self.dimensions:
            self.problems(dimensions, self.largest)

    def problems(self, dimensions: int, documents: int) -> list[Problem]:
        """One problem a seed."""
        return [Problem(documents, dimensions, seed, self.k, self.pattern, self.queries) for seed in self.seeds]


@dataclass(frozen=True)
class Critical:
    """The answer for one dimension, and all that was tried for it."""

    dimensions: int
    tried: Mapping[int, Sequence[Outcome]]  # by n, ascending; one outcome a seed
    k: int

    @property
    def n(self) -> int:
        """The largest n that some seed solved; k at least, where nothing is irrelevant."""
        return max((n for n, outcomes in self.tried.items() if any(one.solved for one in outcomes)), default=self.k)

    @property
    def by_seed(self) -> dict[int, int]:
        """The largest n that each seed solved, of those that were tried."""
        outcomes = [one for tried in self.tried.values() for one in tried]
        seeds = dict.fromkeys(one.problem.seed for one in outcomes)
        reached = {
            seed: [one.problem.documents for one in outcomes if one.solved and one.problem.seed == seed]
            for seed in seeds
        }
        return {seed: max(ns, default=self.k) for seed, ns in reached.items()}

    @property
    def solved(self) -> dict[int, int]:
        """How many seeds solved each n."""
        return {n: sum(one.solved for one in outcomes) for n, outcomes in self.tried.items()}


def critical_n(
    wanted: Wanted,
    device: str | None = None,
    descent: Descent = Descent(),
    known: Sequence[Outcome] = (),
    each: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Critical]:
    """The critical n of each dimension: the largest n that the best of the seeds solves.

    n doubles from k until no seed solves it, is bisected, and swept from 4 below to 5 above the largest solved, again
    as long as the sweep solves a larger one: solvability is not monotone in n. `known` outcomes are not tried again;
    `each` is called with a new one. The dimensions are searched side by side.
    """
    outcomes = {one.problem: one for one in known}
    solved: dict[int, dict[int, bool]] = {dimensions: {} for dimensions in wanted.dimensions}
    searches = {dimensions: _search(wanted.k, wanted.largest, answers) for dimensions, answers in solved.items()}
    asked = {dimensions: next(search) for dimensions, search in searches.items()}
    while asked:
        tried = {(dimensions, n): wanted.problems(dimensions, n) for dimensions, asks in asked.items() for n in asks}
        new = [problem for problems in tried.values() for problem in problems if problem not in outcomes]
        outcomes |= {one.problem: one for one in solve(new, device, descent, each=each)}
        for (dimensions, n), problems in tried.items():
            solved[dimensions][n] = any(outcomes[problem].solved for problem in problems)
        answered = {dimensions: next(searches[dimensions], None) for dimensions in asked}
        asked = {dimensions: asks for dimensions, asks in answered.items() if asks is not None}
    return [
        Critical(
            dimensions,
            {n: [outcomes[one] for one in wanted.problems(dimensions, n)] for n in sorted(answers)},
            wanted.k,
        )
        for dimensions, answers in solved.items()
    ]


def _search(k: int, largest: int, solved: Mapping[int, bool]) -> Iterator[list[int]]:
    """Each n to try next; when it is asked to go on, the answers stand in `solved`."""
    low, high = k, min(2 * k, largest)
    while True:
        yield [high]
        if not solved[high]:
            break
        if high == largest:
            return
        low, high = high, min(2 * high, largest)
    while high - low > 1:
        middle = (low + high) // 2
        yield [middle]
        low, high = (middle, high) if solved[middle] else (low, middle)
    best = None
    while best != low:
        best = low
        yield [n for n in (best + step for step in SWEEP) if k < n <= largest]
        low = max((n for n in solved if solved[n]), default=k)
