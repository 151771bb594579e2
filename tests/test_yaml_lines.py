"""YAML reads as people expect it, and what is written reads back."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from retrieval.yaml_lines import Reader, dump, problem


@pytest.mark.parametrize(
    ("text", "value"),
    [("2e-5", 2e-5), ("010", 10), ("1_000", "1_000"), ("1:30", "1:30"), ("no", "no"), ("on", "on"), ("True", True),
     ("2024-01-01", "2024-01-01"), ("~", None), ("", None), (".5", 0.5), ("-.inf", float("-inf")), ("=", "=")],
)  # fmt: skip
def test_scalars_are_what_people_expect(text, value):
    read = Reader("r.yaml").parse(text)
    assert read == value and type(read) is type(value)


@given(st.integers(-(10**30), 10**30) | st.floats(allow_nan=False))
def test_a_number_written_by_python_is_that_number(number):
    text = repr(number).replace("inf", ".inf")
    assert Reader("r.yaml").parse(text) == number


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
trees = st.recursive(plain, lambda t: st.lists(t) | st.dictionaries(st.text("abc.: <~", min_size=1), t), max_leaves=8)


@given(trees)
def test_what_is_dumped_is_read_back(tree):
    assert Reader("r.yaml").parse(dump(tree)) == tree


def test_every_value_knows_its_line():
    reader = Reader("r.yaml")
    assert reader.parse("a:\n  - 1\n  - b: 2\n") == {"a": [1, {"b": 2}]}
    assert reader.origins == {
        ("a",): "r.yaml:1",
        ("a", 0): "r.yaml:2",
        ("a", 1): "r.yaml:3",
        ("a", 1, "b"): "r.yaml:3",
    }


def test_anchors_and_merged_blocks_work_and_keep_their_lines():
    reader = Reader("r.yaml")
    tree = reader.parse("""\
retriever: &base
  type: bm25
  k1: 0.5
same: *base
merged:
  b: 0.1
  <<: *base
later: {<<: [{k1: 1}, *base], b: 2}
own: {<<: *base, k1: 3}
""")
    assert tree["same"] == tree["retriever"] and tree["same"] is not tree["retriever"]
    assert tree["merged"] == {"type": "bm25", "k1": 0.5, "b": 0.1}
    assert tree["later"] == {"type": "bm25", "k1": 1, "b": 2}
    assert tree["own"] == {"type": "bm25", "k1": 3}
    assert reader.origins["same",] == "r.yaml:4"
    assert reader.origins["merged", "k1"] == "r.yaml:3"
    assert reader.mistakes == []


@pytest.mark.parametrize(
    "text",
    ["&a {<<: *a}", "<<: 3", "a: &a\n  b:\n    <<: *a", "a: *b", "? [a]\n: b", "a: !!set {b}", "a: \x01", "a: b: c"],
)
def test_what_cannot_be_read_is_a_yaml_error(text):
    with pytest.raises(yaml.YAMLError) as error:
        Reader("r.yaml").parse(text)
    line, what = problem(error.value)
    assert line >= 1 and what
