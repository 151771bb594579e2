"""The leaderboard scripts on toy collections: tables, run files, labels, and what they refuse."""

from __future__ import annotations

import json
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import pytrec_eval

from eval.board_tables import Table, latex, markdown
from eval.leaderboards import beir, limit, trec_dl, write_board
from eval.results import read_results
from retrieval.cli import run
from retrieval.collection import write_collection
from retrieval.run_file import read_run, write_run
from retrieval.search import search
from retrieval.suite import suite

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ("d 1", "", "the otter sleeps near the harbour"),
    ("d%2", "", "a comet was seen above the library"),
    ("d3", "otter", "an otter and a comet"),
    ("d4", "", "a violin in the kitchen"),
]
QUERIES = {"q 1": "otter", "q2": "comet library", "q3": "volcano"}
JUDGED = {"q 1": {"d 1": 2, "d3": 1}, "q2": {"d%2": 1, "d4": 1}, "q3": {"d4": 1}}


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """Writes a toy collection of a name, searches it with BM25, and gives the folder of the results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path / "data"))

    def make(name, split="test", out=None, **settings):
        folder = tmp_path / "data" / name
        if not folder.is_dir():
            write_collection(folder, DOCUMENTS, QUERIES, {split: JUDGED})
        recipe = {"dataset": {"type": "folder", "path": name}, "split": split, "retriever": "bm25", **settings}
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(recipe, ensure_ascii=False), encoding="utf-8")
        run(search, [str(path), f"out={out or f'runs/{name}'}"])
        return out or f"runs/{name}"

    return make


@pytest.fixture
def script(monkeypatch, capsys):
    """Runs a leaderboard script as people do, and gives what it shows."""

    def call(board, *arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [f"leaderboard_{board}.py", *map(str, arguments)])
        runpy.run_path(str(ROOT / "scripts" / f"leaderboard_{board}.py"), run_name="__main__")
        return capsys.readouterr().out

    return call


def rows(shown):
    """The cells of each line of the tables."""
    lines = [line for line in shown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]


def refused(script, *arguments):
    """The error line of a script that stops."""
    with pytest.raises(SystemExit) as stopped:
        script(*arguments)
    return str(stopped.value)


def test_the_table_of_limit_has_recall_in_percent_and_the_published_rows_where_asked(searched, script, tmp_path):
    folder = searched("limit-rebuilt")
    shown = script("limit", f"BM25={folder}", "--out", "board")
    assert rows(shown)[-1] == ["BM25", "LIMIT-rebuilt", "ours", "50.0", "50.0", "50.0"]
    assert "Weller" not in shown
    published = script("limit", f"BM25={folder}", "--out", "board", "--published")
    assert rows(published)[3] == ["BM25", "LIMIT", "Weller et al. 2025", "85.7", "90.4", "93.6"]
    assert ["all-MiniLM-L6-v2", "LIMIT", "MTEB 2.15.1", "0.1", "0.6", "2.9"] in rows(published)
    assert (tmp_path / "board" / "limit.md").read_text() in published
    tex = (tmp_path / "board" / "limit.tex").read_text()
    assert r"BM25 & LIMIT-rebuilt & ours & 50.0 & 50.0 & 50.0 \\" in tex and r"\toprule" in tex
    (row,) = json.loads((tmp_path / "board" / "limit.json").read_text())
    assert row["mean"] == {"R@2": 0.5, "R@10": 0.5, "R@100": 0.5} and row["system"] == "BM25"


def test_documents_made_again_are_never_called_limit_whatever_their_folder_is_called(searched):
    results = [one for name in ("limit", "limit-small") for one in read_results(searched(name))]
    rows = [row for table in limit(results).tables for row in table.rows]
    assert [row[1] for row in rows] == ["LIMIT-rebuilt", "LIMIT-small-rebuilt"]


def test_limit_small_of_bm25_has_the_published_recall(data, script, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shown = script("limit", f"BM25={ROOT / 'configs' / 'bm25' / 'limit-small.yaml'}", "--out", "board", "--published")
    assert rows(shown)[2:4] == [
        ["BM25", "LIMIT-small", "ours", "97.8", "100.0", "100.0", "100.0"],
        ["BM25", "LIMIT-small", "Weller et al. 2025", "97.8", "100.0", "100.0", "–"],
    ]
    (row,) = json.loads((tmp_path / "board" / "limit.json").read_text())
    assert row["mean"]["R@2"] == 0.978 and row["counts"]["judged queries"] == 1000


def test_run_files_have_six_columns_and_pass_trec_eval(searched, script, tmp_path):
    script("limit", f"our BM25={searched('limit-rebuilt')}", "--out", "board")
    path = tmp_path / "board" / "runs" / "our BM25" / "limit-rebuilt.trec"
    lines = [line.split() for line in path.read_text().splitlines()]
    assert {len(line) for line in lines} == {6} and {line[5] for line in lines} == {"our%20BM25"}
    with open(path) as file:
        found = pytrec_eval.parse_run(file)
    encoded = {"q 1": "q%201", "d 1": "d%201", "d%2": "d%252"}
    judged = {encoded.get(q, q): {encoded.get(d, d): grade for d, grade in docs.items()} for q, docs in JUDGED.items()}
    measured = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10"}).evaluate(found)
    (one,) = read_results("runs/limit-rebuilt")
    ours = one.evaluate(["nDCG@10"])
    expected = [measured.get(encoded.get(q, q), {"ndcg_cut_10": 0.0})["ndcg_cut_10"] for q in ours.query_ids]
    assert ours.values["nDCG@10"].tolist() == pytest.approx(expected, abs=1e-12)


def test_the_tables_of_beir_have_a_set_a_row_and_only_averages_of_all_their_sets(searched, script, tmp_path):
    sources = [f"BM25={searched(name)}" for name in ("scifact", "nfcorpus")]
    shown = script("beir", *sources, f"other={searched('scifact')}", "--out", "board")
    first = shown.split("\n\n")[1].splitlines()
    assert [line.split("|")[1].strip() for line in first] == ["set", "--------", "nfcorpus", "scifact"]
    assert first[0].split("|")[2:4] == ["  BM25 ", " other "] and first[2].split("|")[3].strip() == "–"
    assert "Not all sets were run that these are the mean of: cqadupstack; BEIR-18" in shown
    assert "R@100" in shown and (tmp_path / "board" / "beir.tex").is_file()


def test_cqadupstack_is_the_mean_of_its_parts(searched):
    from retrieval.suites.beir import PARTS

    results = [one for part in PARTS for one in read_results(searched(f"cqadupstack-{part}"), "BM25")]
    (table, _) = beir(results).tables
    mean = results[0].evaluate(["nDCG@10"]).mean["nDCG@10"]
    assert [row[0] for row in table.rows][-1] == "cqadupstack" and len(table.rows) == len(PARTS) + 1
    assert {row[1] for row in table.rows} == {f"{mean:.3f}"}
    assert any(note.startswith("cqadupstack (12: cqadupstack-android, ") for note in table.notes)


def test_a_year_of_trec_dl_on_a_pool_is_called_a_pool(searched, script):
    shown = script("trec_dl", f"BM25={searched('trec-dl-pool', split='dl19')}", "--out", "board")
    assert shown.startswith("**TREC Deep Learning 2019, passages of trec-dl-pool**")
    assert "not comparable with its figures" in shown and "AP(rel=2)@1000" in shown


def test_a_folder_of_any_name_is_found_again(searched):
    (one,) = read_results(searched("limit 😀"))
    assert one.task.name == "limit 😀"


def test_pages_of_trec_dl_are_no_passages_of_it(searched):
    names = ("msmarco-passage-trec-dl-2019-judged", "msmarco-passage-v2-trec-dl-2021-judged")
    assert [one.task.name for name in names for one in read_results(searched(name, split="judged"))] == ["dl19", "dl21"]
    pages = read_results(searched("msmarco-document-trec-dl-2019-judged", split="judged"))
    with pytest.raises(ValueError, match="'msmarco-document-trec-dl-2019-judged' is no task of TREC DL"):
        trec_dl(pages)


def test_results_over_other_documents_or_judgements_share_no_table(searched, tmp_path):
    results = read_results(searched("trec-dl-pool", split="dl19"), "one")
    for name, documents, judged in (("docs", DOCUMENTS[:3], JUDGED), ("qrels", DOCUMENTS, JUDGED | {"q2": {"d4": 1}})):
        write_collection(tmp_path / "data" / name, documents, QUERIES, {"dl19": judged})
        other = read_results(searched(name, split="dl19"), "other")
        with pytest.raises(ValueError, match=f"{name} and runs/trec-dl-pool are both of dl19-pool, and not over the"):
            trec_dl([*results, *other])


def test_results_of_a_suite_are_read_whole_or_in_part(searched, script, tmp_path):
    searched("scifact"), searched("nfcorpus")
    recipe = {
        "suite": {"type": "folders", "paths": ["scifact", "nfcorpus"]},
        "retrievers": {"BM25": "bm25", "other": {"type": "bm25", "k1": 2.0}},
    }
    (tmp_path / "suite.yaml").write_text(json.dumps(recipe))
    run(suite, ["suite.yaml", "out=suite"])
    assert len(read_results("suite")) == 4 and len(read_results("suite/BM25")) == 2
    (one,) = read_results("suite/other/scifact", "mine")
    assert (one.system, one.task.name, one.run.name) == ("mine", "scifact", "mine")
    assert "|     set" not in script("beir", "suite", "--out", "board")
    assert len(list((tmp_path / "board" / "runs").rglob("*.trec"))) == 4
    with pytest.raises(ValueError, match=r"mine=suite names 2 systems \(BM25, other\): name a folder of one"):
        read_results("suite", "mine")


def test_a_set_that_beir_has_not_is_refused_with_the_nearest(searched, script):
    message = refused(script, "beir", searched("scifacts"), "--out", "board")
    assert "'scifacts' is no task of BEIR; the nearest are scifact" in message


def test_queries_that_are_not_those_of_beir_are_refused(searched, script):
    message = refused(script, "beir", searched("msmarco"), "--out", "board")
    assert message.endswith("is of msmarco test, and BEIR's figures are of its dev queries")


def test_a_collection_that_is_no_year_is_refused_by_trec_dl(searched):
    with pytest.raises(ValueError, match="'scifact' is no task of TREC DL; the nearest are dl19, dl20"):
        trec_dl(read_results(searched("scifact")))


def test_a_folder_without_a_run_is_refused(script, tmp_path):
    (tmp_path / "empty").mkdir()
    message = refused(script, "limit", tmp_path / "empty", "--out", "board")
    assert f"{tmp_path / 'empty'} has no run.parquet: a source is a recipe, or a folder of results" in message
    assert "is not there, so it has no run.parquet" in refused(script, "limit", tmp_path / "none", "--out", "board")


def test_a_run_of_other_queries_than_the_tasks_is_refused_with_counts(searched, script):
    folder = searched("limit-rebuilt")
    found = read_run(f"{folder}/run.parquet")
    write_run(replace(found, query_ids=["q 1", "x", "y"]), f"{folder}/run.parquet")
    message = refused(script, "limit", folder, "--out", "board")
    assert "2 of its 3 queries, such as 'x', are not among the 3 asked for" in message


def test_a_search_that_did_not_finish_and_one_without_a_manifest_are_refused(searched):
    path = Path(searched("scifact")) / "manifest.json"
    path.write_text(path.read_text().replace('"status": "finished"', '"status": "running"'))
    with pytest.raises(ValueError, match=r"is not finished \(running\): the same command as before goes on with it"):
        read_results(path.parent)
    path.write_text(path.read_text().replace('"verb": "search"', '"verb": "train"'))
    with pytest.raises(ValueError, match="of the verb 'train', and what is read here is of search or suite cell"):
        read_results(path.parent)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="has no manifest.json, which says what was searched"):
        read_results(path.parent)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "manifest.json is damaged .*: run it again"),
        ("[1]", "manifest.json holds no recipe, as one of an older version may: run it again"),
        ('{"verb": "search", "status": "finished"}', "manifest.json holds no recipe"),
        ('{"verb": "search", "status": "finished", "recipe": {"split": "test"}}', "dataset: missing"),
    ],
)
def test_a_damaged_manifest_and_one_of_an_older_version_are_refused(searched, script, text, says):
    folder = searched("limit-rebuilt")
    (Path(folder) / "manifest.json").write_text(text)
    assert re.search(says, refused(script, "limit", folder, "--out", "board"))


def test_queries_that_answer_themselves_are_refused_where_beir_has_them_not(searched, script):
    message = refused(script, "beir", searched("arguana"), "--out", "board")
    assert "search it as dataset: {type: beir, name: arguana}, or with excludes_self" in message
    dataset = {"type": "folder", "path": "arguana", "excludes_self": True}
    assert "| arguana |" in script("beir", searched("arguana", out="runs/again", dataset=dataset), "--out", "board")


def test_two_boards_in_one_folder_keep_all_their_files(searched, script, tmp_path):
    script("beir", searched("scifact"), "--out", "board")
    before = (tmp_path / "board" / "beir.json").read_bytes()
    script("limit", searched("limit-rebuilt"), "--out", "board")
    assert (tmp_path / "board" / "beir.json").read_bytes() == before
    assert {path.name for path in (tmp_path / "board").glob("*.json")} == {"beir.json", "limit.json"}


def test_documents_that_have_changed_since_are_refused(searched, tmp_path):
    folder = searched("scifact")
    path = tmp_path / "data" / "scifact" / "corpus.jsonl"
    path.write_text(path.read_text().replace("harbour", "harbor"))
    with pytest.raises(ValueError, match="is of the documents .*, and scifact holds .* now: run it again"):
        read_results(folder)


def test_a_measure_that_needs_more_results_than_were_searched_is_refused(searched):
    (one,) = read_results(searched("scifact", k=2))
    with pytest.raises(ValueError, match="was searched with k=2, and R@3 needs 3: search again with k=3"):
        one.evaluate(["R@3"])
    (whole,) = read_results(searched("nfcorpus", k=4))  # all documents there are
    assert whole.evaluate(["R@100"]).mean["R@100"] == whole.evaluate(["R@4"]).mean["R@4"]


def test_two_results_of_one_system_on_one_task_are_refused(searched, script):
    first, second = searched("limit-rebuilt"), searched("limit-rebuilt", out="runs/again")
    message = refused(script, "limit", first, second, "--out", "board")
    assert "are both of bm25 on limit-rebuilt: name each system with NAME=SOURCE" in message
    assert "| ours" in script("limit", f"one={first}", f"other={second}", "--out", "board")


def test_a_half_of_the_last_digit_goes_up():
    from eval.leaderboards import _percent

    assert [_percent(value) for value in (0.9355, 0.9345, 0.0285, 1.0, 0.0, None)] == [
        "93.6", "93.5", "2.9", "100.0", "0.0", "–",
    ]  # fmt: skip


def test_recipes_of_one_name_in_two_folders_are_searched_apart(searched, script, tmp_path):
    searched("limit-rebuilt")
    for folder, k1 in (("one", 0.5), ("two", 2.0)):
        (tmp_path / folder).mkdir()
        recipe = json.loads((tmp_path / "limit-rebuilt.yaml").read_text()) | {"retriever": {"type": "bm25", "k1": k1}}
        (tmp_path / folder / "x.yaml").write_text(json.dumps(recipe))
    shown = script("limit", "A=one/x.yaml", "B=two/x.yaml", "--out", "board")
    assert [row[0] for row in rows(shown)[2:]] == ["A", "B"]


def test_names_with_marks_of_either_language_are_written_as_they_are():
    tables = [Table("50 % of a_b", ["system", "R@2"], [["a_b | c & d <e>", "–"]], notes=["#1 ~ 2"])]
    assert "| a\\_b \\| c & d \\<e\\> |   – |" in markdown(tables) and "\\#1 \\~ 2" in markdown(tables)
    assert r"a\_b \textbar{} c \& d \textless{}e\textgreater{} & -- \\" in latex(
        tables
    ) and r"50 \% of a\_b. \#1 \textasciitilde{} 2." in latex(tables)


def test_every_board_writes_the_same_files_again(searched, tmp_path):
    results = read_results(searched("scifact"), "BM25")
    paths = write_board(beir(results), results, tmp_path / "board")
    before = [path.read_bytes() for path in paths]
    write_board(beir(results), results, tmp_path / "board")
    assert [path.read_bytes() for path in paths] == before
