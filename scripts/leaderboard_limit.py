"""The table of LIMIT: `python scripts/leaderboard_limit.py [NAME=]SOURCE... --out DIR [--published]`.

A SOURCE is a folder of results of retrieval.search or retrieval.suite, or a recipe of retrieval.search, which is
searched first, into DIR/searched. NAME names the system; left out, it is the name of the run, or that of the suite.
Writes DIR/limit.md, limit.tex, limit.json and DIR/runs/SYSTEM/TASK.trec; --published puts the rows of Weller et al.
(2025) below. LIMIT with documents that were made again is LIMIT-rebuilt in every row.
"""

from __future__ import annotations

from functools import partial

from eval.leaderboards import command
from retrieval.cli import run
from retrieval.search import search

if __name__ == "__main__":
    command("limit", __doc__, partial(run, search))
