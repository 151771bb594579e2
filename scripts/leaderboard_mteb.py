"""Result files of MTEB: `python scripts/leaderboard_mteb.py [NAME=]SOURCE... --out DIR --model ORGANISATION/MODEL --revision ...`.

A SOURCE is a folder of results of retrieval.search or retrieval.suite, or a recipe of retrieval.search, which is
searched first, into DIR/searched. NAME names the system; left out, it is the name of the run, or that of the suite.
All are of one model. Writes DIR/results/ORGANISATION__MODEL/REVISION/TASK.json and model_meta.json, as
mteb.ResultCache(DIR) reads them. Results of other data than those of MTEB's task are refused.
"""

from __future__ import annotations

from functools import partial

from eval.leaderboards import command
from retrieval.cli import run
from retrieval.search import search

if __name__ == "__main__":
    command("mteb", __doc__, partial(run, search))
