"""Tables as leaderboards and papers print them: Markdown, and LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.markup import PREAMBLE, md, tex

__all__ = ["ABSENT", "Table", "latex", "markdown"]

ABSENT = "–"  # in place of a figure that there is not


@dataclass(frozen=True)
class Table:
    """A title, column heads, rows of ready text, and what must be said below them."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1  # columns from the left that hold words; the others hold figures
    notes: Sequence[str] = ()


def markdown(tables: Sequence[Table]) -> str:
    """One after the other, columns aligned so that the text itself can be read."""
    return "\n\n".join(map(_markdown, tables)) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """One after the other, each a table environment of its own."""
    return "\n".join([PREAMBLE, *map(_latex, tables)])


def _markdown(table: Table) -> str:
    lines = [[md(cell) for cell in line] for line in (table.heads, *table.rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(table.heads))]
    rule = ["-" * width if i < table.words else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    rows = ["| " + " | ".join(_padded(line, widths, table.words)) + " |" for line in (lines[0], rule, *lines[1:])]
    return "\n\n".join([f"**{md(table.title)}**", "\n".join(rows), *map(md, table.notes)])


def _padded(line: Sequence[str], widths: Sequence[int], words: int) -> list[str]:
    return [
        cell.ljust(width) if i < words else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def _latex(table: Table) -> str:
    caption = " ".join(tex(text.rstrip(".") + ".") for text in (table.title, *table.notes))
    rows = [" & ".join(map(tex, row)) + r" \\" for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{'l' * table.words}{'r' * (len(table.heads) - table.words)}}}",
            r"\toprule",
            " & ".join(map(tex, table.heads)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
