"""Free embeddings: the loss, Adam and the stops are those of the definition, alone or side by side."""

from __future__ import annotations

from itertools import combinations
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.limit import Descent, Outcome, Problem, _batches, accuracy, loss, solve
from eval.limit_batch import Batch
from eval.limit_exact import simplex, trigonometric


def by_definition(problem: Problem, descent: Descent) -> Outcome:
    """The same with autograd and torch.optim.Adam, one problem at a time and a stop that is looked for every step."""
    queries, documents = vectors = [torch.tensor(part, requires_grad=True) for part in problem.start()]
    relevant = torch.tensor(problem.relevant())
    optimiser = torch.optim.Adam(vectors, lr=descent.learning_rate)
    best, stale, step, looks = float("inf"), 0, 0, []
    while True:
        over = stale == descent.patience or step == descent.steps
        if step % descent.every == 0 or over:
            at = [part.detach().numpy() for part in vectors]
            looks.append((accuracy(*at, problem.relevant()), loss(*at, problem.relevant(), descent.temperature)))
            if over or looks[-1][0] == 1:
                return Outcome(problem, max(one for one, _ in looks), min(one for _, one in looks), step)
        value = -(queries @ documents.T / descent.temperature).log_softmax(1).gather(1, relevant).mean()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        with torch.no_grad():
            for one in vectors:
                one /= one.norm(dim=1, keepdim=True)
        step, stale = step + 1, stale + 1
        if value < best - descent.delta:
            best, stale = value.item(), 0


def same(one: Outcome, other: Outcome, bound: float = 1e-9) -> None:
    assert (one.problem, one.steps) == (other.problem, other.steps)
    assert one.accuracy == pytest.approx(other.accuracy, abs=1e-12)
    assert one.loss == pytest.approx(other.loss, abs=bound)


MIXED = [
    Problem(3, 2, 1),
    Problem(6, 3, 0),
    Problem(9, 4, 3),
    Problem(5, 2, 2, pattern="cycle"),
    Problem(7, 3, 4, pattern="random", queries=6),
    Problem(8, 3, 5, pattern="disjoint"),
]


def test_the_loss_is_the_published_one():
    # documents at the four compass points; a query is the direction of the sum of its two, (1, 0) when they cancel
    documents = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], float)
    pairs = np.array(list(combinations(range(4), 2)))
    queries = np.array([[1, 1], [1, 0], [1, -1], [-1, 1], [1, 0], [-1, -1]], float)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    assert loss(queries, documents, pairs) == pytest.approx(3.7954622005420373, abs=1e-12)
    batch = Batch([(queries, documents)], [pairs], 0.1, torch.device("cpu"), "float64")
    assert batch.step(1, 0.01).item() == pytest.approx(3.7954622005420373, abs=1e-12)


@pytest.mark.parametrize("problem", MIXED)
def test_a_descent_is_that_of_autograd_and_adam(problem):
    descent = Descent(dtype="float64", steps=120)
    same(solve([problem], "cpu", descent)[0], by_definition(problem, descent))


def test_a_problem_goes_as_if_it_were_alone():
    descent = Descent(dtype="float64", steps=300)
    together = solve(MIXED, "cpu", descent)
    for problem, found in zip(MIXED, together, strict=True):
        same(found, solve([problem], "cpu", descent)[0])


def test_problems_of_other_dimensions_and_k_are_solved_together():
    problems = [Problem(6, 2, 0, k=3), Problem(5, 4, 0), Problem(4, 1, 0), Problem(5, 5, 0, k=1)]
    descent = Descent(dtype="float64", steps=200)
    for found, alone in zip(
        solve(problems, "cpu", descent), [solve([p], "cpu", descent)[0] for p in problems], strict=True
    ):
        same(found, alone)


def test_float32_agrees_with_float64():
    descent = {kind: Descent(dtype=kind, steps=100) for kind in ("float32", "float64")}
    for narrow, wide in zip(*(solve(MIXED, "cpu", one) for one in descent.values()), strict=True):
        same(narrow, wide, bound=1e-4)


def test_the_order_of_the_problems_changes_nothing_and_outcomes_stand_in_it():
    descent = Descent(dtype="float64", steps=100)
    forwards, backwards = solve(MIXED, "cpu", descent), solve(MIXED[::-1], "cpu", descent)
    assert [one.problem for one in forwards] == MIXED
    for one, other in zip(forwards, backwards[::-1], strict=True):
        same(one, other)


def test_each_is_told_once_when_it_ends():
    ended: list[Outcome] = []
    found = solve(MIXED, "cpu", Descent(steps=100), each=ended.append)
    assert {one.problem for one in ended} == {*MIXED} and len(ended) == len(MIXED)
    assert {one.problem: one for one in ended} == {one.problem: one for one in found}


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 7), st.integers(1, 4), st.integers(0, 99), st.integers(1, 2))
def test_no_loss_is_below_ln_k(documents, dimensions, seed, k):
    problem = Problem(documents, dimensions, seed, k)
    batch = Batch([problem.start()], [problem.relevant()], 0.1, torch.device("cpu"), "float64")
    assert all(batch.step(step, 0.01).item() >= log(k) - 1e-12 for step in range(1, 60))


@pytest.mark.parametrize(("n", "start"), [(10, trigonometric), (50, trigonometric), (3, simplex), (4, simplex)])
def test_a_start_that_is_exact_is_solved(n, start):
    vectors = start(n)
    found = solve([Problem(n, vectors[1].shape[1])], "cpu", starts=[vectors])[0]
    assert found.accuracy == 1 and found.steps == 0
    assert found.loss == pytest.approx(loss(*vectors, Problem(n, 2).relevant()), rel=1e-5)


def test_it_stops_when_the_loss_no_longer_falls():
    descent = Descent(patience=10, delta=1e-2, every=1000, dtype="float64")
    found = solve([Problem(4, 2, seed) for seed in range(3)], "cpu", descent)  # no 4 documents fit into 2 dimensions
    assert len({one.steps for one in found}) == 3
    for one in found:
        same(one, by_definition(one.problem, descent))
        assert one.accuracy < 1


def test_it_stops_after_the_steps_that_it_is_given():
    assert [one.steps for one in solve([Problem(6, 2), Problem(7, 2)], "cpu", Descent(steps=70))] == [70, 70]


def test_a_solved_problem_stops_at_the_next_look():
    found = solve([Problem(4, 3, seed) for seed in range(6)], "cpu", Descent(steps=1010))
    assert {one.solved for one in found} == {True, False}
    for one in found:
        assert one.solved == (one.accuracy == 1)
        assert one.steps < 1000 and one.steps % 50 == 0 if one.solved else one.steps == 1010


def test_a_seed_draws_the_same_vectors_whatever_the_order_of_calls():
    one, other = Problem(5, 3, 7).start(), Problem(5, 3, 7).start()
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_allclose(np.linalg.norm(np.concatenate(one), axis=1), 1)
    assert not np.allclose(one[1], Problem(5, 3, 8).start()[1])


def test_a_document_that_ties_is_not_found():
    documents = np.array([[1.0, 0], [0, 1], [0, 1]])
    query, relevant = np.array([[0.6, 0.8]]), np.array([[0, 1]])
    assert accuracy(query, documents, relevant) == 0.5  # 0.6, 0.8 and one of 0.8 that is put before
    assert accuracy(query, documents[[1, 1, 1]], relevant) == 0
    for start, share in (((query, documents), 0.5), ((query, documents[[1, 1, 1]]), 0)):
        batch = Batch([start], [relevant], 0.1, torch.device("cpu"), "float64")
        assert batch.look()[0].item() == share


@pytest.mark.parametrize("seed", [1, 2])
def test_vectors_that_are_no_numbers_any_more_solve_nothing(seed):
    problem = Problem(5, 1, seed)
    (found,) = solve([problem], "cpu", Descent(learning_rate=1, steps=60))  # the first step leads to length 0
    assert np.isnan(found.loss) and found.accuracy < 1 and not found.solved
    lost = [np.full_like(part, np.nan) for part in problem.start()]
    assert accuracy(*lost, problem.relevant()) == 0


def test_queries_limit_a_pattern_and_are_drawn_from_all_combinations():
    assert Problem(5, 2).asked == 10 and Problem(5, 2, queries=4).asked == 4
    assert Problem(5, 2, pattern="cycle").asked == 5 and Problem(5, 2, pattern="disjoint").asked == 2
    drawn = Problem(4, 2, 3, pattern="random", queries=100).relevant()
    assert sorted(map(tuple, drawn.tolist())) == list(combinations(range(4), 2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"documents": 1}, "n=1 documents are fewer than the k=2 of a query; n is at least k"),
        ({"dimensions": 0}, "dimensions=0; it must be 1 or more"),
        ({"k": 0}, "k=0; it must be 1 or more"),
        ({"queries": 0}, "queries=0; it must be 1 or more"),
        ({"seed": -1}, "seed=-1; it must be 0 or more"),
        ({"pattern": "sparse"}, "'sparse' is none of dense, random, cycle, disjoint"),
        ({"pattern": "random"}, "say how many in queries"),
    ],
)
def test_a_problem_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Problem(**{"documents": 4, "dimensions": 2} | wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "descent.steps is 0; it must be above 0"),
        ({"learning_rate": -0.1}, "descent.learning_rate is -0.1"),
        ({"temperature": 0.001}, "descent.temperature is 0.001; below 0.02 .* overflows"),
    ],
)
def test_a_descent_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Descent(**wrong)


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device 'gpu' is none that torch knows"):
        solve([Problem(3, 2)], "gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_goes_as_the_processor():
    descent = Descent(dtype="float64", steps=200)
    for one, other in zip(solve(MIXED, "cuda", descent), solve(MIXED, "cpu", descent), strict=True):
        same(one, other)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(2, 40), st.integers(1, 2)), max_size=30), st.integers(1, 10**5))
def test_every_problem_is_in_one_batch_of_its_k_that_fits(made, room):
    problems = [Problem(n, 3, place, k) for place, (n, k) in enumerate(made)]
    batches = [*_batches(problems, room)]
    assert sorted(place for batch in batches for place in batch) == [*range(len(problems))]
    for batch in batches:
        assert len({problems[place].k for place in batch}) == 1
        assert len(batch) == 1 or len(batch) * max(problems[place].size for place in batch) <= room
