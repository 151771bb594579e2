"""The search for the critical n: what it tries, what it answers, and the published figures it is drawn beside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eval.limit_search
from eval.limit import Descent, Outcome, Problem, solve
from eval.limit_published import FIT, FULL, SMALL, TABLE_6, TRUNCATED, fit
from eval.limit_report import draw_critical, print_critical
from eval.limit_search import Critical, Wanted, critical_n

QUICK = Descent(steps=300, dtype="float64")


@pytest.fixture
def solver(monkeypatch):
    """A solver that only looks up (dimensions, documents, seed) in a set, and notes what it was asked."""

    class Solver:
        solvable: set[tuple[int, int, int]] = set()
        asked: list[list[Problem]] = []

        def __call__(self, problems, device, descent, each):
            self.asked.append(list(problems))
            outcomes = [
                Outcome(one, float((one.dimensions, one.documents, one.seed) in self.solvable), 1.0, 1)
                for one in problems
            ]
            for outcome in outcomes:
                each(outcome)
            return outcomes

    chosen = Solver()
    chosen.asked = []
    monkeypatch.setattr(eval.limit_search, "solve", chosen)
    return chosen


def up_to(n: int, dimensions: int = 3, seed: int = 0) -> set[tuple[int, int, int]]:
    return {(dimensions, size, seed) for size in range(2, n + 1)}


def tried(solver) -> list[list[int]]:
    return [sorted({one.documents for one in round_}) for round_ in solver.asked if round_]


def test_it_doubles_bisects_and_sweeps(solver):
    solver.solvable = up_to(11)
    found = critical_n(Wanted((3,), (0,)))
    assert tried(solver) == [[4], [8], [16], [12], [10], [11], [7, 9, 13, 14, 15]]
    assert found[0].n == 11 and list(found[0].tried) == sorted([4, *range(7, 17)])


def test_the_best_seed_counts_and_each_is_told(solver):
    solver.solvable = up_to(7, seed=1) | up_to(9, seed=2)
    found = critical_n(Wanted((3,), (1, 2)))[0]
    assert found.n == 9 and found.by_seed == {1: 7, 2: 9}
    assert {n: found.solved[n] for n in (7, 8, 9, 10)} == {7: 2, 8: 1, 9: 1, 10: 0}


def test_a_larger_n_of_the_sweep_is_swept_around_again(solver):
    solver.solvable = up_to(8) | {(3, 12, 0), (3, 15, 0)}  # solvability is not monotone
    found = critical_n(Wanted((3,), (0,)))[0]
    assert found.n == 15 and {16, 17, 18, 19, 20} <= set(found.tried)


@given(st.sets(st.integers(2, 40)), st.integers(1, 3), st.integers(5, 40))
@settings(max_examples=80, deadline=None)
def test_the_answer_was_solved_and_the_five_above_were_not(solvable, k, largest):
    def lookup(problems, device, descent, each):
        return [Outcome(one, float(one.documents in solvable), 1.0, 1) for one in problems]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eval.limit_search, "solve", lookup)
        found = critical_n(Wanted((2,), (0,), k, largest=largest))[0]
    solved = [n for n in found.tried if n in solvable]
    assert found.n == max(solved, default=k) and all(k < n <= largest for n in found.tried)
    assert found.n == largest or all(n in found.tried for n in range(found.n + 1, min(found.n + 5, largest) + 1))


def test_a_search_ends_at_the_largest_n_that_may_be_tried(solver):
    solver.solvable = up_to(100)
    found = critical_n(Wanted((3,), (0,), largest=20))[0]
    assert found.n == 20 and tried(solver) == [[4], [8], [16], [20]]


def test_dimensions_are_searched_side_by_side_and_answer_in_order(solver):
    solver.solvable = up_to(5, dimensions=3) | up_to(9, dimensions=4)
    found = critical_n(Wanted((4, 3), (0,)))
    assert [(one.dimensions, one.n) for one in found] == [(4, 9), (3, 5)]
    assert {one.dimensions for one in solver.asked[0]} == {3, 4}


def test_what_is_known_is_not_solved_again(solver):
    solver.solvable = up_to(6)
    told: list[Outcome] = []
    first = critical_n(Wanted((3,), (0,)), each=told.append)
    count = sum(map(len, solver.asked))
    again = critical_n(Wanted((3,), (0,)), known=told[:5])
    assert again == first and sum(map(len, solver.asked)) == 2 * count - 5


def test_ceilings_are_found_by_the_descent_itself():
    found = critical_n(Wanted((1, 2, 3), (0, 1, 2, 3)), "cpu", Descent(steps=600))
    assert [one.n for one in found] == [2, 3, 4]


def test_one_relevant_document_fits_as_the_problem_alone_says():
    found = critical_n(Wanted((2,), (0,), k=1, largest=12), "cpu", QUICK)[0]
    for n, outcomes in found.tried.items():
        assert outcomes[0].solved == solve([Problem(n, 2, 0, 1)], "cpu", QUICK)[0].solved


def test_the_fit_to_table_6_has_the_printed_coefficients():
    assert len(TABLE_6) == 42 and (TABLE_6[4], TABLE_6[45]) == (10, 626)
    found = fit(TABLE_6)
    np.testing.assert_allclose(found.coefficients, FIT.coefficients, atol=1e-3)
    assert round(found.r2, 3) == FIT.r2 == 0.999
    independent = np.polyfit(list(TABLE_6), list(TABLE_6.values()), 3)[::-1]
    np.testing.assert_allclose(found.coefficients, independent, rtol=1e-9)


def test_the_printed_polynomial_gives_these_n():
    given_ = [512_290, 1_709_800, 4_031_488, 107_769_914, 255_150_979]
    np.testing.assert_allclose(FIT(np.array([512, 768, 1024, 3072, 4096])), given_, atol=0.51)


def test_a_cubic_through_four_points_goes_through_them():
    points = {d: 2 + 3 * d - d**2 + d**3 for d in (1, 2, 5, 7)}
    found = fit(points)
    np.testing.assert_allclose(found.coefficients, (2, 3, -1, 1), atol=1e-9)
    assert found.r2 == pytest.approx(1)


def test_three_points_have_no_cubic():
    with pytest.raises(ValueError, match="3 dimensions determine no cubic; give four or more"):
        fit({4: 10, 5: 14, 6: 19})


def test_published_recalls_are_those_printed():
    assert FULL["Promptriever"].recall == pytest.approx({"R@2": 0.03, "R@10": 0.068, "R@100": 0.189})
    assert SMALL["BM25"].recall == pytest.approx({"R@2": 0.978, "R@10": 1.0, "R@20": 1.0})
    gemini = dict(zip((64, 128, 256, 512, 768, 1024, 2048, 3072), (0.3, 0.3, 1.2, 3.6, 7.6, 8.1, 8.5, 10), strict=True))
    assert TRUNCATED["Gemini"] == pytest.approx({width: percent / 100 for width, percent in gemini.items()})
    assert TRUNCATED["Snowflake Arctic L"][1024] == FULL["Snowflake Arctic L"].recall["R@100"] == 0.033
    assert list(FULL) == list(SMALL)


def answer(dimensions: int, solved: dict[int, int], seeds: int, k: int = 2) -> Critical:
    return Critical(
        dimensions,
        {
            n: [Outcome(Problem(n, dimensions, seed, k), float(seed < count), 1.0, 50) for seed in range(seeds)]
            for n, count in solved.items()
        },
        k,
    )


def test_the_table_shows_the_seeds_around_n_beside_the_paper(capsys):
    found = [answer(3, {4: 2, 5: 0}, 2), answer(4, {4: 2, 8: 2, 9: 1, 10: 0, 16: 0}, 2)]
    print_critical(found, Wanted((3, 4), (0, 1)))
    shown = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line.startswith("│")]
    assert rows == [
        ["3", "4", "4:2 5:0", "", "n ≤ 4", "4", "200"],
        ["4", "9", "8:2 9:1 10:0", "10", "none", "10", "500"],
    ]
    assert "best of 2 seeds: 0, 1" in shown


def test_other_problems_than_the_papers_stand_alone(capsys, tmp_path):
    wanted = Wanted((4,), (0,), k=3, largest=9)
    print_critical([answer(4, {9: 1}, 1, k=3)], wanted)
    shown = capsys.readouterr().out
    assert "9 or more" in shown and "paper" not in shown
    draw_critical([answer(4, {9: 1}, 1, k=3)], wanted, tmp_path)
    assert "paper" not in (tmp_path / "critical_n.svg").read_text()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": ()}, "seeds is an empty list: give at least one"),
        ({"dimensions": ()}, "dimensions is an empty list"),
        ({"seeds": (1, 2, 1)}, "seeds has 1 twice"),
        ({"dimensions": (3, 0)}, "dimensions=0; it must be 1 or more"),
        ({"k": 0}, "k=0; it must be 1 or more"),
        ({"largest": 2}, "largest=2; n starts above k=2, so give 3 or more"),
        ({"pattern": "random"}, "say how many in queries"),
    ],
)
def test_a_search_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Wanted(**{"dimensions": (3,), "seeds": (0,)} | wrong)
