"""Rules of the house: light imports, components that keep their protocols, recipes that load, files that stay small."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.config import FOLDERS, components, load
from retrieval.registry import NoComponent, find
from retrieval.verbs import verb_of

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
EITHER = ("Reranker", "ListReranker")  # of one folder, whose components are of one kind or the other


def kept(name: str, kind: type) -> bool:
    """Whether a component of a folder of two kinds is of this one."""
    try:
        return bool(find(kind, name))
    except NoComponent:
        return False


KINDS = [
    (kind, name)
    for kind in FOLDERS
    if kind.__name__ != "FeedbackSource"
    for name in components(kind)
    if kind.__name__ not in EITHER or kept(name, kind)
]


def test_importing_is_free():
    code = "import retrieval, prf, eval, training, sys; assert not {'torch', 'transformers', 'scipy'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("kind", "name"), KINDS, ids=[f"{kind.__name__}-{name}" for kind, name in KINDS])
def test_a_component_keeps_its_protocol(kind, name):
    """Each method of the protocol is there, takes the protocol's parameters, and the class says what it is."""
    component = find(kind, name)
    assert inspect.getdoc(component)
    for method, promised in inspect.getmembers(kind, inspect.isfunction):
        if method.startswith("_") and method != "__call__":
            continue
        kept = list(inspect.signature(getattr(component, method)).parameters)
        assert kept[: len(inspect.signature(promised).parameters)] == list(inspect.signature(promised).parameters)


def test_a_reranker_is_of_one_kind_or_the_other():
    kinds = [kind for kind in FOLDERS if kind.__name__ in EITHER]
    names = components(kinds[0])
    assert names and all(any(kept(name, kind) for kind in kinds) for name in names)


@pytest.mark.parametrize("path", CONFIGS, ids=[str(path.relative_to(ROOT / "configs")) for path in CONFIGS])
def test_a_config_loads_and_its_first_line_says_what_it_gives(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ") and any(character.isdigit() for character in first)
    assert load(verb_of(path), path)


def test_no_file_passes_400_lines_and_no_function_50():
    for path in [p for folder in ("retrieval", "training", "prf", "eval") for p in (ROOT / folder).rglob("*.py")]:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 50, f"{path}: {node.name}"
