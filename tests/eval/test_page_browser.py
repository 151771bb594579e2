"""The page in headless Chromium: no network, no error, tables that sort, bars and keys that open a query."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from eval.cautions import cautions
from eval.cells import Curve
from eval.page import write_page
from tests.reports import BREAKING, cell, many, texts, toy

CHROMIUM = shutil.which("chromium")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs the browser chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@contextmanager
def shown(browser, path, size=WIDE):
    """The page, opened; afterwards nothing was asked of the network, and no error came."""
    context = browser.new_context(viewport=size, offline=True)
    page, wrong = context.new_page(), []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: None if asked.url == path.as_uri() else wrong.append(asked.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The toy systems with all that a page may show."""
    cells, by_task = toy()
    lines = [{"step": step, "loss": 1 / step} for step in range(1, 30)] + [{"step": 10, "evaluation": {"R@10": 0.5}}]
    limit = Curve("LIMIT", "dimensions", "R@100", {"first": [(32, 0.1), (64, 0.2)], "other": [(32, 0.3)]}, log=True)
    about = {"verb": "search", "git": {"commit": "abc", "dirty": True}, "recipe": {"k": BREAKING}}
    path = tmp_path_factory.mktemp("page") / "report.html"
    manifests = {"first": about, "older": {"verb": "search"}}
    return write_page(path, cells, f"toy {BREAKING}", "first", by_task, {"first": lines}, [limit], None, manifests)


def column(page, table, number):
    """The sort keys of a column from top to bottom, None where there is none."""
    cells = page.locator(f"#table-{table} tbody tr > :nth-child({number})").all()
    return [one.get_attribute("data-value") for one in cells]


def numbers(keys):
    return [None if key is None else float(key) for key in keys]


def head(page, table, name):
    return page.locator(f"#table-{table} thead button", has_text=name).first


def test_every_section_is_there_and_no_text_breaks_out(browser, report):
    with shown(browser, report) as page:
        heads = page.locator("h2").all_text_contents()
        assert heads == [
            "Results",
            "Effectiveness against cost",
            "By query",
            "Recall by rank",
            "By length of the query",
            "Training",
            "Curves",
            "How the results were made",
        ]
        assert page.locator("h1").text_content() == f"toy {BREAKING}"
        assert page.evaluate("window.broken") is None and page.locator("img").count() == 0
        assert page.evaluate("[...document.querySelectorAll('svg')].every((one) => !one.innerHTML.includes('NaN'))")


def test_what_to_be_cautious_about_stands_below_the_figures_of_its_task(browser, report):
    cells = [one for one in toy()[0] if one.task == "small"]
    with shown(browser, report) as page:
        said = page.locator("#results p.caution").all_text_contents()
    assert said == [f"Caution: {line}" for line in cautions(cells)] and said


def test_the_means_are_those_of_the_evaluations(browser, report):
    with shown(browser, report) as page:
        for number, measure in enumerate(["nDCG@10", "R@10", "RR"], 2):
            means = [cell.evaluation.mean[measure] for cell in toy()[0] if cell.task == "small"]
            assert numbers(column(page, "task", number)) == means
            shown_means = page.locator(f"#table-task tbody td:nth-child({number})").all_text_contents()
            assert [text.rstrip("*") for text in shown_means] == [f"{mean:.4f}" for mean in means]
        best = page.locator("#table-task td.best").all_text_contents()
        assert len(best) >= 3 and page.locator("#table-task").get_by_text("baseline").count() == 1


def test_a_click_on_a_head_sorts_numbers_from_the_highest_and_then_from_the_lowest(browser, tmp_path):
    cells, _ = toy()
    gains = [[-2.0, -10.0, -9.0], [3.0, 1.0, 2.0], [-0.5, -0.5, -0.5]]
    cells = [
        replace(cell, evaluation=replace(cell.evaluation, values={"AP": np.array(gain)}))
        for cell, gain in zip(cells, gains, strict=False)
    ]
    with shown(browser, write_page(tmp_path / "gains.html", cells, "gains")) as page:
        for expected in ([2.0, -0.5, -7.0], [-7.0, -0.5, 2.0]):
            head(page, "task", "AP").click()
            assert numbers(column(page, "task", 2)) == expected
        head(page, "task", "system").click()
        assert column(page, "task", 1) == ["first", "second", "third"]


def test_what_is_missing_sorts_last_in_both_directions(browser, report):
    with shown(browser, report) as page:
        name = "tokens out"
        place = page.locator("#table-task thead th").all_text_contents().index(name) + 1
        for expected in ([700.5, 0, None], [0, 700.5, None]):
            head(page, "task", name).click()
            assert numbers(column(page, "task", place)) == expected
        assert head(page, "task", name).locator("..").get_attribute("aria-sort") == "ascending"


def test_an_average_is_empty_for_a_system_that_lacks_a_task(browser, report):
    cells = {(cell.system, cell.task): cell.evaluation.mean["nDCG@10"] for cell in toy()[0]}
    means = [(cells[name, "small"] + cells[name, "large"]) / 2 for name in ("first", "second")]
    with shown(browser, report) as page:
        assert numbers(column(page, "tasks", 2)) == pytest.approx([*means, None])
        page.get_by_label("task", exact=True).select_option("large")
        assert column(page, "task", 1) == ["first", "second"]


def test_an_average_over_a_task_that_nobody_ran_is_empty(browser, tmp_path):
    averages = {"both": ["small", "large"], "all": ["small", "large", "huge"]}
    with shown(browser, write_page(tmp_path / "all.html", toy()[0], "all", averages=averages)) as page:
        assert column(page, "tasks", 3) == [None, None, None]
        assert numbers(column(page, "tasks", 2))[2] is None and None not in column(page, "tasks", 2)[:2]


def test_an_average_within_an_average_counts_as_one_task(browser, tmp_path):
    averages = {"both": ["small", "large"], "all": ["both", "small"]}
    cells = {(cell.system, cell.task): cell.evaluation.mean["nDCG@10"] for cell in toy()[0]}
    means = [0.75 * cells[name, "small"] + 0.25 * cells[name, "large"] for name in ("first", "second")]
    with shown(browser, write_page(tmp_path / "all.html", toy()[0], "all", averages=averages)) as page:
        assert numbers(column(page, "tasks", 3))[:2] == pytest.approx(means, abs=1e-4)


def test_a_click_on_a_bar_shows_the_query_and_both_rankings_with_grades_and_texts(browser, report):
    with shown(browser, report) as page:
        page.get_by_label("compare").select_option("second")
        bars = page.locator("svg.bars")
        box = bars.bounding_box()
        bars.click(position={"x": 52 + 0.15 * (box["width"] - 64), "y": 100})
        assert page.locator(".query-text").text_content() == f"query qa {BREAKING}"
        first, second = (page.locator(f'[data-ranking="{name}"]') for name in ("first", "second"))
        assert first.locator("code").all_text_contents() == ["dc", "db", "da"]
        assert first.locator(".grade").all_text_contents() == ["0", "1", "3"]
        assert second.locator("code").all_text_contents() == ["da", "db"]
        assert second.locator(".text").first.text_content() == f"text of da {BREAKING}"
        assert second.locator(".about").first.text_content() == "3dafirst: 3"
        assert page.evaluate("window.broken") is None


def test_queries_won_and_lost_are_those_of_the_terminal_and_else_are_said_to_be_rounded(browser, tmp_path):
    values = {"first": [0.5, 0.5, 0.25], "second": [0.50001, 0.5, 0.5], "third": [0.50002, 0.25, 0.5]}
    cells = [
        replace(cell, evaluation=replace(cell.evaluation, values={"AP": np.array(values[cell.system])}))
        for cell in toy()[0]
        if cell.task == "small"
    ]
    with shown(browser, write_page(tmp_path / "close.html", cells, "close", "first")) as page:
        page.get_by_label("compare").select_option("second")
        assert "better on 2, the same on 1, worse on 0 of 3 queries" in page.locator("section#by-query").text_content()
        page.get_by_label("with").select_option("third")
        assert (
            "better on 1, the same to four digits on 2, worse on 0" in page.locator("section#by-query").text_content()
        )


def test_keys_reach_a_bar_and_open_its_query(browser, report):
    with shown(browser, report) as page:
        page.get_by_label("compare").select_option("second")
        page.locator("svg.bars").focus()
        for key in ("End", "ArrowLeft", "ArrowRight"):
            page.keyboard.press(key)
        assert "what does qb ask" in page.locator("svg.bars").get_attribute("aria-valuetext")
        page.keyboard.press("Enter")
        assert page.locator(".query-text").text_content() == "what does qb ask"
        assert page.evaluate("document.activeElement.className") == "query-text"
        outside = page.locator(".outside .about").all_text_contents()
        assert outside == ["1dzfirst: not foundsecond: not found"]


def test_relevant_documents_outside_both_top_tens_are_all_counted(browser, tmp_path):
    one = cell("first", "small", {"q": ["bad", "r01"]}, {"q": {f"r{number:02d}": 1 for number in range(60)}})
    with shown(browser, write_page(tmp_path / "one.html", [one], "one")) as page:
        page.locator(".link").first.click()
        said = page.locator(".outside summary").text_content()
        assert said == "Relevant, but not in its top ten: 59 documents, here 19 of the best grades"
        assert page.locator(".outside li").count() == 19


def test_a_query_without_a_value_is_left_out_of_the_bars_and_counted(browser, tmp_path):
    cells = toy()[0][:2]
    gaps = [[np.nan, 0.5, 0.25], [0.5, 0.5, 1.0]]
    cells = [
        replace(cell, evaluation=replace(cell.evaluation, values={"AP": np.array(gap)}))
        for cell, gap in zip(cells, gaps, strict=True)
    ]
    with shown(browser, write_page(tmp_path / "gaps.html", cells, "gaps")) as page:
        assert page.locator("svg.bars").get_attribute("aria-valuemax") == "2"
        assert page.get_by_text("1 query without a value left out.").count() == 1


def test_every_line_chart_reads_its_values_out_by_keys_and_shows_its_numbers(browser, report):
    with shown(browser, report) as page:
        chart = page.locator("#recall-by-rank figure")
        chart.locator(".canvas > svg").focus()
        page.keyboard.press("ArrowRight")
        assert "rank 1" in chart.locator(".reading").text_content()
        chart.locator("summary").click()
        assert chart.locator(".numbers tr").first.text_content() == "rankfirstsecondthird"


def test_a_system_can_be_taken_out_of_the_charts(browser, report):
    with shown(browser, report) as page:
        line = page.locator('#recall-by-rank [data-series="third"]')
        assert line.count() == 2  # the line and its name
        page.locator('button.chip[data-series="third"]').click()
        assert line.count() == 0


def test_nothing_is_wider_than_a_phone(browser, report):
    with shown(browser, report, PHONE) as page:
        page.locator(".link").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert (
            page.locator(".rankings").evaluate("(box) => getComputedStyle(box).gridTemplateColumns.split(' ').length")
            == 1
        )


@pytest.mark.parametrize(("systems", "queries"), [(50, 100), (6, 7000)])
def test_a_large_report_is_under_20_mb_and_answers_a_click(browser, tmp_path, systems, queries):
    cells, by_task = many(systems, queries)
    path = write_page(tmp_path / "large.html", cells, "large", "system 0", by_task)
    assert path.stat().st_size < 20_000_000
    with shown(browser, path) as page:
        assert page.locator("#table-task tbody tr").count() == systems
        assert page.locator('#recall-by-rank g[data-series]:has(> [fill="none"])').count() == min(systems, 12)
        head(page, "task", "nDCG@10").click()
        means = numbers(column(page, "task", 2))
        assert means == sorted((cell.evaluation.mean["nDCG@10"] for cell in cells), reverse=True)
        page.locator("svg.bars").click(position={"x": 56, "y": 100})
        assert page.locator("[data-ranking] li").count() == 20
        assert page.locator("[data-ranking] .text").count() == 20


def test_one_system_and_one_query_make_a_page(browser, tmp_path):
    cells, _ = many(1, 1)
    with shown(browser, write_page(tmp_path / "one.html", cells, "one", None, {"many": texts(("q0",))})) as page:
        page.locator(".link").first.click()
        assert page.locator("[data-ranking]").count() == 1
