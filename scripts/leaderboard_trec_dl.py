"""The tables of TREC Deep Learning: `python scripts/leaderboard_trec_dl.py [NAME=]SOURCE... --out DIR`.

A SOURCE is a folder of results of retrieval.search or retrieval.suite, or a recipe of retrieval.search, which is
searched first, into DIR/searched. NAME names the system; left out, it is the name of the run, or that of the suite.
Writes DIR/trec_dl.md, trec_dl.tex, trec_dl.json and the run files of a submission, DIR/runs/SYSTEM/TASK.trec. A pool of
judged passages is named so in its title.
"""

from __future__ import annotations

from functools import partial

from eval.leaderboards import command
from retrieval.cli import run
from retrieval.search import search

if __name__ == "__main__":
    command("trec_dl", __doc__, partial(run, search))
