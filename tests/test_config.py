"""A recipe is checked before anything is built, and every mistake is reported with its file, line and key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import config, protocols
from retrieval.config import ConfigError, load
from retrieval.yaml_lines import dump

LAB = {
    "encoders/hashing.py": '''
        __all__ = ["Hashing"]

        class Hashing:
            """Hashes words.

            More about it.
            """

            def __init__(self, dim: int = 64, seed: int = 0): self.dim, self.seed = dim, seed
            def encode_queries(self, texts): ...
            def encode_docs(self, texts): ...
            def contract(self): ...
        ''',
    "encoders/typed.py": '''
        from __future__ import annotations
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            import absent
            from lab.types import Pooling
        __all__ = ["Typed"]

        class Typed:
            """Its types are imported by the type checker only."""

            def __init__(self, pooling: Pooling = "mean", model: absent.Model = None): self.pooling = pooling
            encode_queries = encode_docs = contract = lambda self, *a: None
        ''',
    "types.py": 'from typing import Literal\nPooling = Literal["mean", "last"]',
    "retrievers/dense.py": '''
        from retrieval.protocols import Encoder
        __all__ = ["Dense"]

        class Dense:
            """Compares vectors."""

            def __init__(self, encoder: Encoder, index: str = "flat"): self.encoder, self.index = encoder, index
            def open(self, corpus, folder): ...
            def retrieve(self, queries, k): ...
        ''',
    "retrievers/bm25.py": '''
        __all__ = ["BM25"]

        class BM25:
            """Compares words."""

            def __init__(self, k1: float = 0.9, b: float = 0.4): self.k1, self.b = k1, b
            def open(self, corpus, folder): ...
            def retrieve(self, queries, k): ...
        ''',
    "retrievers/fusion.py": '''
        from retrieval.protocols import Retriever
        __all__ = ["Fusion"]

        class Fusion:
            """Adds what others found."""

            def __init__(self, retrievers: list[Retriever], depth: int = 100): self.retrievers = retrievers
            def open(self, corpus, folder): ...
            def retrieve(self, queries, k): ...
        ''',
}

RECIPE = """\
retriever:
  type: fusion
  retrievers:
    - type: bm25
      k1: 12e-1
    - type: dense
      encoder:
        type: hashing
        dim: 32
    - bm25
k: 3
"""


@dataclass
class Schedule:
    steps: int
    rate: float = 0.5


def search(
    retriever: protocols.Retriever,
    k: int = 10,
    encoder: protocols.Encoder | None = None,
    systems: dict[str, protocols.Retriever] | None = None,
    schedule: Schedule | None = None,
    weights: dict[str, float] | None = None,
    note: str = "",
    mode: Literal["fast", "exact"] = "fast",
    regulariser: protocols.Regulariser | None = None,
    out: Path | None = None,
):
    """Search."""
    return retriever, encoder, systems


@pytest.fixture(scope="module")
def lab_path(tmp_path_factory):
    from textwrap import dedent

    root = tmp_path_factory.mktemp("components")
    for name, source in LAB.items():
        path = root / "lab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(dedent(source))
    return root


@pytest.fixture(autouse=True)
def lab(lab_path, monkeypatch):
    monkeypatch.syspath_prepend(lab_path)
    monkeypatch.setitem(config.FOLDERS, protocols.Encoder, "lab.encoders")
    monkeypatch.setitem(config.FOLDERS, protocols.Retriever, "lab.retrievers")
    monkeypatch.setitem(config.FOLDERS, protocols.Regulariser, "lab.regularisers")


@pytest.fixture
def write(tmp_path):
    """Write RECIPE with one edit, or another text; return its path."""

    def write(old="", new="", text=RECIPE):
        assert old in text
        path = tmp_path / "r.yaml"
        path.write_text(text.replace(old, new, 1) if old else text + new)
        return path

    return write


def mistakes(path, overrides=()):
    with pytest.raises(ConfigError) as error:
        load(search, path, overrides)
    return str(error.value).replace(f"{path}", "r.yaml").splitlines()


def only(path, overrides=()):
    (recipe,) = load(search, path, overrides)
    return recipe


# ---- values ------------------------------------------------------------------------------------------------------


def test_values_are_typed_and_complete(write):
    values = only(write()).to_dict()
    assert values["k"] == 3
    assert values["retriever"]["retrievers"][0] == {"type": "bm25", "k1": 1.2, "b": 0.4}
    assert values["retriever"]["retrievers"][1]["encoder"] == {"type": "hashing", "dim": 32, "seed": 0}
    assert values["retriever"]["depth"] == 100


def test_the_resolved_recipe_is_json_and_loads_as_itself(write, tmp_path):
    values = only(write(), ["out=some/folder", "note='2e-5'", "schedule.steps=3"]).to_dict()
    assert values["out"] == "some/folder"
    assert values["schedule"] == {"steps": 3, "rate": 0.5}
    again = tmp_path / "again.yaml"
    again.write_text(dump(json.loads(json.dumps(values))))
    assert only(again).to_dict() == values


def test_a_name_is_short_for_its_block(write):
    assert only(write(text="retriever: bm25")).key() == only(write(text="retriever: {type: bm25}")).key()


def test_a_component_may_come_from_anywhere_importable(write):
    path = write("type: fusion", "type: lab.retrievers.fusion:Fusion")
    assert only(path).to_dict()["retriever"]["type"] == "lab.retrievers.fusion:Fusion"
    assert only(path).key() == only(write()).key()


def test_a_call_builds_the_components_inside_out_and_once_if_equal(write):
    built: dict = {}
    recipe = only(write(new="systems: {words: bm25, same: {type: bm25, k1: 0.9}, other: {type: bm25, b: 0}}"))
    retriever, encoder, systems = recipe(built)
    assert encoder is None
    assert systems["words"] is systems["same"] is retriever.retrievers[2]
    assert systems["other"] is not systems["words"]
    assert [".".join(map(str, part.place)) for part in recipe.parts()][:3] == [
        "retriever.retrievers.0",
        "retriever.retrievers.1.encoder",
        "retriever.retrievers.1",
    ]
    assert recipe.components(built)["retriever.retrievers.1.encoder"].dim == 32
    assert recipe.components(built)["systems.same"] is systems["same"]


def test_a_block_of_values_is_checked_by_pydantic(write):
    recipe = only(write(new="schedule: {steps: 3}\nweights: {a: 1, b: 2e-5}"))
    assert recipe.arguments["schedule"] == Schedule(3)
    assert recipe.arguments["weights"] == {"a": 1.0, "b": 2e-5}
    assert mistakes(write(new="schedule:\n  step: 3\nweights: {a: x}")) == [
        "r.yaml:12: schedule.steps: field required",
        "r.yaml:13: schedule.step: unexpected keyword argument",
        "r.yaml:14: weights.a: input should be a valid number, unable to parse string as a number, not 'x'",
    ]


def test_types_that_only_a_type_checker_imports_are_known(write):
    assert only(write(new="encoder: {type: typed, pooling: last}")).to_dict()["encoder"]["pooling"] == "last"
    lines = mistakes(write(new="encoder: {type: typed, pooling: lost, model: x}"))
    assert lines[0] == "r.yaml:12: encoder.pooling: input should be 'mean' or 'last', not 'lost'. Did you mean last?"
    assert (
        lines[1] == "r.yaml:12: encoder.model: its annotation 'absent.Model' cannot be read: No module named 'absent'"
    )


# ---- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("k1:", "k_1:", "5: retriever.retrievers.0.k_1: bm25 takes k1, b. Did you mean k1?"),
        ("k: 3", "k: many", "11: k: input should be a valid integer, unable to parse string as an integer, not 'many'"),
        ("k: 3", "k: true", "11: k: input should be a number, not true"),
        ("k: 3", "note: 0123", "11: note: input should be a valid string, not 123: put it in quotes"),
        ("k: 3", "mode: exakt", "11: mode: input should be 'fast' or 'exact', not 'exakt'. Did you mean exact?"),
        ("k: 3", "regulariser: l2", "11: regulariser.type: no Regulariser 'l2': lab/regularisers/ has none yet; "
         "`type: module:Class` names any class."),
        ("type: hashing", "typ: hashing", "7: retriever.retrievers.1.encoder.type: missing: "
         "lab/encoders/ has hashing, typed."),
        ("type: fusion", "type: fushion", "2: retriever.type: no Retriever 'fushion': "
         "lab/retrievers/ has bm25, dense, fusion. Did you mean fusion?"),
        (RECIPE, "retriever: [bm25]", "1: retriever: one Retriever is wanted, not a list"),
        (RECIPE, "retriever: {type: fusion, retrievers: bm25}", "1: retriever.retrievers: a list is wanted, "
         "each a Retriever, not 'bm25'"),
        (RECIPE, "k: 3", "1: retriever: missing, and search has no default for it"),
        (RECIPE, "\nretriever: null", "2: retriever.type: missing: lab/retrievers/ has bm25, dense, fusion."),
        ("k: 3", "k: 3\nk: 4", "12: k: given twice"),
        ("k: 3", "k: [3", "12: expected ',' or ']', but got '<stream end>'"),
        ("k: 3", "k: !!python/name:os.system ''", "11: the tag !!python/name:os.system is not read here; "
         "leave it out, and quote what is a word"),
        ("k: 3", "weights: !odd {a: 1}", "11: the tag !odd is not read here; leave it out, and quote what is a word"),
        ("k: 3", "weights: &a {a: *a}", "11: this block contains itself"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_line_and_key(write, old, new, message):
    assert mistakes(write(old, new)) == [f"r.yaml:{message}"]


def test_all_mistakes_are_reported_at_once(write):
    path = write("dim: 32", "dim: wide")
    assert [line.split(": ")[:2] for line in mistakes(path, ["k=many", "wat", "retriever.retrievers.0.b=x"])] == [
        ["command line", "'wat' is not of the form key=value"],
        ["command line", "retriever.retrievers.0.b"],
        ["r.yaml:9", "retriever.retrievers.1.encoder.dim"],
        ["command line", "k"],
    ]


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path, write):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such recipe"):
        load(search, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(search, tmp_path)
    assert mistakes(write(text="- a\n")) == ["r.yaml: a recipe is a block of `key: value` lines"]
    (tmp_path / "r.yaml").write_bytes(b"a: \xff")
    assert "cannot be read: 'utf-8'" in mistakes(tmp_path / "r.yaml")[0]


# ---- overrides ---------------------------------------------------------------------------------------------------

PLACES = {"k": 7, "retriever.retrievers.0.k1": 0.25, "retriever.retrievers.1.encoder.dim": 7, "retriever.depth": 7}


@given(st.dictionaries(st.sampled_from(sorted(PLACES)), st.integers(1, 9), min_size=1))
def test_an_override_changes_its_leaf_and_no_other(lab_path, chosen):
    path = lab_path / "r.yaml"
    path.write_text(RECIPE)
    before, after = only(path).to_dict(), only(path, [f"{key}={value}" for key, value in chosen.items()]).to_dict()
    for key, value in chosen.items():
        *parents, leaf = key.split(".")
        block = before
        for part in parents:
            block = block[int(part)] if isinstance(block, list) else block[part]
        block[leaf] = value
    assert after == before


def test_a_new_type_drops_the_old_arguments(write):
    path = write()
    assert only(path, ["retriever.retrievers.1.type=bm25"]).to_dict()["retriever"]["retrievers"][1]["k1"] == 0.9
    assert only(path, ["retriever.retrievers.0.type=bm25"]).to_dict()["retriever"]["retrievers"][0]["k1"] == 1.2
    assert mistakes(path, ["retriever.depth=3", "retriever.type=bm25"]) == [
        "command line: retriever.depth: retriever.type replaces it; write it after that"
    ]


def test_a_list_element_may_be_addressed_but_not_added(write):
    path = write()
    assert only(path, ["retriever.retrievers.2.b=0"]).to_dict()["retriever"]["retrievers"][2]["b"] == 0
    assert only(path, ["retriever.retrievers.2=dense", "retriever.retrievers.2.encoder=hashing"])
    for part in ("3", "-1", "x"):
        key = f"retriever.retrievers.{part}"
        assert mistakes(path, [f"{key}=bm25"]) == [
            f"command line: {key}: retriever.retrievers has 3 elements, 0 to 2",
        ]


def test_mistakes_in_an_override_name_the_command_line(write):
    path = write()
    assert mistakes(path, ["retriever={type: bm25, k_1: 1}"]) == [
        "command line: retriever.k_1: bm25 takes k1, b. Did you mean k1?"
    ]
    assert mistakes(path, ["retreiver.k1=1"])[0].endswith("Did you mean retriever?")
    assert mistakes(path, ["k=[1"]) == ["command line: k: expected ',' or ']', but got '<stream end>'"]
    assert mistakes(path, ["retriever.gamma=1"])[0] == "command line: retriever.gamma: fusion takes retrievers, depth."


# ---- grids -------------------------------------------------------------------------------------------------------

GRID = "grid:\n  retriever.retrievers.0.k1: [1, 2]\n  k: [5, 6]\n"


def test_a_grid_is_one_recipe_per_combination_in_the_order_written(write):
    recipes = load(search, write(new=GRID))
    assert [tuple(recipe.point.values()) for recipe in recipes] == [(1, 5), (1, 6), (2, 5), (2, 6)]
    assert [recipe.to_dict()["retriever"]["retrievers"][0]["k1"] for recipe in recipes] == [1, 1, 2, 2]
    assert recipes[0].point == {"retriever.retrievers.0.k1": 1, "k": 5}
    assert only(write()).point == {}


def test_equal_blocks_are_built_once_across_a_grid(write):
    built: dict = {}
    retrievers = [recipe(built)[0] for recipe in load(search, write(new=GRID))]
    assert retrievers[0] is retrievers[1]
    assert retrievers[0] is not retrievers[2]
    assert retrievers[0].retrievers[1].encoder is retrievers[2].retrievers[1].encoder


def test_overrides_come_before_the_grid_and_may_change_it(write):
    path = write(new=GRID)
    points = [recipe.point for recipe in load(search, path, ["grid.k=[1]", "grid.retriever.retrievers.0.k1=[3]"])]
    assert points == [{"retriever.retrievers.0.k1": 3, "k": 1}]
    assert only(path, ["grid=null"]).to_dict()["k"] == 3
    assert {recipe.to_dict()["retriever"]["depth"] for recipe in load(search, path, ["retriever.depth=2"])} == {2}
    assert [recipe.to_dict()["k"] for recipe in load(search, write(), ["grid.k=[4, 5]"])] == [4, 5]


def test_a_grid_never_replaces_an_override_unnoticed(write):
    assert mistakes(write(new=GRID), ["k=9"]) == [
        "command line: k: the grid's k replaces it; write grid.k=[...] instead"
    ]
    grid = "grid:\n  retriever.depth: [1]\n  retriever.type: [bm25]\n"
    assert mistakes(write(new=grid)) == ["r.yaml:13: retriever.depth: retriever.type replaces it; write it after that"]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("retriever.gamma: [1, 2]", "13: retriever.gamma: fusion takes retrievers, depth."),
        ("kk: [1]", "13: kk: search takes"),
        ("k: [1, x]", "13: k: input should be a valid integer"),
        ("k:\n  - 1\n  - x", "15: k: input should be a valid integer"),
        ("retriever.retrievers.9.k1: [1]", "13: retriever.retrievers.9: retriever.retrievers has 3 elements, 0 to 2"),
        ("k: 3", "13: grid.k: a dotted key takes a list of values, not 3"),
        ("k: []", "13: grid.k: a dotted key takes a list of values, not []"),
        ("k: [1, 1]", "13: grid.k: has the same value twice"),
    ],
)
def test_a_mistake_in_a_grid_names_its_line(write, grid, message):
    (line,) = mistakes(write(new=f"grid:\n  {grid.replace(chr(10), chr(10) + '  ')}\n"))
    assert line.startswith(f"r.yaml:{message}")
