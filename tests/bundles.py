"""Results to pack, and bundles to change."""

from __future__ import annotations

import json
import zipfile

from retrieval.bundle import write_bundle
from retrieval.cli import run
from retrieval.pack import pack
from retrieval.search import search

DOCUMENTS = [
    ("a", "", "otter harbour"),
    ("b", "", "comet library otter"),
    ("c c", "", "violin kitchen"),
    ("d", "", "teapot"),
]
QUERIES = {"q": "otter", "r": "library", "s": "nowhere"}
JUDGED = {"test": {"q": {"a": 2, "b": 1}, "r": {"b": 1}, "s": {"c c": 1}}}
BM25 = "dataset: {type: folder, path: toy}\nretriever: bm25\nmeasures: [nDCG@10, R@1]\n"


def made(folder, recipe=BM25, verb=search, *overrides):
    """Run a recipe; the folder of its results."""
    (folder / "recipe.yaml").write_text(recipe)
    run(verb, ["recipe.yaml", "out=found", *overrides])
    return folder / "found"


def packed(folder, recipe=BM25, **options):
    pack([made(folder, recipe)], folder / "b.zip", **options)
    return folder / "b.zip"


def statuses(checks):
    return {one.what: one.status for one in checks}


def details(checks, status):
    return " ".join(one.detail for one in checks if one.status == status)


def names(bundle):
    with zipfile.ZipFile(bundle) as file:
        return sorted(file.namelist())


def changed(bundle, name, change):
    """The bundle with another content of one file, and the digests as they were."""
    with zipfile.ZipFile(bundle) as file:
        held = {one: file.read(one) for one in file.namelist()}
    held[name] = change(held[name])
    with zipfile.ZipFile(bundle, "w") as file:
        for one, content in held.items():
            file.writestr(one, content)


def packed_again(bundle, name, change):
    """The bundle with another content of one file, and a digest that is right."""
    with zipfile.ZipFile(bundle) as file:
        held = {one: file.read(one) for one in file.namelist()}
    about = json.loads(held.pop("bundle.json"))
    held[name] = change(held[name])
    write_bundle(bundle, about["results"], held, about["toolkit"])
