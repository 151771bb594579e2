"""Searching a split: a baseline beside the run, and what each cost."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eval import evaluate as measured
from eval.significance import paired_t
from retrieval.asking import Asker
from retrieval.cli import run
from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.manifest import Manifest, earlier
from retrieval.run_file import read_run
from retrieval.sampling import Sampling
from retrieval.search import search
from retrieval.types import Generation
from tests.tables import Table

GOOD = {"q": {"a": 2.0, "b": 1.0}, "r": {"b": 2.0}, "s": {"c": 1.0}}
BAD = {"q": {"b": 2.0, "a": 1.0}, "r": {"b": 2.0}, "s": {"a": 1.0}}


class Model:
    """Answers at once, of 10 tokens in and 2 out, a query that ends in s with a failure."""

    def contract(self):
        return {"model": "m"}

    def generate(self, requests):
        for place, request in enumerate(requests):
            bad = request.messages[0]["content"].endswith("s")
            yield place, Generation("", failure="no") if bad else Generation("x", 10, 2, "length")


class Asking(Table):
    """A table that first asks a model about each query."""

    def __init__(self, found, name="asking", asker=None):
        super().__init__(found, name)
        self.asker = asker or Asker(Model(), Sampling(), fallback="keep")

    def retrieve(self, queries, k):
        chats = [[{"role": "user", "content": text}] for text in queries.texts]
        self.asker.ask(chats, lambda place, text: text, "fix")
        return super().retrieve(queries, k)

    def provenance(self):
        return self.asker.counts()


@pytest.fixture
def dataset(tmp_path):
    documents = [(name, "", f"document {name}") for name in "abc"]
    queries = [(name, f"query {name}") for name in "qrs"]
    write_collection(tmp_path / "toy", documents, queries, {"test": {"q": {"a": 1}, "r": {"b": 1}, "s": {"c": 1}}})
    return Folder(str(tmp_path / "toy"))


def test_a_baseline_is_searched_measured_and_tested_against(dataset, tmp_path, capsys):
    results = search(
        dataset, Table(GOOD, "good"), k=2, measures=["nDCG@10", "R@1"], baseline=Table(BAD, "bad"), out=tmp_path
    )
    files = {name: read_run(tmp_path / f"{name}.parquet") for name in ("run", "baseline")}
    evaluations = {name: measured(one, dataset.open().qrels("test"), ["nDCG@10", "R@1"]) for name, one in files.items()}
    assert results["good"]["mean"] == evaluations["run"].mean == {"nDCG@10": 1.0, "R@1": 1.0}
    assert results["bad"]["mean"] == evaluations["baseline"].mean
    for measure in ("nDCG@10", "R@1"):
        test = paired_t(evaluations["run"], evaluations["baseline"], measure)
        assert results["good"]["paired t-test"][measure] == test.to_dict() and test.wins == 2
    assert "paired t-test" not in results["bad"] and list(results)[:2] == ["good", "bad"]
    assert (tmp_path / "baseline.trec").read_text().startswith("q Q0 b 1 2 bad")
    shown = capsys.readouterr().out
    assert "difference from bad by query" in shown and shown.index("│ bad ") < shown.index("│ good ")


def test_both_are_searched_over_the_same_split_to_the_same_depth(dataset):
    run, baseline = Table(GOOD, "good"), Table(BAD, "bad")
    search(dataset, run, k=7, baseline=baseline)
    assert run.depths == baseline.depths == [7] and run.seen[0].ids == baseline.seen[0].ids


def test_a_baseline_of_the_same_name_is_called_baseline(dataset):
    results = search(dataset, Table(GOOD), baseline=Table(BAD))
    assert list(results)[:2] == ["table", "baseline"]
    assert results["table"]["mean"]["nDCG@10"] == 1 > results["baseline"]["mean"]["nDCG@10"]


def test_what_a_model_was_asked_is_shown_beside_the_figures(dataset, capsys):
    results = search(dataset, Asking(GOOD))
    cost = results["asking"]["cost"]
    assert {what: cost[what] for what in cost if "seconds" not in what} == {
        "generations": 3,
        "failed generations": 1,
        "cut generations": 2,
        "model calls": 3,
        "cache hits": 0,
        "tokens in": 20,
        "tokens out": 4,
    }
    assert cost["seconds per query"] > 0 and "generations" not in results["collection"]
    header = next(line for line in capsys.readouterr().out.splitlines() if "s/query" in line)
    assert [cell.strip() for cell in header.split("┃")[1:-1]][:8] == [
        "system",
        "s/query",
        "generations",
        "failed",
        "cut",
        "calls",
        "tokens in",
        "tokens out",
    ]


def test_a_second_run_makes_no_call_for_an_answer_and_shows_the_same_tokens(dataset):
    first, second = (search(dataset, Asking(GOOD))["asking"]["cost"] for _ in range(2))
    assert (second["model calls"], second["cache hits"]) == (1, 2)  # the failure is asked again
    assert (second["tokens in"], second["tokens out"]) == (first["tokens in"], first["tokens out"]) == (20, 4)


def test_kept_answers_take_the_seconds_they_took_when_they_were_made(dataset, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    class Slow(Model):
        def generate(self, requests):
            for place, _ in enumerate(requests):
                now[0] += 2.0
                yield place, Generation("x", 1, 1)

    costs = [search(dataset, Asking(GOOD, asker=Asker(Slow(), Sampling())))["asking"]["cost"] for _ in range(2)]
    assert [cost["seconds per query"] for cost in costs] == [2.0, 2.0]
    assert [cost["generation seconds"] for cost in costs] == [6.0, 6.0]
    assert [cost["model calls"] for cost in costs] == [3, 0]


def test_the_cost_of_each_is_its_own_where_both_ask_the_same_model(dataset):
    asker = Asker(Model(), Sampling(), fallback="keep")
    results = search(dataset, Asking(GOOD, "first", asker), baseline=Asking(BAD, "second", asker))
    costs = [results[name]["cost"] for name in ("first", "second")]
    assert [cost["generations"] for cost in costs] == [3, 3]
    assert [cost["model calls"] for cost in costs] == [3, 1]


def test_without_a_model_or_a_baseline_no_cost_is_printed(dataset, capsys):
    results = search(dataset, Table(GOOD))
    assert list(results["table"]["cost"]) == ["seconds per query"] and "s/query" not in capsys.readouterr().out
    search(dataset, Table(GOOD), baseline=Table(BAD, "bad"))
    assert "s/query" in capsys.readouterr().out


class Cutting(Table):
    """Counts so many truncated queries whenever it retrieves."""

    def __init__(self, scores, name, each):
        super().__init__(scores, name, {"truncated documents": 7, "truncated queries": 0})
        self.each = each

    def retrieve(self, queries, k):
        self.counts = self.counts | {"truncated queries": self.counts["truncated queries"] + self.each}
        return super().retrieve(queries, k)


def test_what_a_baseline_counts_is_named_as_its_own(dataset, capsys):
    results = search(dataset, Cutting(GOOD, "table", 1), baseline=Cutting(BAD, "bad", 2))["collection"]
    assert results["truncated queries"] == 1 and results["baseline: truncated queries"] == 2
    assert results["truncated documents"] == 7
    assert "baseline: truncated queries: 2" in capsys.readouterr().out


def test_what_a_part_counted_for_others_before_is_left_out(dataset):
    one = Cutting(GOOD, "table", 3)
    assert [search(dataset, one)["collection"]["truncated queries"] for _ in range(2)] == [3, 3]


def test_a_recipe_names_its_baseline(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "dataset: {type: folder, path: toy}\nretriever: {type: bm25, k1: 2.0}\nbaseline: bm25\n"
    (tmp_path / "recipe.yaml").write_text(text)
    results = run(search, ["recipe.yaml", "out=found"])
    manifest = json.loads((tmp_path / "found" / "manifest.json").read_text())
    assert manifest["results"] == results and manifest["made_of"]["baseline"]["k1"] == 0.9
    np.testing.assert_array_equal(
        read_run(tmp_path / "found" / "run.trec").query_ids, read_run(tmp_path / "found" / "baseline.trec").query_ids
    )


def test_a_parameter_that_came_later_and_is_off_changes_no_experiment(tmp_path):
    manifest = Manifest.start(tmp_path / "o", "search", {"retriever": {"type": "bm25"}}, "")
    manifest.finish({}, {})
    assert earlier(tmp_path / "o", "search", {"retriever": {"type": "bm25"}, "baseline": None})["status"] == "finished"
    with pytest.raises(ValueError, match="baseline is absent there"):
        earlier(tmp_path / "o", "search", {"retriever": {"type": "bm25"}, "baseline": "bm25"})
