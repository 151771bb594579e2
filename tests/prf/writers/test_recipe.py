"""A writer in a recipe, from the model to the run."""

from __future__ import annotations

import json
from pathlib import Path

from retrieval.cli import run
from retrieval.search import search

RECIPE = """\
dataset: {{type: generated_limit, documents: 8, queries: 6, distractors: 4, items: 6, train_queries: 4, dev_queries: 2}}
retriever:
  type: rewrite
  writer:
    type: query2doc
    generator: {{type: transformers, model: {model}, dtype: float32}}
    sampling: {{max_tokens: 4, temperature: 1.0}}
  retriever: bm25
measures: [R@2]
"""


def test_a_second_run_of_a_recipe_calls_the_model_zero_times_and_gives_the_same_bytes(tiny_chat, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE.format(model=tiny_chat))
    first, second = (run(search, ["recipe.yaml", f"out={out}"])["query2doc+append+bm25"] for out in ("a", "b"))
    assert (first["cost"]["model calls"], second["cost"]["model calls"]) == (6, 0)
    assert first["cost"]["generations"] == second["cost"]["cache hits"] == 6
    assert first["cost"]["cut generations"] == 6
    assert Path("a/run.trec").read_bytes() == Path("b/run.trec").read_bytes()
    made_of = json.dumps(json.loads(Path("b/manifest.json").read_text())["made_of"])
    assert "query2doc 1" in made_of and '"temperature": 1.0' in made_of
