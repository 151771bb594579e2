"""The tables of BEIR: `python scripts/leaderboard_beir.py [NAME=]SOURCE... --out DIR`.

A SOURCE is a folder of results of retrieval.search or retrieval.suite, or a recipe of retrieval.search, which is
searched first, into DIR/searched. NAME names the system; left out, it is the name of the run, or that of the suite.
Writes DIR/beir.md, beir.tex, beir.json and DIR/runs/SYSTEM/TASK.trec. An average is shown where every system has all
of its sets.
"""

from __future__ import annotations

from functools import partial

from eval.leaderboards import command
from retrieval.cli import run
from retrieval.search import search

if __name__ == "__main__":
    command("beir", __doc__, partial(run, search))
