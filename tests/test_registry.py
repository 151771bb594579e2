"""The folder is the registry: what it holds, and why a `type` cannot be used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from retrieval import protocols
from retrieval.registry import FOLDERS, NoComponent, components, find

HASHING = '''
__all__ = ["Hashing"]

class Hashing:
    """Hashes words.

    More about it.
    """

    encode_queries = encode_docs = contract = lambda self, *texts: None
'''

FILES = {
    "hashing": HASHING,
    "none": "class Hidden: ...",
    "two": '__all__ = ["A", "B"]\nclass A: ...\nclass B: ...',
    "maker": '__all__ = ["make"]\ndef make(): ...',
    "_shared": '__all__ = ["Shared"]\nclass Shared: ...',
    "needy": 'import a_missing_package\n__all__ = ["Needy"]\nclass Needy: ...',
    "broken": 'from json import nothing\n__all__ = ["Broken"]\nclass Broken: ...',
    "heir": "from retrieval.protocols import Encoder\n__all__ = ['Heir']\nclass Heir(Encoder): ...",
}


@pytest.fixture(autouse=True)
def shelf(tmp_path_factory, monkeypatch):
    """A folder of encoders, good and bad."""
    root = tmp_path_factory.mktemp("shelf")
    (root / "shelf").mkdir()
    for name, source in {"__init__": "", **FILES}.items():
        (root / "shelf" / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(root)
    monkeypatch.setitem(FOLDERS, protocols.Encoder, "shelf")
    monkeypatch.setitem(FOLDERS, protocols.Regulariser, "shelf.regularisers")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "shelf"]:
        del sys.modules[name]


def test_a_component_is_found_by_the_name_of_its_file_or_anywhere():
    assert find(protocols.Encoder, "hashing").__name__ == "Hashing"
    assert find(protocols.Encoder, "shelf.hashing:Hashing") is find(protocols.Encoder, "hashing")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "shelf/none.py exports no class in __all__, so it holds no component"),
        ("two", "shelf/two.py exports A and B in __all__, where a component's file exports its one class"),
        ("maker", "shelf/maker.py exports make in __all__, which is not a class defined there"),
        ("_shared", "no Encoder '_shared'"),
        ("needy", "shelf.needy needs the package 'a_missing_package', which is not installed"),
        ("broken", "shelf.broken cannot be imported: cannot import name 'nothing' from 'json'"),
        ("my_lab.prf:Mine", "no module 'my_lab' can be imported from here"),
        ("shelf.nowhere:Mine", "no module 'shelf.nowhere' can be imported from here"),
        ("shelf.hashing:Hashin", "shelf.hashing has no 'Hashin'. Did you mean Hashing?"),
        ("shelf.hashing:__name__", "shelf.hashing:__name__ is no class"),
        ("shelf.none:Hidden", "shelf.none:Hidden is no Encoder: it has no encode_queries, encode_docs"),
        ("heir", "heir is no Encoder: it has no encode_queries, encode_docs"),
        (None, "missing: shelf/ has broken, hashing, heir, needy."),
        ("./x.py:Mine", "'./x.py' is no module"),
    ],
)
def test_a_type_that_cannot_be_used_says_why(name, message):
    with pytest.raises(NoComponent) as error:
        find(protocols.Encoder, name)
    assert str(error.value).startswith(message)


def test_a_kind_without_a_folder_yet_says_so_when_it_is_used():
    with pytest.raises(
        NoComponent, match="no Regulariser 'l2': shelf/regularisers/ has none yet; `type: module:Class`"
    ):
        find(protocols.Regulariser, "l2")


def test_components_are_listed_with_the_first_line_of_their_docstring():
    assert components(protocols.Encoder) == {
        "broken": "",
        "hashing": "Hashes words.",
        "heir": "",
        "needy": "",
    }
    assert components(protocols.Regulariser) == {}


def test_importing_and_listing_load_no_torch():
    code = """
import sys, retrieval.cli
from retrieval.config import FOLDERS, components
for protocol in FOLDERS: components(protocol)
sys.exit(bool({"torch", "transformers", "faiss"} & {*sys.modules}))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
