"""A comparison on screen and for papers: what stands where, whatever names and texts hold."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from rich.console import Console

from eval.changes import changes
from eval.comparison import Comparison, compare
from eval.comparison_report import print_comparison
from eval.comparison_text import json_text, latex, letters, markdown
from eval.report import figures, print_report
from eval.significance import holm
from tests.reports import cell, many, texts

NASTY = r"a_b & 50% #1 {x} $y$ ~^\ <z>|w"
JUDGED = {f"q{n}": {"d1": 1} for n in range(12)}
TOP, LOW = {query: ["d1"] for query in JUDGED}, {query: ["dy", "d1"] for query in JUDGED}
MIXED = LOW | {"q0": ["d1"], "q1": ["d1"]}


def three(names=("low", "mixed", "top"), baseline=None, measures=("RR", "AP")) -> Comparison:
    """Systems of which the last is best on all queries but two, and the second hardly better than the first."""
    varied = TOP | {"q2": ["dy", "d1"]}  # a difference that is the same for all queries cannot be tested
    lists = (LOW, MIXED, varied)
    cells = [
        cell(name, "toy, test", one, JUDGED, measures=list(measures)) for name, one in zip(names, lists, strict=True)
    ]
    return compare(cells, baseline, resamples=999)


def screen(comparison, shown=(), width=120):
    written = io.StringIO()
    print_comparison(comparison, shown, Console(file=written, width=width, highlight=False))
    return written.getvalue()


def rows(table):
    """The cells of a LaTeX table's lines."""
    return [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in table.splitlines() if line.endswith(r"\\")]


def test_superscripts_name_the_systems_that_a_mean_is_significantly_above():
    body = rows(latex(three()))
    assert [[part.strip() for part in line] for line in body] == [
        ["", "system", "RR", "AP"],
        [r"\textit{a}", "low", "0.5000", "0.5000"],
        [r"\textit{b}", "mixed", "0.5833", "0.5833"],
        [r"\textit{c}", "top", r"\textbf{0.9583}\textsuperscript{ab}", r"\textbf{0.9583}\textsuperscript{ab}"],
    ]


def test_against_a_baseline_no_other_system_is_named():
    assert rows(latex(three(baseline="low")))[-1][-1].strip() == r"\textbf{0.9583}\textsuperscript{a}"


def test_a_baseline_that_is_better_is_marked_itself():
    marked = rows(latex(three(baseline="top")))
    assert marked[-1][-1].strip() == r"\textbf{0.9583}\textsuperscript{ab}" and "superscript" not in "".join(marked[1])


def test_letters_go_on_after_z():
    found = letters([f"s{n}" for n in range(28)])
    assert [found[f"s{n}"] for n in (0, 25, 26, 27)] == ["a", "z", "aa", "ab"]


def test_the_caption_says_which_test_and_over_how_many():
    assert (
        "paired t test by query against low, two-sided, p \\textless{} 0.05, corrected by Holm over 4 tests"
        in latex(three(baseline="low"))
    )
    assert "randomisation test by query" in latex(three(), test="randomisation")


def test_no_special_character_reaches_latex_as_it_is():
    table = latex(three((NASTY, "b", "c")))
    body = table[table.index(r"\midrule") :]
    assert r"a\_b \& 50\% \#1 \{x\} \$y\$ \textasciitilde{}\textasciicircum{}\textbackslash{} " in body
    assert r"\textless{}z\textgreater{}\textbar{}w" in body
    bare = re.sub(r"\\[&%$#_{}]", "", table)
    assert not re.search(r"[#$~^<>|]", bare.replace(r"\usepackage", "")) and bare.count("{") == bare.count("}")
    assert len({len(line) for line in rows(table)}) == 1
    assert re.findall(r"\\begin{(\w+)}", table) == re.findall(r"\\end{(\w+)}", table)[::-1] == ["table", "tabular"]
    rules = [table.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert rules == sorted(rules)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs a LaTeX: pdflatex is not on the path")
def test_latex_compiles_it(tmp_path):
    packages = r"\usepackage{booktabs}\usepackage[T1]{fontenc}"
    text = rf"\documentclass{{article}}{packages}\begin{{document}}{latex(three((NASTY, 'b', 'c')))}\end{{document}}"
    (tmp_path / "a.tex").write_text(text)
    subprocess.run(["pdflatex", "-halt-on-error", "a.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_markdown_has_every_difference_and_no_broken_row():
    whole = three((NASTY, "b", "c"))
    text = markdown(whole, changes(whole, texts(tuple(JUDGED)), 1))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    tables = [[len(re.split(r"(?<!\\)\|", line)) for line in group.splitlines()] for group in text.split("\n\n")]
    assert all(len(set(sizes)) == 1 for sizes in tables if sizes[0] > 1)
    assert sum(line.startswith(("| RR |", "| AP")) for line in lines) == 6
    assert r"a\_b & 50% \#1 {x} $y$ \~^\\ \<z\>\|w" in text
    assert "**0.9583**<sup>ab</sup>" in text


def test_markdown_shows_both_rankings_of_a_changed_query():
    whole = three(baseline="low")
    text = markdown(whole, changes(whole, texts(tuple(JUDGED)), 1))
    assert "**q0** what does q0 ask: RR 1.0000 of mixed, 0.5000 of low" in text
    assert "| 1 | 1 | d1: text of d1 | - | dy: text of dy |\n| 2 |  |  | 1 | d1: text of d1 |" in text


def test_json_holds_plain_values_of_each_query_too():
    whole = three()
    found = json.loads(json_text(whole, changes(whole, texts(tuple(JUDGED)), 1)))
    assert found["queries"]["ids"] == list(JUDGED)
    assert found["queries"]["values"]["low"]["RR"] == [0.5] * 12
    assert found["changes"][0]["top"] == [{"document": "d1", "grade": 1, "text": "text of d1"}]
    assert [one["corrected"]["t"] for one in found["differences"]] == holm(
        [one["p"]["t"] for one in found["differences"]]
    )


def test_the_screen_has_every_difference_within_its_width():
    cells, by = many(4, 60)
    whole = compare(cells, "system 0", resamples=99)
    text = screen(whole, changes(whole, by["many"], 1))
    assert max(map(len, text.splitlines())) <= 120 and "…" in text
    assert (
        "difference from system 0 by query; p corrected by Holm over 9 tests (3 pairs of systems on 3 measures)" in text
    )
    for one in whole.differences:
        assert f"{one.test.difference:+.4f}" in text and f"{one.test.wins}/{one.test.ties}/{one.test.losses}" in text


def test_the_screen_keeps_long_names_whole():
    names = ("first", "second", "SPLADE_P_P_ENSEMBLE_DISTIL_OF_A_NAME_THAT_IS_LONG")
    lines = screen(three(names, "first")).splitlines()
    start = next(n for n, line in enumerate(lines) if "resolves" in line)
    column = "".join(line.split("│")[1].strip() for line in lines[start:] if line.startswith("│"))
    assert column == f"RRsecond{names[2]}APsecond{names[2]}"  # folded, not cut off


def test_the_screen_says_why_there_is_no_test():
    cells = [cell(name, "toy", {"qa": [name]}, {"qa": {"b": 1}}, measures=["RR"]) for name in ("a", "b")]
    text = screen(compare(cells))
    assert "no test: a single query" in text and "resolves: the least" not in text and "toy: 1 query " in text


def test_markup_in_names_and_texts_is_shown_and_not_obeyed():
    whole = three(("[bold]x[/bold]", "[red]", "[/]"), "[red]")
    shown = changes(whole, texts(tuple(JUDGED)), 1)
    assert "[bold]x[/bold]" in screen(whole, shown) and "[/]" in screen(whole, shown)


def test_cautions_are_shown_everywhere():
    whole = three()
    (line,) = whole.cautions
    assert line.startswith("the runs are not equally deep") or line.startswith("unjudged")
    flat = " ".join(screen(whole).split())
    assert (
        f"CAUTION {line}" in flat
        and line[:40] in markdown(whole)
        and json.loads(json_text(whole))["cautions"] == [line]
    )


def test_reports_correct_their_p_by_holm_and_say_so(capsys):
    whole = three(baseline="low")
    print_report(whole.systems, "toy", "low")
    assert "p corrected by Holm over 4 tests (2 pairs of systems on 2 measures)" in capsys.readouterr().out
    found = figures(whole.systems, "low")
    raw = {(name, m): found[name]["paired t-test"][m]["p"] for m in ("RR", "AP") for name in ("mixed", "top")}
    right = [found[name]["corrected p"][m] for name, m in raw]
    assert right == holm(list(raw.values())) and "Holm over 4 tests" in found["top"]["p is"]
    assert "paired t-test" not in found["low"]


def test_a_single_test_is_not_corrected(capsys):
    whole = three(measures=("RR",))
    two = {name: whole.systems[name] for name in ("low", "top")}
    print_report(two, "toy", "low")
    assert "not corrected, for it is the only test" in capsys.readouterr().out
    assert figures(two, "low")["top"]["corrected p"]["RR"] == figures(two, "low")["top"]["paired t-test"]["RR"]["p"]


def test_values_by_query_are_those_of_the_systems():
    whole = three()
    values = json.loads(json_text(whole))["queries"]["values"]
    for name, one in whole.systems.items():
        np.testing.assert_array_equal(values[name]["RR"], one.values["RR"])
