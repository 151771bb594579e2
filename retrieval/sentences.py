"""Texts parted into sentences, by punctuation alone."""

from __future__ import annotations

import re

__all__ = ["sentences"]

# After . ! ? and closing marks, before what may begin a sentence; but not after an initial or a known short form.
END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\Wa-z_])|\n\s*\n")
SHORT = re.compile(r"(?:\b(?:[A-Z]|[Dd]r|[Mm]rs?|[Ff]igs?|[Ee]qs?|[Nn]os?|[Vv]s|[Cc]f|[Ss]t|al|e\.g|i\.e)\.)$")


def sentences(text: str) -> list[str]:
    """The sentences of a text, blanks evened out."""
    found, start = [], 0
    for end in END.finditer(text):
        if not SHORT.search(text[start : end.start()]):
            found.append(text[start : end.end()])
            start = end.end()
    return [" ".join(one.split()) for one in [*found, text[start:]] if one.strip()]
