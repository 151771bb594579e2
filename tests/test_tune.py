"""Settings are chosen without the queries they are tested on; figures are those of the choices made by hand."""

from __future__ import annotations

import json

import pytest

from eval import evaluate
from eval.nested import folds_of
from retrieval.cli import run as command_line
from retrieval.collection import write_collection
from retrieval.datasets.folder import Folder
from retrieval.looks import ledger, look
from retrieval.run_file import read_run
from retrieval.tune import _folds, tune
from tests.tables import Table

DEV, TEST = [f"d{n}" for n in range(6)], [f"t{n}" for n in range(6)]
GOOD, BAD = {"right": 2.0, "wrong": 1.0}, {"wrong": 2.0, "right": 1.0}


@pytest.fixture
def dataset(tmp_path):
    queries = {name: f"query {name}" for name in DEV + TEST} | {"again": "Query  t0"}
    qrels = {
        "dev": {name: {"right": 1} for name in DEV},
        "test": {name: {"right": 1} for name in TEST},
        "leaky": {name: {"right": 1} for name in [*DEV, "t1"]},
        "worded": {name: {"right": 1} for name in [*DEV, "again"]},
        "same": {"again": {"right": 1}},
    }
    write_collection(tmp_path / "c", [("right", "", "query"), ("wrong", "", "text")], queries, qrels)
    return Folder(str(tmp_path / "c"))


def table(good):
    """A retriever that is right for these queries, wrong for the others."""
    return Table({name: GOOD if name in good else BAD for name in [*DEV, *TEST, "again"]})


def asked(retriever):
    return {name for queries in retriever.seen for name in queries.ids}


def test_the_choice_is_that_of_dev_and_test_queries_are_asked_of_it_and_the_defaults_alone(dataset, capsys):
    default, first, second = table(TEST[:1]), table(DEV[:4] + TEST[:2]), table(DEV[:3] + TEST)
    found = tune(dataset, default, {"first": first, "second": second}, split="dev", measures=["RR"])
    assert found["chosen"] == ["first"] and found["tried"] == {"first": 5 / 6, "second": 4.5 / 6}
    assert found["tuned"]["mean"]["RR"] == pytest.approx(4 / 6)
    assert found["defaults"]["mean"]["RR"] == pytest.approx(3.5 / 6)
    assert found["tuned"]["paired t-test"]["RR"]["difference"] == pytest.approx(0.5 / 6)
    assert asked(default) == {*TEST} and asked(first) == {*DEV, *TEST} and asked(second) == {*DEV}
    assert "best on test" not in found and "chosen on 6 queries of dev, of 2 choices: first" in capsys.readouterr().out


def test_the_bound_is_the_best_on_test_and_is_called_optimistic(dataset, capsys):
    choices = {"first": table(DEV + TEST[:2]), "second": table(TEST)}
    found = tune(dataset, table([]), choices, split="dev", measures=["RR"], bound=True)
    assert found["best on test"] == {"choice": "second", "mean": {"RR": 1.0}, "optimistic": True}
    assert found["chosen"] == ["first"] and found["tuned"]["mean"]["RR"] == pytest.approx(4 / 6)
    told = "optimistic bound: RR 1.0000 by second, chosen on the queries it is measured on"
    assert told in capsys.readouterr().out


def test_within_one_split_each_fold_is_measured_with_what_is_best_on_the_others(dataset, capsys):
    fold = folds_of(TEST, 3, seed=1)
    own = [name for name, one in zip(TEST, fold, strict=True) if one == 0]
    rest = [name for name in TEST if name not in own]
    # own is better overall, but for its own fold, whose queries it alone answers, the others prefer rest
    choices = {"own": table([*own, rest[0]]), "rest": table(rest[:2])}
    found = tune(dataset, table([]), choices, folds=3, seed=1, measures=["RR"], bound=True)
    assert found["chosen"] == ["rest", "own", "own"]
    assert found["tuned"]["mean"]["RR"] == pytest.approx(3.5 / 6)  # of all queries only rest[0] is answered rightly
    assert found["best on test"]["choice"] == "own" and found["best on test"]["mean"]["RR"] == pytest.approx(4.5 / 6)
    assert "fold 1: 2 queries, by what was best on the other 4: rest" in capsys.readouterr().out


def test_the_tuned_run_is_that_of_the_figures_and_killed_it_goes_on(dataset, tmp_path):
    choices = {"short": Table({name: {"right": 1.0} for name in TEST[:4]}), "long": table(TEST[3:])}
    found = tune(dataset, table([]), choices, folds=2, measures=["RR"], out=tmp_path)
    collection = dataset.open()
    for name in ("tuned.trec", "tuned.parquet"):
        written = evaluate(read_run(tmp_path / name), collection.qrels("test"), ["RR"])
        assert written.mean == found["tuned"]["mean"]
    again = {"short": table([]), "long": table([])}  # asked, they would find other documents
    assert tune(dataset, table([]), again, folds=2, measures=["RR"], out=tmp_path)["tuned"] == found["tuned"]
    assert not asked(again["short"]) and again["short"].opened


def test_runs_that_were_kept_are_of_these_choices_and_this_collection_alone(dataset, tmp_path):
    tune(dataset, table([]), {"a": table([]), "b": table([])}, folds=2, measures=["RR"], out=tmp_path / "out")
    others = {"c": table(TEST), "b": table([])}
    assert tune(dataset, table([]), others, folds=2, measures=["RR"], out=tmp_path / "out")["chosen"] == ["c", "c"]
    assert asked(others["c"]) and not asked(others["b"])
    with open(tmp_path / "c" / "queries.jsonl") as file:
        text = file.read().replace("query t0", "query zero")
    (tmp_path / "c" / "queries.jsonl").write_text(text)
    again = {"a": table([]), "b": table(TEST)}
    changed = tune(Folder(str(tmp_path / "c")), table([]), again, folds=2, measures=["RR"], out=tmp_path / "out")
    assert changed["chosen"] == ["b", "b"] and asked(again["a"])


def test_queries_of_the_same_words_are_in_one_fold(tmp_path):
    queries = {f"q{n}": f"Query  {n % 5}" if n < 5 else f"query {n % 5}" for n in range(10)}
    write_collection(
        tmp_path / "c", [("right", "", "x"), ("wrong", "", "y")], queries, {"test": {q: {"right": 1} for q in queries}}
    )
    for seed in range(20):
        fold = _folds(Folder(str(tmp_path / "c")).open().queries("test"), list(queries), 5, seed)
        assert all(fold[n] == fold[n + 5] for n in range(5)) and len({*fold.tolist()}) == 5


def test_a_query_that_the_test_split_asks_in_the_same_words_has_no_say(dataset, capsys):
    choices = {"first": table(DEV[:2]), "second": table([*DEV[:1], "again"])}
    found = tune(dataset, table([]), choices, split="worded", measures=["RR"])
    assert found["chosen"] == ["first"] and found["tried"]["second"] == pytest.approx(3.5 / 6)
    assert "queries of worded that had no say, as test asks the same: 1" in capsys.readouterr().out


def test_looks_are_written_down_and_choosing_is_none(dataset):
    choices = {"first": table(DEV + TEST[:2]), "second": table(TEST)}
    assert tune(dataset, table([]), choices, split="dev")["looks"]["systems"] == 2  # defaults and tuned
    found = tune(dataset, table([]), choices, split="dev", bound=True)["looks"]
    assert (found["looks"], found["systems"], found["choices"]) == (2, 3, {})
    (line, again) = map(json.loads, ledger(dataset.open(), "dev").read_text().splitlines())
    assert line["kind"] == "choice" == again["kind"] and len(line["systems"]) == 2
    assert look(dataset.open(), "dev", "search", [])["choices"] == {"tune": 2}


def test_a_split_that_folds_chose_within_is_no_test_of_the_choice_from_then_on(dataset):
    choices = {"first": table(TEST[:2]), "second": table(TEST)}
    found = tune(dataset, table([]), choices, folds=2)["looks"]
    assert (found["looks"], found["choices"]) == (1, {})  # its own figures are of queries that had no say
    assert look(dataset.open(), "test", "search", [])["choices"] == {"tune": 1}


def test_a_recipe_tries_every_combination_and_shares_the_index(dataset, tmp_path):
    recipe = tmp_path / "x.yaml"
    recipe.write_text(
        f"dataset: {{type: folder, path: {tmp_path / 'c'}}}\nretriever: bm25\nfolds: 3\nout: {tmp_path / 'out'}\n"
        "choices: {k1: [0.6, 0.9], b: [0.3, 0.4]}\n"
    )
    found = command_line(tune, [str(recipe)])
    assert [*found["tried"]] == ["k1=0.6,b=0.3", "k1=0.6,b=0.4", "k1=0.9,b=0.3", "k1=0.9,b=0.4"]
    assert found["chosen"] == ["k1=0.6,b=0.3"] * 3  # all find the same; the first of equal ones
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["results"] == found and manifest["made_of"]["choices.k1=0.6,b=0.3"]["k1"] == 0.6
    assert manifest["made_of"]["retriever"]["k1"] == 0.9
    indexes = {about["index"] for place, about in manifest["made_of"].items() if place.startswith("choices.")}
    assert len(indexes) == 1


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        ({}, "give `split` to choose on it, or `folds`"),
        ({"split": "dev", "folds": 3}, "give `split` to choose on it, or `folds`"),
        ({"split": "test"}, "split test is what systems are tested on: choose on another split, or give folds"),
        ({"split": "test", "test": "dev"}, "split test is what systems are tested on"),
        ({"split": "dev", "test": "dev"}, "split dev is what systems are tested on"),
        ({"split": "leaky"}, "1 queries of leaky are queries of test, such as 't1'"),
        ({"split": "same"}, "all 1 queries of same are asked in test too"),
        ({"folds": 7}, "6 queries are fewer than 7 folds; set folds to 6 at most"),
        ({"folds": 1}, "folds is 1; .* at least 2"),
        ({"split": "none"}, "has no split 'none'"),
    ],
)
def test_what_would_choose_on_test_queries_or_cannot_be_is_refused(dataset, asked_for, message):
    choices = {"first": table(DEV), "second": table(TEST)}
    with pytest.raises(ValueError, match=message):
        tune(dataset, table([]), choices, **asked_for)
    assert not asked(choices["first"])


@pytest.mark.parametrize("choices", [{}, {"only": table([])}])
def test_nothing_to_choose_is_refused(dataset, choices):
    with pytest.raises(ValueError, match=f"choices: {len(choices)} leaves nothing to choose; give a key two values"):
        tune(dataset, table([]), choices, folds=2)


def test_an_unknown_key_in_choices_is_told_before_any_work(dataset, tmp_path, capsys):
    (tmp_path / "x.yaml").write_text(
        f"dataset: {{type: folder, path: {tmp_path / 'c'}}}\nretriever: bm25\nfolds: 2\nchoices: {{k: [1, 2]}}\n"
    )
    with pytest.raises(SystemExit) as stopped:
        command_line(tune, [str(tmp_path / "x.yaml")])
    assert stopped.value.code == 2 and "x.yaml:4: retriever.k: bm25 takes k1, b" in capsys.readouterr().err
