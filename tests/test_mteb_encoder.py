"""Models of MTEB as encoders of ours: vectors, prompts by task, contracts, and what is not on disk."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import mteb
import numpy as np
import pytest

from retrieval.cli import run
from retrieval.collection import Collection, write_collection
from retrieval.encoders.mteb import Mteb
from retrieval.search import search
from tests.conftest import TEXTS
from tests.mteb_toy import task_of


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory) -> Path:
    """A sentence-transformers model whose vectors are not of length 1, without prompts."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    modules = [Transformer(str(tiny_model), max_seq_length=12), Pooling(32, "mean")]
    place = tmp_path_factory.mktemp("models") / "st"
    SentenceTransformer(modules=modules, device="cpu").save(str(place))
    return place


@pytest.fixture
def registered(folder, tmp_path, monkeypatch):
    """Puts the model below RETRIEVAL_DATA under a name that MTEB's registry knows."""

    def put(name):
        shutil.copytree(folder, tmp_path / name)
        monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
        return name

    return put


def plain(folder, texts, dtype="float32"):
    """Cosine vectors by the package itself."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": dtype})
    return model.encode(texts, normalize_embeddings=True).astype(np.float32)


def encoder(model, **settings):
    return Mteb(str(model), device="cpu", **settings)


def test_a_model_that_the_registry_does_not_know_has_the_vectors_of_its_package(folder):
    found = encoder(folder).encode_docs([*TEXTS[:4], TEXTS[0]]).vectors
    np.testing.assert_allclose(found, plain(folder, [*TEXTS[:4], TEXTS[0]]), atol=1e-6)
    assert found.dtype == np.float32 and (found[0] == found[4]).all()
    assert encoder(folder).encode_docs([]).vectors.shape == (0, 32)


def test_a_registered_model_is_loaded_from_disk_with_the_prompts_of_its_loader(folder, registered):
    model = encoder(registered("intfloat/e5-small-v2"))
    queries, docs = model.encode_queries(["otter"]).vectors, model.encode_docs(["otter"]).vectors
    np.testing.assert_allclose(queries, plain(folder, ["query: otter"]), atol=1e-6)
    np.testing.assert_allclose(docs, plain(folder, ["passage: otter"]), atol=1e-6)
    about = model.contract()
    assert (about["prompt"], about["queries"]["prompt"], about["revision"]) == ("passage: ", "query: ", None)


def test_an_instruction_is_the_tasks_own_or_that_of_any_retrieval(folder, registered):
    model = registered("intfloat/multilingual-e5-large-instruct")  # which MTEB loads in float16
    asked = "Instruct: Retrieve text based on user query.\nQuery: "
    assert encoder(model).contract()["queries"]["prompt"] == asked
    named = encoder(model, task="SciFact").contract()["queries"]["prompt"]
    assert named == f"Instruct: {mteb.get_task('SciFact').metadata.prompt['query']}\nQuery: "
    found = encoder(model, task="SciFact").encode_queries(["otter"]).vectors
    np.testing.assert_allclose(found, plain(folder, [f"{named}otter"], "float16"), atol=1e-3)
    assert encoder(model).contract()["prompt"] is None


def test_prompts_are_chosen_by_the_type_of_the_task(folder):
    prompts = {"Retrieval-query": "find the ", "query": "ask ", "document": "read ", "STS": "small "}
    chosen = {task: encoder(folder, prompts=prompts, task=task).contract() for task in (None, "STS12")}
    sides = {task: (about["queries"]["prompt"], about["prompt"]) for task, about in chosen.items()}
    assert sides == {None: ("find the ", "read "), "STS12": ("small ", "small ")}
    found = encoder(folder, prompts=prompts).encode_queries(["otter"]).vectors
    np.testing.assert_allclose(found, plain(folder, ["find the otter"]), atol=1e-6)


def test_prompts_replace_those_of_a_registered_model(folder, registered):
    prompts = {"query": "find the ", "document": ""}
    found = encoder(registered("intfloat/e5-small-v2"), prompts=prompts).encode_queries(["otter"]).vectors
    np.testing.assert_allclose(found, plain(folder, ["find the otter"]), atol=1e-6)


def test_the_contract_says_all_that_determines_the_output(folder):
    about = encoder(folder).contract()
    assert json.loads(json.dumps(about)) == about == encoder(folder).contract()
    changes = [{"task": "STS12"}, {"prompts": {"query": "a", "document": ""}}, {"batch_size": 3}]
    contracts = [encoder(folder, **change).contract() for change in changes]
    assert len({json.dumps(one) for one in [about, *contracts]}) == len(changes) + 1
    assert about["similarity"] == "cosine" and about["dimensions"] == 32 and about["versions"]["mteb"]


def test_texts_that_are_cut_are_counted_with_their_prompt(folder):
    texts = ["otter", "otter " * 30, "otter otter"]
    assert encoder(folder).encode_docs(texts).truncated == 1
    longer = {"document": "a small otter was seen above the quiet library ", "query": ""}
    assert encoder(folder, prompts=longer).encode_docs(texts).truncated == 2


def test_a_recipe_has_the_ndcg_that_mteb_gives_the_model(folder, tmp_path):
    documents = [(f"d{i}", "", text) for i, text in enumerate(TEXTS[:120])]
    judged = {f"q{i}": {f"d{i}": 1, f"d{i + 40}": 1} for i in range(0, 40, 3)}
    write_collection(tmp_path / "toy", documents, {q: TEXTS[int(q[1:])][:20] for q in judged}, {"test": judged})
    recipe = {
        "dataset": {"type": "folder", "path": str(tmp_path / "toy")},
        "retriever": {"type": "dense", "encoder": {"type": "mteb", "model": str(folder)}, "index": "flat"},
        "measures": ["nDCG@10"],
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    ours = run(search, [str(tmp_path / "recipe.yaml"), f"out={tmp_path / 'out'}"])["dense"]["mean"]["nDCG@10"]
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    task = task_of(Collection(tmp_path / "toy"))
    theirs = mteb.evaluate(model, task, cache=None, show_progress_bar=False).task_results[0].get_score()
    assert 0 < theirs == round(ours, 5)


def test_a_model_that_is_not_on_disk_is_said_to_be_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("RETRIEVAL_DATA", str(tmp_path))
    message = (
        "model 'intfloat/e5-small-v2' is not on disk and could not be downloaded .*; put its files at .*config.json"
    )
    with pytest.raises(FileNotFoundError, match=message):
        encoder("intfloat/e5-small-v2").encode_docs(["otter"])


def test_a_revision_of_a_model_on_disk_is_refused(folder):
    with pytest.raises(ValueError, match="revision 'main' is one of the hub's"):
        encoder(folder, revision="main").encode_docs(["otter"])


def test_an_unknown_task_is_refused_with_the_nearest(folder):
    with pytest.raises(ValueError, match="MTEB has no task 'scifacts'; the nearest are SciFact"):
        encoder(folder, task="scifacts").contract()


def test_code_that_comes_with_a_model_is_not_run_even_where_the_registry_would(folder, registered, tmp_path):
    name = registered("nomic-ai/nomic-embed-text-v1.5")
    assert mteb.get_model_meta(name).loader_kwargs["trust_remote_code"]
    path = tmp_path / name / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "m", "auto_map": {"AutoModel": "m.M"}}))
    (tmp_path / name / "m.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    with pytest.raises(ValueError, match=r"comes with code of its own \(m.M\): trust_remote_code: true runs it"):
        encoder(name).encode_docs(["otter"])
    assert not list(tmp_path.rglob("ran"))


def test_a_similarity_that_no_index_computes_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "far")
    path = tmp_path / "far" / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"similarity_fn_name": "euclidean"}))
    with pytest.raises(ValueError, match="is compared by euclidean, and indexes compute inner products and cosines"):
        encoder(tmp_path / "far").contract()


def test_prompts_of_a_loader_that_takes_none_are_refused(registered):
    from mteb.models.model_implementations import MODEL_REGISTRY

    def takes_none(loader):
        import inspect

        return not {"model_prompts", "prompts_dict"} & {*inspect.signature(loader).parameters}

    name = next(n for n, m in MODEL_REGISTRY.items() if m.loader and "/" in n and takes_none(m.loader))
    with pytest.raises(ValueError, match="takes none; leave them out"):
        encoder(registered(name), prompts={"query": "a"}).encode_docs(["otter"])


def test_a_batch_of_nothing_is_refused(folder):
    with pytest.raises(ValueError, match="batch_size is 0: a batch holds at least 1 text"):
        encoder(folder, batch_size=0)


def test_without_the_package_the_error_says_what_installs_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -c requirements.txt -e '.\[mteb\]'"):
        encoder(folder).encode_docs(["otter"])
