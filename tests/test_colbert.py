"""ColBERT: raw transformers states projected by hand, MaxSim, augmentation, punctuation, both formats of a folder."""

from __future__ import annotations

import functools
import json
import shutil
import string

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, BertModel

from retrieval.cli import run
from retrieval.corpus import Corpus, Document
from retrieval.encoders.colbert import ColBERT
from retrieval.indexes.late import Late
from retrieval.indexes.late_compressed import LateCompressed
from retrieval.retrievers.dense import DenseRetriever
from retrieval.search import search
from retrieval.types import Queries
from tests.conftest import TEXTS, tiny_bert, wordpiece

DOCS = [f"{text}, it is said." for text in TEXTS[:30]] + ["", "otter", "otter!", TEXTS[0] * 9, "otter"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT of two layers with a projection to 8 dimensions in ColBERT's own format."""
    folder = tmp_path_factory.mktemp("colbert") / "own"
    special = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = wordpiece([*TEXTS, *".,!"], 220, 64, special_tokens=special)
    torch.manual_seed(0)
    BertModel(tiny_bert(tokenizer, initializer_range=0.3)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    save_file({**weights, "linear.weight": torch.randn(8, 32)}, folder / "model.safetensors", {"format": "pt"})
    about = {"query_maxlen": 16, "doc_maxlen": 40, "mask_punctuation": True, "attend_to_mask_tokens": False}
    (folder / "artifact.metadata").write_text(json.dumps(about))
    return folder


def colbert(folder, **settings):
    return ColBERT(str(folder), dtype="float32", **settings)


@functools.cache
def loaded(folder):
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float64).eval()


@functools.cache
def by_hand(folder, text, marker, length, augmented=0, attend=False, skip=()):
    """One text on its own, float64: [CLS] marker tokens [SEP], [MASK] up to `augmented`; projected, of length 1."""
    tokenizer, model = loaded(folder)
    words = tokenizer.tokenize(text)[: length - 3]
    tokens = ["[CLS]", marker, *words, "[SEP]"]
    mask = [1] * len(tokens) + [int(attend)] * max(0, augmented - len(tokens))
    tokens += ["[MASK]"] * max(0, augmented - len(tokens))
    with torch.inference_mode():
        ids = torch.tensor([tokenizer.convert_tokens_to_ids(tokens)])
        states = model(input_ids=ids, attention_mask=torch.tensor([mask])).last_hidden_state[0]
        weight = load_file(folder / "model.safetensors")["linear.weight"].double()
        vectors = torch.nn.functional.normalize(states @ weight.T, dim=1).numpy()
    return vectors[[token not in skip for token in tokens]]


def texts_of(tokens):
    return [tokens.vectors[a:b] for a, b in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)]


@pytest.mark.parametrize("batch_tokens", [None, 1, 100])
def test_document_vectors_are_the_projected_states_without_punctuation_in_any_batch(folder, batch_tokens):
    found = colbert(folder, batch_tokens=batch_tokens).encode_docs(DOCS)
    assert found.vectors.dtype == np.float32 and found.offsets.dtype == np.int64 and found.vectors.shape[1] == 8
    for text, vectors in zip(DOCS, texts_of(found), strict=True):
        expected = by_hand(folder, text, "[unused1]", 40, skip=string.punctuation) if text else np.empty((0, 8))
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.parametrize("attend", [False, True])
def test_queries_are_augmented_to_exactly_their_length(folder, attend):
    queries = ["otter", TEXTS[3], TEXTS[0] * 5]
    found = colbert(folder, attend_to_augmentation=attend).encode_queries(queries)
    assert np.diff(found.offsets).tolist() == [16, 16, 16]
    for text, vectors in zip(queries, texts_of(found), strict=True):
        np.testing.assert_allclose(vectors, by_hand(folder, text, "[unused0]", 16, 16, attend), atol=1e-5)


def test_attending_to_the_augmentation_changes_the_vectors(folder):
    first, second = (colbert(folder, attend_to_augmentation=a).encode_queries(["otter"]).vectors for a in (False, True))
    assert np.abs(first - second).max() > 1e-3


def test_queries_that_are_not_augmented_have_a_vector_per_token_of_their_own(folder):
    found = colbert(folder, augment=False).encode_queries(["otter, comet", "otter"])
    for text, vectors in zip(["otter, comet", "otter"], texts_of(found), strict=True):
        np.testing.assert_allclose(vectors, by_hand(folder, text, "[unused0]", 16), atol=1e-5)


def test_maxsim_is_that_of_the_raw_states(folder):
    encoder = colbert(folder)
    query, docs = encoder.encode_queries([TEXTS[5]]).vectors, texts_of(encoder.encode_docs(DOCS[:9]))
    raw = by_hand(folder, TEXTS[5], "[unused0]", 16, 16)
    for text, vectors in zip(DOCS, docs, strict=False):
        of_text = by_hand(folder, text, "[unused1]", 40, skip=string.punctuation)
        expected = sum(max(float(token @ other) for other in of_text) for token in raw)
        assert (query @ vectors.T).max(1).sum() == pytest.approx(expected, abs=1e-4)


def test_punctuation_has_vectors_where_it_is_not_skipped(folder):
    kept = colbert(folder, skip_punctuation=False).encode_docs(["otter, comet!"])
    skipped = colbert(folder).encode_docs(["otter, comet!"])
    np.testing.assert_allclose(kept.vectors, by_hand(folder, "otter, comet!", "[unused1]", 40), atol=1e-5)
    assert len(kept.vectors) == len(skipped.vectors) + 2


def test_a_text_without_tokens_has_no_vectors(folder):
    encoder = colbert(folder)
    assert encoder.encode_docs(["", "  ", "otter"]).offsets.tolist()[:3] == [0, 0, 0]
    assert encoder.encode_queries(["", "otter"]).offsets.tolist() == [0, 0, 16]
    for nothing in (encoder.encode_docs([]), encoder.encode_queries([])):
        assert nothing.vectors.shape == (0, 8) and nothing.offsets.tolist() == [0]


def test_texts_that_are_cut_are_counted(folder):
    assert colbert(folder).encode_docs(DOCS).truncated == 1
    assert colbert(folder, doc_length=5).encode_docs(["otter", "the otter on the comet", ""]).truncated == 1
    assert np.diff(colbert(folder, doc_length=5).encode_docs(["the otter on the comet"]).offsets) == [5]


def test_documents_in_chunks_have_the_vectors_of_all_at_once(folder):
    whole = colbert(folder, batch_tokens=1).encode_docs(DOCS)
    parts = list(colbert(folder, batch_tokens=1).encode_chunks([DOCS[:7], DOCS[7:30], DOCS[30:]]))
    np.testing.assert_allclose(np.concatenate([part.vectors for part in parts]), whole.vectors, atol=1e-5)
    assert [len(part) for part in parts] == [7, 23, 5]
    assert sum(part.truncated for part in parts) == whole.truncated


@pytest.mark.parametrize("index", [Late(), LateCompressed(probes=10_000)])
def test_a_retriever_ranks_a_corpus_by_the_maxsim_of_its_token_vectors(folder, tmp_path, index):
    corpus = Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(DOCS)), tmp_path / "corpus")
    encoder, queries = colbert(folder), Queries(["q1", "q2", "q3"], [TEXTS[4], "the otter", ""])
    retriever = DenseRetriever(encoder, index)
    retriever.open(corpus, tmp_path / "cache")
    run = retriever.retrieve(queries, 9)
    query, docs = encoder.encode_queries(queries.texts[:1]).vectors, texts_of(encoder.encode_docs(DOCS))
    scores = np.array([(query @ doc.T).max(axis=1).sum() if len(doc) else -np.inf for doc in docs])
    if isinstance(index, Late):
        np.testing.assert_allclose(scores[run.rows[0]], np.sort(scores)[::-1][:9], atol=1e-5)
        np.testing.assert_allclose(run.scores[0], np.sort(scores)[::-1][:9], atol=1e-5)
    assert (run.rows[:2] != DOCS.index("")).all() and (run.rows[2] == -1).all()
    assert retriever.provenance()["index"]["queries without vectors"] == 1


def test_equal_texts_have_equal_vectors(folder):
    found = texts_of(colbert(folder).encode_docs(DOCS))
    np.testing.assert_array_equal(found[DOCS.index("otter")], found[-1])


@pytest.fixture
def pylate(folder, tmp_path):
    """The same model in PyLate's format, with a marker of its own and an own list of words to skip."""
    copy = tmp_path / "pylate"
    shutil.copytree(folder, copy)
    (copy / "artifact.metadata").unlink()
    weights = load_file(copy / "model.safetensors")
    (copy / "1_Dense").mkdir()
    save_file({"linear.weight": weights.pop("linear.weight")}, copy / "1_Dense" / "model.safetensors")
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    dense = {"in_features": 32, "out_features": 8, "bias": False}
    dense["activation_function"] = "torch.nn.modules.linear.Identity"
    (copy / "1_Dense" / "config.json").write_text(json.dumps(dense))
    types = [("", "sentence_transformers.models.Transformer"), ("1_Dense", "pylate.models.Dense.Dense")]
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(types)]
    (copy / "modules.json").write_text(json.dumps(modules))
    about = {"query_prefix": "[unused1]", "document_prefix": "[unused0]", "query_length": 10, "document_length": 20}
    about |= {"do_query_expansion": False, "attend_to_expansion_tokens": False, "skiplist_words": ["!"]}
    (copy / "config_sentence_transformers.json").write_text(json.dumps(about))
    return copy


def test_a_folder_of_pylate_is_read_with_its_settings(folder, pylate):
    encoder = colbert(pylate)
    docs, queries = encoder.encode_docs(["otter, comet!"]), encoder.encode_queries([TEXTS[0] * 3])
    np.testing.assert_allclose(docs.vectors, by_hand(folder, "otter, comet!", "[unused0]", 20, skip="!"), atol=1e-5)
    np.testing.assert_allclose(queries.vectors, by_hand(folder, TEXTS[0] * 3, "[unused1]", 10), atol=1e-5)


def test_the_contract_names_the_width_and_keeps_what_only_queries_depend_on_apart(folder):
    about = dict(colbert(folder).contract())
    assert about["token_dimensions"] == 8 and about["doc_length"] == 40 and "," in about["skipped"]
    other = dict(colbert(folder, query_length=20, augment=False).contract())
    assert about.pop("queries") != other.pop("queries") and about == other
    assert json.loads(json.dumps(about)) == about
    assert colbert(folder, skip_punctuation=False).contract()["skipped"] == []


def test_a_folder_without_a_projection_is_refused(tiny_model):
    with pytest.raises(ValueError, match="no linear.weight among its weights and no Dense module"):
        colbert(tiny_model, query_marker="", doc_marker="", doc_length=20).encode_docs(["otter"])


def test_pickled_weights_are_not_loaded(folder, tmp_path):
    copy = tmp_path / "pickled"
    shutil.copytree(folder, copy)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="a pickle, which is never loaded"):
        colbert(copy).encode_docs(["otter"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"doc_marker": "[D]"}, r"marker '\[D\]' is no token"),
        ({"doc_length": 90}, "more than the 64 tokens"),
        ({"query_length": 3}, "are 4 at least"),
        ({"augment": False, "attend_to_augmentation": True}, "needs augment"),
        ({"sha256": "0" * 64}, "expected 000"),
        ({"revision": "main"}, "leave it out"),
    ],
)
def test_what_cannot_be_is_refused(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        colbert(folder, **settings).encode_docs(["otter"])


def test_nan_is_refused_with_its_text(folder, tmp_path):
    copy = tmp_path / "broken"
    shutil.copytree(folder, copy)
    weights = load_file(copy / "model.safetensors")
    weights["linear.weight"][0, 0] = float("nan")
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="gives NaN or infinity for 'otter'"):
        colbert(copy).encode_docs(["otter"])


@pytest.mark.parametrize("index", ["late", "{type: late_compressed, centroids: 32}"])
def test_a_recipe_searches_and_its_manifest_tells_what_the_index_was(folder, tmp_path, index):
    text = (
        "dataset: {type: generated_limit, documents: 8, queries: 28, distractors: 40, items: 8}\n"
        f"retriever: {{type: dense, encoder: {{type: colbert, model: {folder}, dtype: float32}}, index: {index}}}\n"
    )
    (tmp_path / "recipe.yaml").write_text(text)
    run(search, [str(tmp_path / "recipe.yaml"), f"out={tmp_path / 'out'}"])
    about = json.loads((tmp_path / "out" / "manifest.json").read_text())["made_of"]["retriever"]
    assert about["index"]["index"] in index and about["index"]["queries without vectors"] == 0
