"""A comparison for papers and programs: LaTeX, Markdown, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from eval.changes import Change
from eval.comparison import TESTS, Comparison, Difference
from eval.markup import PREAMBLE, md, tex
from eval.significance import ALPHA

__all__ = ["json_text", "latex", "letters", "markdown"]


def latex(comparison: Comparison, test: str = "t") -> str:
    """A table of means for a paper that uses booktabs; superscripts name the systems that each is above.

    What counts is the corrected p of `test`: "t", "randomisation" or "bootstrap".
    """
    measures = list(comparison.cells[0].evaluation.mean)
    key = re.sub(r"[^a-z0-9]+", "-", comparison.task.casefold()).strip("-")
    rows = [
        " & ".join([f"\\textit{{{letter}}}", tex(name), *(_tex_mean(one) for one in means)]) + r" \\"
        for letter, name, means in _rows(comparison, test)
    ]
    return "\n".join(
        [
            PREAMBLE,
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex(_caption(comparison, test))}}}",
            rf"\label{{tab:{key}}}",
            rf"\begin{{tabular}}{{ll{'l' * len(measures)}}}",
            r"\toprule",
            " & ".join(["", "system", *map(tex, measures)]) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def markdown(comparison: Comparison, changes: Sequence[Change] = (), test: str = "t") -> str:
    """The same table, every difference with its tests, what to be cautious about, and the queries that changed most."""
    measures = list(comparison.cells[0].evaluation.mean)
    means = [[letter, md(name), *(_md_mean(one) for one in cells)] for letter, name, cells in _rows(comparison, test)]
    tests = [name for name in TESTS if name in comparison.differences[0].p]
    heads = [*(f"p, {TESTS[name]}" for name in tests), *(f"corrected p, {TESTS[name]}" for name in tests)]
    parts = [
        md(_caption(comparison, test)),
        _md_table(["", "system", *map(md, measures)], means),
        f"p is two-sided; corrected p: {comparison.family}; {comparison.resamples:,} resamples, "
        f"seed {comparison.seed}.",
        _md_table(
            ["measure", "system", "against", "difference", "95% interval", "of the bootstrap", *heads, "d_z"]
            + ["resolves", "won", "tied", "lost"],
            [_md_difference(one, tests) for one in comparison.differences],
        ),
        *(f"**Caution:** {md(line)}" for line in comparison.cautions),
        *map(_md_change, changes),
    ]
    return "\n\n".join(parts) + "\n"


def json_text(comparison: Comparison, changes: Sequence[Change] = ()) -> str:
    """Everything, the values of each query too."""
    by_query = {
        "ids": list(comparison.cells[0].evaluation.query_ids),
        "values": {
            name: {measure: values.tolist() for measure, values in one.values.items()}
            for name, one in comparison.systems.items()
        },
    }
    whole = comparison.to_dict() | {"changes": [asdict(one) for one in changes], "queries": by_query}
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def letters(systems: Sequence[str]) -> dict[str, str]:
    """A letter for each system: a to z, then aa, ab."""
    found = {}
    for number, name in enumerate(systems):
        first, last = divmod(number, 26)
        found[name] = ("" if not first else chr(96 + first)) + chr(97 + last)
    return found


def _rows(comparison: Comparison, test: str) -> list[tuple[str, str, list[tuple[str, bool, str]]]]:
    """Letter, name, and for each measure the mean, whether it is the best, and the letters of those it is above."""
    systems = comparison.systems
    letter = letters(list(systems))
    above: dict[tuple[str, str], list[str]] = {}
    for one in comparison.differences:
        if one.significant(test):
            better, worse = (one.system, one.against) if one.test.difference > 0 else (one.against, one.system)
            above.setdefault((better, one.measure), []).append(letter[worse])
    best = {m: max(round(one.mean[m], 4) for one in systems.values()) for m in comparison.cells[0].evaluation.mean}
    return [
        (
            letter[name],
            name,
            [
                (f"{mean:.4f}", round(mean, 4) == best[m], _joined(sorted(above.get((name, m), []), key=_place)))
                for m, mean in one.mean.items()
            ],
        )
        for name, one in systems.items()
    ]


def _place(letter: str) -> tuple[int, str]:
    return len(letter), letter


def _joined(found: Sequence[str]) -> str:
    return ("," if any(len(one) > 1 for one in found) else "").join(found)


def _caption(comparison: Comparison, test: str) -> str:
    queries = len(comparison.cells[0].evaluation.query_ids)
    against = "" if comparison.baseline is None else f" against {comparison.baseline}"
    return (
        f"{comparison.task}, {queries} queries. Best in bold; superscripts name the systems that a mean is "
        f"significantly above: {TESTS[test]} test by query{against}, two-sided, p < {ALPHA:g}, {comparison.family}."
    )


def _tex_mean(mean: tuple[str, bool, str]) -> str:
    shown, best, over = mean
    bold = rf"\textbf{{{shown}}}" if best else shown
    return bold + (rf"\textsuperscript{{{over}}}" if over else "")


def _md_mean(mean: tuple[str, bool, str]) -> str:
    shown, best, over = mean
    return (f"**{shown}**" if best else shown) + (f"<sup>{over}</sup>" if over else "")


def _md_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _md_difference(one: Difference, tests: Sequence[str]) -> list[str]:
    test = one.test
    by_test: list[Mapping[str, float | None]] = [one.p, one.corrected]
    return [
        *map(md, (one.measure, one.system, one.against)),
        f"{test.difference:+.4f}",
        f"no test: {test.untested}" if test.untested else _interval(test.interval),
        _interval(one.resampled),
        *(_number(p[name], ".2g") for p in by_test for name in tests),
        _number(test.effect, "+.2f"),
        _number(test.resolvable, ".4f"),
        *map(str, (test.wins, test.ties, test.losses)),
    ]


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else "{:+.4f} to {:+.4f}".format(*interval)


def _number(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def _md_change(change: Change) -> str:
    head = f"**{md(change.query_id)}** {md(change.query)}: {md(change.measure)} {change.value:.4f} of "
    head += f"{md(change.system)}, {change.other:.4f} of {md(change.against)}"
    rows = []
    for rank in range(max(len(change.top), len(change.other_top))):
        row = [str(rank + 1)]
        for top in (change.top, change.other_top):
            one = top[rank] if rank < len(top) else None
            grade = "" if one is None else "-" if one.grade is None else str(one.grade)
            row += [grade, "" if one is None else f"{md(one.document)}: {md(one.text[:80])}"]
        rows.append(row)
    return head + "\n\n" + _md_table(["", "grade", md(change.system), "grade", md(change.against)], rows)
