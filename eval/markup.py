"""Any text as LaTeX and as Markdown: no character of it is taken for a mark."""

from __future__ import annotations

import re

__all__ = ["PREAMBLE", "md", "tex"]

PREAMBLE = r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}"  # without T1, "<" is printed as another mark
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def tex(text: str) -> str:
    """For the body of a LaTeX document that begins with what PREAMBLE says."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def md(text: str) -> str:
    """For a line, or a cell of a table, of GitHub's Markdown; white space becomes single spaces."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))
