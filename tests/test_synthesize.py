"""The verb that makes training data: where it lies, what is printed and written down."""

from __future__ import annotations

import json

import pytest

from retrieval.cli import run
from retrieval.collection import Collection, write_collection
from retrieval.synthesize import synthesize
from retrieval.types import Generation

NAMES = ["perfectly relevant", "highly relevant", "related", "irrelevant"]


class Rule:
    """A generator that writes the same passages for every query."""

    def __init__(self, names: list[str] = NAMES):
        self.names = names

    def contract(self):
        """Plain values."""
        return {"model": "rule"}

    def generate(self, requests):
        """One answer each."""
        text = "".join(f'<passage level="{name}">{place} words</passage>' for place, name in enumerate(self.names))
        for place, _ in enumerate(requests):
            yield place, Generation(text, 7, 5, "stop")


GRADED = """\
dataset: {type: folder, path: toy}
synthesizer:
  type: graded_passages
  generator: {type: "tests.test_synthesize:Rule"}
"""
OTHERS = """\
  levels:
    - {name: good, definition: answers, label: 2}
    - {name: bad, definition: does not, label: 0}
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documents = [("a", "", "Otters swim. They eat."), ("b", "", "otters swim"), ("c", "", "a comet")]
    write_collection(tmp_path / "toy", documents, {"q": "otters"}, {"train": {"q": {"a": 1}}})
    return tmp_path


def test_a_recipe_writes_a_collection_its_counts_and_its_costs(toy, capsys):
    (toy / "x.yaml").write_text(GRADED)
    results = run(synthesize, ["x.yaml", "out=made"])
    assert results["counts"]["kept"] == 1 and results["costs"]["tokens out"] == 5
    assert "kept: 1" in capsys.readouterr().out
    assert len(Collection(toy / "made" / "collection").corpus) == 4
    manifest = json.loads((toy / "made" / "manifest.json").read_text())
    assert manifest["status"] == "finished" and manifest["results"] == results
    made_of = manifest["made_of"]["synthesizer"]
    assert made_of["prompt"] == "graded_passages 1" and made_of["asked"]["generator"] == {"model": "rule"}
    assert [level["label"] for level in made_of["levels"]] == [3, 2, 1, 0]


def test_levels_are_written_in_a_recipe_as_blocks(toy):
    (toy / "x.yaml").write_text(GRADED.replace('Rule"', 'Rule", names: [good, bad]') + OTHERS)
    run(synthesize, ["x.yaml", "out=made"])
    assert Collection(toy / "made" / "collection").qrels("train").to_dict() == {"q": {"q-2": 2, "q-0": 0}}


def test_a_run_that_was_killed_after_the_folder_was_whole_finishes(toy):
    (toy / "x.yaml").write_text("dataset: {type: folder, path: toy}\nsynthesizer: degraded\n")
    results = run(synthesize, ["x.yaml", "out=made"])
    manifest = json.loads((toy / "made" / "manifest.json").read_text())
    (toy / "made" / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    assert run(synthesize, ["x.yaml", "out=made"]) == results


def test_an_empty_set_ends_with_one_line_that_says_what_dropped_how_many(toy, capsys):
    (toy / "x.yaml").write_text("dataset: {type: folder, path: toy}\nsynthesizer: {type: degraded, relevant: 2}\n")
    with pytest.raises(SystemExit) as stopped:
        run(synthesize, ["x.yaml", "out=made"])
    assert stopped.value.code == 1
    assert "of 1 queries none is left; no relevant document that has text 1" in capsys.readouterr().err
