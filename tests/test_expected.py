"""What a recipe's first lines say that it gives, and which result of a recipe that is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from retrieval.expected import Expected, given, head, read_expected
from retrieval.verbs import verb, verb_of, verbs

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
MEASURING = ("search", "train", "evaluate", "curve", "report", "suite")  # verbs whose results are measures
WITHOUT = ("not run here", "no figure", "not measured", "0 figures")  # what a recipe says that has none to check


def said(text):
    return [(one.measure, one.figure, one.tolerance, one.whose) for one in read_expected(text)]


def test_a_figure_after_its_measure_must_round_to_the_digits_that_are_there():
    assert said("BM25 on SciFact: nDCG@10 0.6789, R@100 0.925.") == [
        ("nDCG@10", 0.6789, 0.00005, ()),
        ("R@100", 0.925, 0.0005, ()),
    ]


def test_names_in_brackets_say_whose_a_figure_is_and_go_on_with_the_measure():
    assert said("nDCG@10 0.4715 [RM3], 0.4685 [dl19, rocchio]; alone 0.4641") == [
        ("nDCG@10", 0.4715, 0.00005, ("rm3",)),
        ("nDCG@10", 0.4685, 0.00005, ("dl19", "rocchio")),
    ]


def test_a_tolerance_is_stated_after_its_figure():
    assert said("nDCG@10 0.6648+-0.005 [trained] from 0.6446 +- 0.01 [zero-shot]") == [
        ("nDCG@10", 0.6648, 0.005, ("trained",)),
        ("nDCG@10", 0.6446, 0.01, ("zero-shot",)),
    ]


def test_parentheses_and_bare_numbers_are_for_readers():
    assert said("k=3, p = 0.0011, alpha 0.4 (published: nDCG@10 0.6807), BM25 0.665, 0.1") == []
    assert said("AP 0.3 (elsewhere, R(rel=2)@100 0.5 [bm25])") == [("AP", 0.3, 0.05, ())]


def test_the_parameters_of_a_measure_are_not_an_aside():
    assert said("R(rel=2)@100 0.5011 and AP(rel=2) 0.3013")[0][:2] == ("R(rel=2)@100", 0.5011)
    assert len(said("R(rel=2)@100 0.5011 and AP(rel=2) 0.3013")) == 2


def test_a_name_without_a_measure_before_it_is_refused():
    with pytest.raises(ValueError, match=r"0.4 \[bm25\]' names a result and follows no measure"):
        read_expected("BM25 0.4 [bm25]")


@drawn(st.floats(0, 1).map(lambda value: round(value, 4)))
def test_a_result_agrees_with_itself_written_in_four_digits(value):
    (one,) = read_expected(f"nDCG@10 {value:.4f}")
    assert one.agrees(value) and one.agrees(value + 0.00005) and not one.agrees(value + 0.0001)


def test_the_head_is_every_comment_before_the_recipe(tmp_path):
    (tmp_path / "x.yaml").write_text("# one\n# two: AP 0.1\ndataset: d\n# AP 0.2\n")
    assert head(tmp_path / "x.yaml") == "one two: AP 0.1"


SEARCHED = {"bm25+rm3": {"mean": {"AP": 0.3}}, "bm25": {"mean": {"AP": 0.2}}, "collection": {"queries": 1}}


def test_a_figure_without_a_name_is_of_the_first_system_and_of_a_training_that_which_was_trained():
    assert given(Expected("AP", 0.3, 0.1), [({}, SEARCHED)]) == [0.3]
    trained = {"zero-shot": {"mean": {"AP": 0.4}}, "trained": {"mean": {"AP": 0.5}}}
    assert given(Expected("AP", 0.3, 0.1), [({}, trained)]) == [0.5]
    assert given(Expected("AP", 0.3, 0.1, ("zero-shot",)), [({}, trained)]) == [0.4]


def test_every_result_that_fits_a_name_must_give_the_figure():
    grid = [({"retriever.model": {"type": "rm3", "k": 1}}, SEARCHED), ({"retriever.model": "axiom"}, SEARCHED)]
    assert given(Expected("AP", 0, 0, ("bm25",)), grid) == [0.2, 0.2]
    assert given(Expected("AP", 0, 0, ("axiom", "bm25")), grid) == [0.2]
    assert given(Expected("AP", 0, 0), grid) == [0.3, 0.3]
    assert given(Expected("AP", 0, 0, ("rm3",)), grid) == [0.3]  # of the point, not of its baseline


def test_values_of_a_grid_are_named_alone_or_with_their_key():
    grid = [({"retriever.depth": depth, "labels": True}, {"x": {"mean": {"AP": depth / 10}}}) for depth in (1, 3)]
    assert given(Expected("AP", 0, 0, ("depth=3", "labels=true")), grid) == [0.3]
    assert given(Expected("AP", 0, 0, ("3",)), grid) == [0.3]
    assert given(Expected("AP", 0, 0, ("mean",)), grid) == [0.2]


def test_an_unknown_name_or_measure_lists_what_there_is():
    with pytest.raises(ValueError, match=r"AP \[bm52\] is not there: names are bm25, bm25\+rm3"):
        given(Expected("AP", 0, 0, ("bm52",)), [({}, SEARCHED)])
    with pytest.raises(ValueError, match="RR is not there: measured is AP"):
        given(Expected("RR", 0, 0), [({}, SEARCHED)])


@pytest.mark.parametrize("path", CONFIGS, ids=[str(path.relative_to(ROOT / "configs")) for path in CONFIGS])
def test_a_recipe_that_measures_says_a_figure_to_check_or_that_it_has_none(path):
    text = head(path)
    found = read_expected(text)
    assert found or verb_of(path).__name__ not in MEASURING or any(words in text.casefold() for words in WITHOUT)


def test_verbs_are_found_by_their_files_and_recipes_by_their_keys(tmp_path):
    assert {"search", "train", "evaluate", "mine", "features", "suite", "doctor"} <= {*verbs()} and "cli" not in verbs()
    assert verb("search").__name__ == "search"
    with pytest.raises(ValueError, match="no verb 'serach'; there are "):
        verb("serach")
    (tmp_path / "x.yaml").write_text("dataset: d\nretriever: bm25\nnonsense: 1\n")
    with pytest.raises(ValueError, match="no verb takes dataset, nonsense, retriever"):
        verb_of(tmp_path / "x.yaml")
    for folder, name in (("compare", "compare"), ("other", "evaluate")):  # both take these keys
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.yaml").write_text("dataset: d\nruns: {a: b}\n")
        assert verb_of(tmp_path / folder / "x.yaml").__name__ == name
