"""Recipes with mined negatives where the run of their retriever is kept already: in another folder, or after a kill."""

from __future__ import annotations

import json

import pytest

import retrieval.mine as mining
from retrieval.cli import run
from retrieval.collection import write_collection
from retrieval.mine import mine
from retrieval.train import train
from training import retrieved

ENCODER = "{{type: transformer, model: {model}, pooling: mean, dtype: float32}}"
RETRIEVERS = {
    "bm25": "bm25",
    "dense": f"{{{{type: dense, encoder: {ENCODER}, index: flat}}}}",
    "sparse": "{{type: sparse, encoder: {{type: splade, model: {mlm}, dtype: float32}}, index: inverted}}",
    "feedback": "{{type: feedback, source: bm25, model: rm3}}",
    "fusion": "{{type: reciprocal_rank, retrievers: [bm25, {{type: multi_query, retriever: bm25}}]}}",
    "rerank": "{{type: rerank, retriever: bm25, reranker: {{type: cross_encoder, model: {model}, seed: 0}}, depth: 3}}",
}
RECIPE = """\
source: {{type: judged, dataset: &here {{type: folder, path: toy}}}}
dataset: *here
retriever: {retriever}
mining: {{k: 1, choice: top}}
"""
TRAINED = """\
dataset: &here {{type: folder, path: toy}}
encoder: {encoder}
data: {{type: mined, source: {{type: judged, dataset: *here}}, dataset: *here, retriever: bm25, mining: {{k: 1}}}}
groups: {{size: 2}}
dev: null
test: train
trainer: {{loss: infonce, steps: 2, batch_size: 2, eval_steps: 1}}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    texts = ["otters swim in cold rivers", "otters sleep on their backs", "comets have tails", "comets return"]
    documents = [(f"d{number}", "", text) for number, text in enumerate(texts)]
    queries = {"q": "where otters swim", "r": "comets with tails"}
    write_collection(tmp_path / "toy", documents, queries, {"train": {"q": {"d0": 1}, "r": {"d2": 1}}})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", RETRIEVERS)
def test_a_recipe_runs_again_into_another_folder(name, here, tiny_model, tiny_mlm):
    retriever = RETRIEVERS[name].format(model=tiny_model, mlm=tiny_mlm)
    (here / "r.yaml").write_text(RECIPE.format(retriever=retriever))
    first, second = (run(mine, ["r.yaml", f"out={out}"]) for out in ("one", "two"))
    one, two = ((here / out / "negatives.jsonl").read_bytes() for out in ("one", "two"))
    assert first == second and one == two
    made_of = json.loads((here / "two" / "manifest.json").read_text())["made_of"]
    assert made_of["retriever"]  # what it was made with is known, though nothing was searched


def test_a_killed_recipe_goes_on(here, monkeypatch):
    (here / "r.yaml").write_text(RECIPE.format(retriever="bm25"))
    write = mining.write_negatives

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(mining, "write_negatives", killed)
    with pytest.raises(SystemExit):
        run(mine, ["r.yaml", "out=out"])
    monkeypatch.setattr(mining, "write_negatives", write)
    assert run(mine, ["r.yaml", "out=out"])["mining: mined negatives"] == 2


def test_training_on_mined_negatives_goes_on_with_the_run_that_is_kept(here, tiny_model, monkeypatch):
    (here / "r.yaml").write_text(TRAINED.format(encoder=ENCODER.format(model=tiny_model)))
    whole = run(train, ["r.yaml", "out=whole"])
    monkeypatch.setattr(retrieved, "_searched", None)  # nothing is searched again
    again = run(train, ["r.yaml", "out=again"])
    assert again["trained"]["mean"] == whole["trained"]["mean"]
