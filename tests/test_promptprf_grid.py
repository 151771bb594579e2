"""The grid recipes of PromptPRF on a tiny model, and the picture of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from retrieval.cli import run
from retrieval.collection import write_collection
from retrieval.features import features
from retrieval.search import search
from tests.conftest import TEXTS

ROOT = Path(__file__).parent.parent


def test_the_grid_runs_and_is_drawn(tiny_chat, tmp_path):
    documents = [(f"d{i}", "", text) for i, text in enumerate(TEXTS[:6])]
    write_collection(tmp_path / "c", documents, [("q", "otter"), ("p", "harbour")], {"test": {"q": {"d0": 1}, "p": {}}})
    dataset = ["dataset.type=folder", f"dataset.path={tmp_path / 'c'}"]
    small = ["retriever.source.encoder", "retriever.model.encoder"]
    tiny = [f"{place}.{key}" for place in small for key in (f"model={tiny_chat}", "dtype=float32")]
    grid = [
        f"grid.retriever.model.extractor.generator.model=[{tiny_chat}]",
        "grid.retriever.model.extractor.feature=[keywords,summary]",
        "grid.retriever.model.depth=[1,3]",
        "grid.retriever.model.rank_labels=[true]",
        "retriever.model.extractor.generator.dtype=float32",
        "retriever.model.extractor.max_tokens=4",
        "retriever.model.extractor.fallback=keep",
    ]
    folder = ROOT / "configs" / "promptprf"
    found = run(search, [str(folder / "grid.yaml"), *dataset, *tiny, *grid, f"out={tmp_path / 'runs' / 'grid'}"])
    assert len(found) == 4 and all("dense+promptprf" in one for one in found)
    assert [one["dense+promptprf"]["cost"]["generations"] > 0 for one in found] == [True] * 4
    alone = [f"grid.retriever.encoder.model=[{tiny_chat}]", "retriever.encoder.dtype=float32"]
    run(search, [str(folder / "alone.yaml"), *dataset, *alone, f"out={tmp_path / 'runs' / 'alone'}"])
    command = [sys.executable, "scripts/promptprf_grid.py", str(tmp_path / "grid.png"), str(tmp_path / "runs")]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(shown) == 6 and sum(line.endswith("(alone)") for line in shown) == 1
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_features_are_made_once_and_read_by_the_search(tiny_chat, tmp_path):
    documents = [(f"d{i}", "", text) for i, text in enumerate(TEXTS[:4])]
    write_collection(tmp_path / "c", documents, [("q", "otter")], {"test": {"q": {"d0": 1}}})
    recipe = ROOT / "configs" / "promptprf" / "features.yaml"
    model = [f"extractor.generator.model={tiny_chat}", "extractor.generator.dtype=float32", "extractor.max_tokens=4"]
    dataset = ["dataset.type=folder", f"dataset.path={tmp_path / 'c'}"]
    made = run(features, [str(recipe), *dataset, *model, f"out={tmp_path / 'out'}"])
    assert made["documents"] == 4 and made["model calls"] == 4
    assert (tmp_path / "out" / "features" / "contract.json").is_file()
