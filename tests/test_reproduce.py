"""make reproduce: what is run, what is said of what is not, and that nothing counts as reproduced that was not run."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from retrieval.collection import write_collection
from retrieval.expected import Expected
from scripts import reproduce

TOY = "dataset: {type: folder, path: toy}\n"
SEARCH = f"{TOY}retriever: bm25\n"
DENSE = f"{TOY}retriever: {{type: dense, index: flat, encoder: {{type: transformer, model: lab/none}}}}\n"
ASKING = f"""{TOY}retriever:
  type: rewrite
  retriever: bm25
  writer: {{type: query2doc, generator: {{type: openai, model: m, url: "http://nowhere"}}}}
"""
CONFIGS = {
    "bm25/right": f"# BM25 finds it: nDCG@10 1.0000, R@100 1.0000.\n{SEARCH}",
    "bm25/wrong": f"# BM25 is said to find half: nDCG@10 0.5000 [bm25].\n{SEARCH}",
    "bm25/absent": f"# Not here: nDCG@10 0.5000.\n{SEARCH.replace('toy', 'nowhere')}",
    "bm25/broken": f"# Retrieves nothing: nDCG@10 0.5000.\n{SEARCH}k: 0\n",
    "bm25/other": f"# Not asked for: nDCG@10 0.5000.\n{SEARCH}",
    "bm25/none": f"# No figure, 0 to check.\n{SEARCH}",
    "bm25/unloadable": f"# Of no verb: AP 0.5000.\n{SEARCH}nonsense: 1\n",
    "dense/model": f"# Model 1 is not here: AP 0.5000.\n{DENSE}",
    "rewrite/server": f"# Asks 1 server: AP 0.5000.\n{ASKING}",
    "evaluate/first": f"# Of another: nDCG@10 1.0000.\n{TOY}runs: {{one: runs/search/bm25/right/run.trec}}\n",
    "evaluate/second": f"# Of another: nDCG@10 1.0000.\n{TOY}runs: {{one: runs/search/bm25/other/run.trec}}\n",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RETRIEVAL_DATA", raising=False)
    write_collection(
        tmp_path / "toy", [("a", "", "otter"), ("b", "", "comet")], {"q": "otter"}, {"test": {"q": {"a": 1}}}
    )
    for name, text in CONFIGS.items():
        path = tmp_path / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_what_ran_is_compared_and_all_else_is_listed_with_its_reason(here, monkeypatch, capsys):
    old = here / "runs" / "search" / "bm25" / "other"
    old.mkdir(parents=True)
    (old / "run.trec").write_text("q Q0 a 1 1 x\n")  # an earlier result, which must not be taken for a new one
    asked = ["--only", "bm25/[!o]*", "dense/*", "rewrite/*", "evaluate/*", "--minutes", "5"]
    monkeypatch.setattr(sys, "argv", ["reproduce", *asked])
    with pytest.raises(SystemExit, match="1"):
        reproduce.main()
    lines = (here / "REPRODUCTIONS.md").read_text().splitlines()
    rows = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| ")}
    assert "reproduced" in rows["bm25/right"] and "| 1.0000 | 0.00005 | 1.000000 |" in rows["bm25/right"]
    assert "| DIFFERS |" in rows["bm25/wrong"] and "| 0.5000 | 0.00005 | 1.000000 |" in rows["bm25/wrong"]
    assert "FAILED: ValueError: k is 0" in rows["bm25/broken"]
    assert "FAILED: configs/bm25/unloadable.yaml: no verb takes" in rows["bm25/unloadable"]
    assert "reproduced" in rows["evaluate/first"]
    waiting = lines[lines.index("## Not run") :]
    reasons = {line.split(" | ")[0].strip("| "): line for line in waiting if line.startswith("| ")}
    assert "no collection: ./nowhere has no corpus.jsonl" in reasons["bm25/absent"]
    assert "not asked for" in reasons["bm25/other"] and "nDCG@10 0.5000" in reasons["bm25/other"]
    assert "model 'lab/none' is not on disk" in reasons["dense/model"]
    assert "asks a server (openai)" in reasons["rewrite/server"]
    assert "needs runs/search/bm25/other/run.trec from a recipe" in reasons["evaluate/second"]
    assert "`bm25/none`" in lines[-1] and not {"bm25/right", "bm25/none"} & {*reasons}
    assert "3 reproduced, 1 DIFFERS, 2 FAILED; 5 recipes not run; 1 have no figure to check" in capsys.readouterr().out
    manifests = [line for line in lines if line.startswith("| bm25/right/")]
    assert len(manifests) == 1 and "corpus " in manifests[0]
    assert str(here) not in "\n".join(lines)


def test_no_time_is_a_reason_and_no_failure(here, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["reproduce", "--only", "bm25/right", "--minutes", "0"])
    (here / "configs" / "bm25" / "unloadable.yaml").unlink()
    with pytest.raises(SystemExit, match="0"):
        reproduce.main()
    assert (
        "| bm25/right | nDCG@10 1.0000, R@100 1.0000 | the 0 minutes were over |"
        in Path("REPRODUCTIONS.md").read_text()
    )


def test_a_recipe_that_is_not_there_is_told_and_the_report_stays(here, monkeypatch, capsys):
    Path("REPRODUCTIONS.md").write_text("of before")
    monkeypatch.setattr(sys, "argv", ["reproduce", "--only", "bm25/right", "bm25/rihgt"])
    with pytest.raises(SystemExit, match="2"):
        reproduce.main()
    assert "--only bm25/rihgt: no recipe below configs/ is so named" in capsys.readouterr().err
    assert Path("REPRODUCTIONS.md").read_text() == "of before"


def test_data_that_are_damaged_are_a_failure_of_their_recipe_and_stop_no_other(here, monkeypatch):
    (here / "toy" / "judged.jsonl").write_text("q Q0 a 1\n")
    judged = TOY.replace("{type", "{type: model_judged, judgements: toy/judged.jsonl, dataset: {type").replace(
        "}", "}}"
    )
    (here / "configs" / "bm25" / "damaged.yaml").write_text(f"# nDCG@10 0.5000.\n{judged}retriever: bm25\n")
    (here / "configs" / "bm25" / "unloadable.yaml").unlink()
    monkeypatch.setattr(sys, "argv", ["reproduce", "--only", "bm25/damaged", "bm25/right"])
    with pytest.raises(SystemExit, match="1"):
        reproduce.main()
    text = Path("REPRODUCTIONS.md").read_text()
    assert "FAILED: ValueError: toy/judged.jsonl:1: no judgements of a model" in text and "2 reproduced" in text


def test_first_lines_off_the_grammar_stop_it(here, monkeypatch):
    (here / "configs" / "bad.yaml").write_text(f"# 0.5 [bm25]\n{SEARCH}")
    monkeypatch.setattr(sys, "argv", ["reproduce"])
    with pytest.raises(ValueError, match="names a result and follows no measure"):
        reproduce.main()


def test_a_recipe_that_takes_too_long_is_stopped_with_all_it_started():
    code, _ = reproduce.run_for([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], 0.5)
    assert code is None
    started = time.monotonic()
    assert reproduce.run_for([sys.executable, "-c", "print('a'); print('last'); raise SystemExit(3)"], 60) == (
        3,
        "last",
    )
    assert time.monotonic() - started < 50


def test_deterministic_recipes_come_first_and_language_models_last(here):
    jobs = [reproduce.job_of(path) for path in sorted(Path("configs").rglob("*.yaml")) if path.stem != "unloadable"]
    order = [job.name for job in sorted((job for job in jobs if job.recipes), key=lambda job: (job.cost(), job.name))]
    assert order.index("bm25/wrong") < order.index("dense/model") < order.index("evaluate/first")
    assert order[-1] == "rewrite/server"


def test_a_figure_is_held_to_every_result_of_its_name():
    manifests = [{"point": {"depth": n}, "results": {"x": {"mean": {"AP": 0.1 + n / 1e4}}}} for n in (0, 1)]
    assert reproduce.judged(Expected("AP", 0.1, 0.00005, ("0",), "0.1000"), manifests).status == "reproduced"
    both = reproduce.judged(Expected("AP", 0.1, 0.00005, (), "0.1000"), manifests)
    assert both.status == "DIFFERS" and both.cells()[3] == "0.100000 to 0.100100"
    assert reproduce.judged(Expected("AP", 0.1, 0.00005, ("y",)), manifests).status.startswith("FAILED: AP [y] is not")


def test_weights_and_corpora_are_told_by_their_fingerprints():
    made_of = {"retriever": {"encoder": {"weights": "a" * 64}}, "dataset": {"corpus": "b" * 64, "queries": "c"}}
    assert sorted(reproduce.fingerprints(json.loads(json.dumps(made_of)))) == [
        f"corpus {'b' * 12}",
        f"weights {'a' * 12}",
    ]
