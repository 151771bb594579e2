"""The sentence-transformers adapter: vectors, prompts, modules, and what it refuses to load."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from retrieval.encoders.sentence_transformers import SentenceTransformers
from retrieval.encoders.transformer import Transformer
from retrieval.model_files import MINILM, find_model
from tests.conftest import TEXTS

SAMPLE = [*TEXTS[:6], "otter", TEXTS[0], ""]


def encoder(folder, **settings):
    return SentenceTransformers(str(folder), dtype="float32", device="cpu", **settings)


@pytest.fixture(scope="module")
def with_dense(tiny_model, tmp_path_factory) -> Path:
    """A model with a Dense module of 24 dimensions after mean pooling, and prompts."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    torch.manual_seed(1)
    base = Transformer(str(tiny_model), max_seq_length=12)
    modules = [base, Pooling(32, "mean"), Dense(32, 24)]
    prompts = {"query": "find the ", "document": "", "other": "small "}
    folder = tmp_path_factory.mktemp("models") / "dense"
    SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="module")
def routed(tiny_model, tmp_path_factory) -> Path:
    """A model whose queries take another route: a table of token vectors."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model).backend_tokenizer
    table = StaticEmbedding(tokenizer, embedding_dim=32)
    router = Router.for_query_document([table], [Transformer(str(tiny_model)), Pooling(32, "mean")])
    folder = tmp_path_factory.mktemp("models") / "routed"
    SentenceTransformer(modules=[router], device="cpu").save(str(folder))
    return folder


def test_minilm_gives_the_vectors_of_our_own_encoder():
    found = encoder(MINILM).encode_docs(TEXTS[:24])
    np.testing.assert_allclose(found.vectors, Transformer(dtype="float32").encode_docs(TEXTS[:24]).vectors, atol=1e-5)
    assert found.vectors.dtype == np.float32 and not found.truncated


def test_a_dense_module_is_run_as_our_own_encoder_runs_it(with_dense):
    ours, found = Transformer(str(with_dense), dtype="float32"), encoder(with_dense, batch_size=2)
    np.testing.assert_allclose(found.encode_docs(SAMPLE).vectors, ours.encode_docs(SAMPLE).vectors, atol=1e-5)
    np.testing.assert_allclose(found.encode_queries(SAMPLE).vectors, ours.encode_queries(SAMPLE).vectors, atol=1e-5)
    assert found.contract()["modules"] == ["Transformer", "Pooling", "Dense"]
    assert found.contract()["dimensions"] == 24


def test_each_side_takes_its_route(routed):
    from sentence_transformers import SentenceTransformer

    theirs, ours = SentenceTransformer(str(routed), device="cpu"), encoder(routed)
    np.testing.assert_allclose(ours.encode_queries(TEXTS[:4]).vectors, theirs.encode_query(TEXTS[:4]), atol=1e-6)
    np.testing.assert_allclose(ours.encode_docs(TEXTS[:4]).vectors, theirs.encode_document(TEXTS[:4]), atol=1e-6)
    assert not np.allclose(ours.encode_queries(TEXTS[:4]).vectors, ours.encode_docs(TEXTS[:4]).vectors, atol=0.01)


def test_prompts_are_the_folders_or_a_text_or_a_name(with_dense):
    plain = encoder(with_dense, query_prompt="").encode_queries(["find the otter", "small otter"]).vectors
    folders = encoder(with_dense).encode_queries(["otter"]).vectors
    np.testing.assert_allclose(folders[0], plain[0], atol=1e-6)
    for settings in ({"query_prompt": "small "}, {"query_prompt_name": "other"}):
        np.testing.assert_allclose(
            encoder(with_dense, **settings).encode_queries(["otter"]).vectors[0], plain[1], atol=1e-6
        )
    named = encoder(with_dense, doc_prompt_name="other").encode_docs(["otter"]).vectors
    np.testing.assert_allclose(named[0], plain[1], atol=1e-6)


def test_a_prompt_that_the_model_has_not_and_two_prompts_are_refused(with_dense):
    with pytest.raises(ValueError, match="has no prompt 'ask', only query, document, other"):
        encoder(with_dense, query_prompt_name="ask").encode_queries(["otter"])
    with pytest.raises(ValueError, match="doc_prompt and doc_prompt_name are both given"):
        encoder(with_dense, doc_prompt="", doc_prompt_name="other")


def test_vectors_are_cut_before_they_are_normalised(with_dense):
    whole = encoder(with_dense).encode_docs(SAMPLE).vectors[:, :5]
    found = encoder(with_dense, dimensions=5, normalize=True)
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(found.encode_docs(SAMPLE).vectors, expected, atol=1e-5)
    assert found.contract()["dimensions"] == 5
    with pytest.raises(ValueError, match="dimensions is 25, and the vectors of .* have 24"):
        encoder(with_dense, dimensions=25).encode_docs(["otter"])


def test_equal_texts_have_equal_vectors_and_no_texts_none(with_dense):
    found = encoder(with_dense, batch_size=2).encode_docs(SAMPLE).vectors
    assert (found[0] == found[SAMPLE.index(TEXTS[0], 1)]).all()
    assert encoder(with_dense).encode_docs([]).vectors.shape == (0, 24)


def test_texts_that_are_cut_are_counted(with_dense):
    texts = ["otter", "otter " * 30, "comet", "otter " * 30]
    assert encoder(with_dense).encode_docs(texts).truncated == 2
    assert encoder(with_dense, max_length=4).contract()["max_seq_length"] == 4
    assert encoder(with_dense, max_length=32).encode_docs(texts).truncated == 0


def test_the_contract_says_all_that_determines_the_output(with_dense):
    about = encoder(with_dense).contract()
    assert json.loads(json.dumps(about)) == about and about["version"]
    changes = [{"max_length": 9}, {"normalize": True}, {"dimensions": 9}, {"doc_prompt": "x"}, {"query_prompt": "x"}]
    contracts = [encoder(with_dense, **change).contract() for change in changes]
    assert len({json.dumps(one) for one in [about, *contracts]}) == len(changes) + 1
    assert {**contracts[-1], "queries": 0} == {**about, "queries": 0}  # documents need not be encoded again


def test_another_setting_in_a_modules_file_is_another_contract(with_dense, tmp_path):
    shutil.copytree(with_dense, tmp_path / "model")
    path = next((tmp_path / "model").glob("*Pooling/config.json"))
    path.write_text(path.read_text() + "\n")
    mine, other = encoder(with_dense).contract(), encoder(tmp_path / "model").contract()
    assert mine["weights"] == other["weights"] and mine["files"] != other["files"]


def test_pickled_weights_are_refused_in_any_module(with_dense, tmp_path):
    shutil.copytree(with_dense, tmp_path / "model")
    path = next((tmp_path / "model").glob("*Dense/model.safetensors"))
    path.rename(path.with_name("pytorch_model.bin"))
    with pytest.raises(FileNotFoundError, match="Dense/pytorch_model.bin is a pickle, which is never loaded: convert"):
        encoder(tmp_path / "model").encode_docs(["otter"])
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="only pytorch_model.bin, a pickle, which is never loaded"):
        encoder(tmp_path / "model").encode_docs(["otter"])


OWN = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from sentence_transformers.sentence_transformer.modules import Normalize
class Mine(Normalize):
    pass
"""


@pytest.fixture
def with_code(with_dense, tmp_path, monkeypatch) -> Path:
    """A model with a module of its own."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    shutil.copytree(with_dense, tmp_path / "model")
    path = tmp_path / "model" / "modules.json"
    mine = {"idx": 3, "name": "3", "path": "", "type": "mine.Mine"}
    path.write_text(json.dumps([*json.loads(path.read_text()), mine]))
    (tmp_path / "model" / "mine.py").write_text(OWN)
    return tmp_path / "model"


def test_code_that_comes_with_a_model_is_not_run_unless_asked(with_code, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ValueError, match=r"comes with code of its own \(mine.Mine\): trust_remote_code: true runs it"):
        encoder(with_code).encode_docs(["otter"])
    assert not list(tmp_path.rglob("ran"))
    found = encoder(with_code, trust_remote_code=True)
    np.testing.assert_allclose(np.linalg.norm(found.encode_docs(["otter"]).vectors, axis=1), 1, atol=1e-6)
    assert found.contract()["modules"][-1] == "Mine" and list(tmp_path.rglob("ran"))


def test_code_that_a_config_names_is_not_run_unless_asked(with_dense, tmp_path):
    shutil.copytree(with_dense, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    about = json.loads(path.read_text()) | {"model_type": "mine", "auto_map": {"AutoModel": "mine.Model"}}
    path.write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"comes with code of its own \(mine.Model\)"):
        encoder(tmp_path / "model").encode_docs(["otter"])


def test_without_the_package_the_error_says_what_installs_it(with_dense, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModuleNotFoundError, match="pip install 'sentence-transformers>=5.2'"):
        encoder(with_dense).encode_docs(["otter"])


def test_a_model_that_is_nowhere_is_said_to_be_missing():
    with pytest.raises(FileNotFoundError, match="model 'nobody/nothing' is not on disk and could not be downloaded"):
        encoder("nobody/nothing").encode_docs(["otter"])


def test_a_revision_of_a_model_on_disk_is_refused(with_dense):
    with pytest.raises(ValueError, match="revision 'main' is one of the hub's"):
        encoder(with_dense, revision="main").encode_docs(["otter"])


def test_a_model_that_gives_nan_is_refused_with_the_text(with_dense, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(with_dense, tmp_path / "model")
    path = next((tmp_path / "model").glob("*Dense/model.safetensors"))
    save_file({name: value * float("nan") for name, value in load_file(path).items()}, path)
    with pytest.raises(ValueError, match="gives NaN or infinity for 'otter'"):
        encoder(tmp_path / "model").encode_docs(["otter"])


def test_the_folder_is_that_of_the_model():
    assert encoder(MINILM).folder == find_model(MINILM)
