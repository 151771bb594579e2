"""What a page carries and refuses, and how its charts come as pictures."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import matplotlib
import numpy as np
import pytest

import eval.page
from eval.cells import Curve, Texts
from eval.measures import evaluate
from eval.page import write_page
from eval.plots import write_plots
from eval.report import figures
from eval.views import PALETTE, by_task, length_bins, recall_by_rank, training_curves
from tests.reports import BREAKING, cell, many, texts, toy


def held(path):
    """The data of a page."""
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)[1])


def test_the_means_and_values_are_those_of_the_evaluations(tmp_path):
    cells, by = toy()
    data = held(write_page(tmp_path / "report.html", cells, "toy", "first", by))
    for one in cells:
        task = next(task for task in data["tasks"] if task["name"] == one.task)
        shown = next(system for system in task["systems"] if system["name"] == one.system)
        assert dict(zip(task["measures"], shown["mean"], strict=True)) == one.evaluation.mean
        for measure, values in zip(task["measures"], shown["values"], strict=True):
            assert np.array(values) / data["unit"] == pytest.approx(one.evaluation.values[measure], abs=5e-5)
        assert shown["counts"] == one.evaluation.counts and shown["cost"] == one.cost


def test_the_page_is_one_element_of_data_whatever_its_texts_hold(tmp_path):
    cells, by = toy()
    page = write_page(tmp_path / "report.html", cells, f"toy {BREAKING}", "first", by).read_text("utf-8")
    assert (
        page.count("</script>") == 2
        and "<img" not in page
        and "http" not in re.sub("http-equiv|http://www.w3", "", page)
    )


def test_a_query_holds_its_rankings_grades_and_relevant_documents(tmp_path):
    cells, by = toy()
    task = held(write_page(tmp_path / "report.html", cells, "toy", "first", by))["tasks"][0]
    kept = next(one for one in task["embedded"]["queries"] if one["place"] == 1)
    ids = [task["embedded"]["documents"]["ids"][number] for number in kept["documents"]]
    assert ids == ["dx", "dd", "dy", "dz"] and kept["grades"] == [None, 2, None, 1]
    assert kept["ranks"] == [[1, 2, 0, 0], [1, 0, 2, 0], [0, 1, 0, 0]]  # of first, second and third


def test_relevant_documents_are_counted_also_where_the_page_holds_only_those_of_the_best_grades(tmp_path):
    grades = {f"r{number:02d}": 1 + (number % 3 == 0) for number in range(60)} | {"bad": 0, "worse": -1}
    one = cell("first", "small", {"q": ["bad", "r01"]}, {"q": grades})
    (kept,) = held(write_page(tmp_path / "report.html", [one], "toy"))["tasks"][0]["embedded"]["queries"]
    assert kept["relevant"] == 60 and kept["grades"] == [0, 1] + [2] * 20


def test_those_queries_are_kept_that_changed_most_in_turn_of_the_systems(tmp_path, monkeypatch):
    cells, by = many(3, 400, depth=10)
    monkeypatch.setattr(eval.page, "OF_TEXTS", 400_000)
    task = held(write_page(tmp_path / "report.html", cells, "many", "system 1", by))["tasks"][0]
    kept = [one["place"] for one in task["embedded"]["queries"]]
    gaps = [np.abs(cells[n].evaluation.values["nDCG@10"] - cells[1].evaluation.values["nDCG@10"]) for n in (0, 2)]
    assert 10 < len(kept) < 200
    for turn, gap in enumerate(gaps):
        assert gap[kept[turn]] == gap.max()
    left = np.setdiff1d(np.arange(400), kept)
    assert min(max(gap[place] for gap in gaps) for place in kept) >= max(
        min(gap[place] for gap in gaps) for place in left
    )


def test_what_does_not_fit_is_left_out_and_the_page_says_so(tmp_path, monkeypatch):
    cells, by = many(4, 500)
    monkeypatch.setattr(eval.page, "LARGEST", 120_000)
    monkeypatch.setattr(eval.page, "OF_VALUES", 12_000)
    path = write_page(tmp_path / "report.html", cells, "many", None, by)
    task = held(path)["tasks"][0]
    assert task["perQuery"] == 1 and all(len(one["values"]) == 1 for one in task["systems"])
    assert 0 < len(task["embedded"]["queries"]) < 500


def test_the_tests_are_those_that_the_terminal_shows(tmp_path):
    cells, by = many(3, 60)
    data = held(write_page(tmp_path / "report.html", cells, "many", "system 0", by))
    figured, tests = figures({one.system: one.evaluation for one in cells}, "system 0"), data["tasks"][0]["tests"]
    for name in ("system 1", "system 2"):
        assert {measure: test["p"] for measure, test in tests["of"][name].items()} == figured[name]["corrected p"]
        for measure, test in figured[name]["paired t-test"].items():
            assert tests["of"][name][measure]["interval"] == list(test["interval"])
            assert tests["of"][name][measure]["record"] == [test["wins"], test["ties"], test["losses"]]
    assert tests["family"] == figured["system 1"]["p is"]


def test_a_value_that_is_no_number_is_shown_as_missing(tmp_path):
    cells, _ = toy()
    broken = replace(cells[0].evaluation, values={"AP": np.array([np.nan, 1, 2])})
    data = held(write_page(tmp_path / "report.html", [replace(cells[0], evaluation=broken)], "toy"))
    system = data["tasks"][0]["systems"][0]
    assert system["mean"] == [None] and system["values"] == [[None, 10_000, 20_000]]


@pytest.mark.parametrize("about", [{}, {"git": None, "hardware": {}, "packages": None}, {"wall_seconds": 1.26}])
def test_a_manifest_of_an_older_version_leaves_gaps(tmp_path, about):
    cells, _ = toy()
    shown = held(write_page(tmp_path / "report.html", cells, "toy", manifests={"old": about}))["manifests"][0]
    assert shown["name"] == "old" and shown["verb"] is None and shown["commit"] == "" and shown["packages"] == {}
    assert shown["seconds"] == (1.3 if about.get("wall_seconds") else None)


REFUSED = {
    "nothing to report": lambda cells: ([], None),
    "baseline 'fist' is none of the systems: first, second": lambda cells: (cells[:2], "fist"),
    "system 'first' is given twice on small": lambda cells: ([cells[0], cells[0]], None),
    "small: second was judged on 2 queries, first on 3, 2 in both": lambda cells: (
        [cells[0], replace(cells[4], task="small")],
        None,
    ),
    "small: second has R@5, first has nDCG@10, R@10, RR": lambda cells: (
        [cells[0], replace(cells[1], evaluation=evaluate(cells[1].run, cells[1].qrels, ["R@5"]))],
        None,
    ),
}


@pytest.mark.parametrize("write", [write_page, lambda path, cells, title, baseline: write_plots(path, cells, baseline)])
@pytest.mark.parametrize("message", REFUSED)
def test_systems_that_do_not_go_together_are_refused(tmp_path, message, write):
    cells, baseline = REFUSED[message](toy()[0])
    with pytest.raises(ValueError, match=re.escape(message)):
        write(tmp_path / "out", cells, "toy", baseline)


def test_texts_of_a_task_that_is_not_there_are_refused(tmp_path):
    cells, _ = toy()
    with pytest.raises(ValueError, match="texts name the task 'smal', of which there is no cell, only of small, large"):
        write_page(tmp_path / "report.html", cells, "toy", None, {"smal": texts()})


def test_recall_by_rank_is_recall_at_each_rank_to_the_depth_of_the_run():
    cells, _ = toy()
    name, found = recall_by_rank(cells[:3])
    assert name == "R" and [rank for rank, _ in found["first"]] == [1, 2, 3] and len(found["second"]) == 2
    by_hand = [(0 + 0 + 1) / 3, (1 / 2 + 1 / 2 + 1) / 3, (1 + 1 / 2 + 1) / 3]
    assert [value for _, value in found["first"]] == pytest.approx(by_hand)


def test_recall_counts_the_grade_that_the_measures_ask_for():
    one = cell("first", "small", {"q": ["da", "db"]}, {"q": {"da": 1, "db": 2}}, measures=["nDCG@10", "AP(rel=2)"])
    assert recall_by_rank([one]) == ("R(rel=2)", {"first": [(1.0, 0.0), (2.0, 1.0)]})


def test_queries_fall_into_groups_of_like_length_each_into_one():
    spoken = {f"q{n}": " ".join("x" * length) for n, length in enumerate([1, 1, 1, 2, 2, 3, 3, 4, 9, 12])}
    bins = length_bins([*spoken, "without"], Texts(spoken, str))
    assert [one.label for one in bins] == ["1", "2", "3", "4–9", "12", "no text"]
    assert np.concatenate([one.places for one in bins]).tolist() == list(range(11))


def test_training_curves_are_the_loss_and_every_dev_measure():
    lines = [{"step": 1, "loss": 3.0}, {"step": 1, "evaluation": {"R@10": 0.25}}, {"step": 2, "loss": 1.0}]
    loss, dev = training_curves({"mine": lines, "other": [{"step": 5, "loss": 2.0}]})
    assert loss.series == {"mine": [(1, 3.0), (2, 1.0)], "other": [(5, 2.0)]}
    assert dev.name == "dev R@10" and dev.series == {"mine": [(1, 0.25)]}
    long = training_curves({"long": [{"step": step, "loss": 1.0} for step in range(10_000)]})[0].series["long"]
    assert len(long) == 400 and long[-1] == (9999, 1.0)


def test_every_chart_comes_as_png_and_svg(tmp_path):
    cells, by = toy()
    curve = Curve("LIMIT: a/b", "dimensions", "R@100", {"first": [(32, 0.1), (64, 0.2)]}, log=True)
    found = write_plots(tmp_path, cells, "first", by, {"first": [{"step": 1, "loss": 1.0}]}, [curve])
    names = {str(path.relative_to(tmp_path)) for path in found}
    of_task = {f"{task}/{name}" for task in ("small", "large") for name in ("recall", "length", "differences")}
    costs = {"small/cost-seconds-per-query", "small/cost-tokens-out"}
    stems = of_task | costs | {"training-loss", "LIMIT--a-b"}
    assert names == {f"{stem}.{ending}" for stem in stems for ending in ("png", "svg")}
    for path in found:
        start = path.read_bytes()[:200]
        assert start.startswith(b"\x89PNG") if path.suffix == ".png" else b"<?xml" in start


def test_a_picture_has_the_same_bytes_for_the_same_data(tmp_path):
    cells, by = toy()
    first, again = (write_plots(tmp_path / name, cells[:2], "first", {"small": by["small"]}) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_rounding_is_neither_better_nor_worse_in_a_picture(tmp_path):
    cells, _ = toy()
    one, other = ([0.3, 0.5, 0.5], [0.1 + 0.2, 0.25, 0.75])
    pair = [
        replace(cell, evaluation=replace(cell.evaluation, values={"AP": np.array(values)}))
        for cell, values in zip(cells[:2], (one, other), strict=True)
    ]
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        write_plots(tmp_path, pair)
    assert "1 better, 1 worse" in (tmp_path / "differences.svg").read_text()


def test_the_colours_are_told_apart_without_colour_vision_of_one_kind():
    """Simulated after Machado et al. (2009) at full severity, no two of the colours come near each other."""
    kinds = {
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.01182, 0.04294, 0.968881],
        ],
    }
    srgb = np.array([[int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)] for color in PALETTE])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    for matrix in kinds.values():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=2) + np.eye(len(seen))
        assert apart.min() > 0.1


def test_tasks_come_in_the_order_given():
    assert {task: [one.system for one in cells] for task, cells in by_task(toy()[0]).items()} == {
        "small": ["first", "second", "third"],
        "large": ["first", "second"],
    }
