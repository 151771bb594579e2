"""Our encoders and retrievers evaluated by mteb itself, on a task that lies on disk."""

from __future__ import annotations

import sys

import mteb
import numpy as np
import pytest
from mteb.models.models_protocols import EncoderProtocol, SearchProtocol

from eval import evaluate
from eval.mteb_model import MtebEncoder, MtebRetriever, model_meta
from retrieval.collection import Collection, write_collection
from retrieval.encoders.transformer import Transformer
from retrieval.indexes.flat import Flat
from retrieval.indexes.inverted import Inverted
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.dense import DenseRetriever
from retrieval.search import ranked
from tests.conftest import TEXTS
from tests.mteb_toy import task_of


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """400 documents with titles, graded judgements, a query whose id is a document's."""
    folder = tmp_path_factory.mktemp("toy") / "toy"
    documents = [(f"d{i}", text.split()[1], text) for i, text in enumerate(TEXTS)]
    words = ("otter harbour", "comet library", "violin Norway", "volcano kitchen aunt", "teapot Mars", "wild otter")
    queries = {f"d{i}" if i == 5 else f"q{i}": text for i, text in enumerate(words)}
    judged = {q: {d: 2 - n % 2 for n, d in enumerate(_holding(text, documents))} for q, text in queries.items()}
    write_collection(folder, documents, queries, {"test": judged})
    return Collection(folder)


def _holding(text, documents):
    return [d for d, _, body in documents if sum(word in body for word in text.split()) == len(text.split())][:9]


def encoder(tiny_model):
    return Transformer(model=str(tiny_model), pooling="mean", dtype="float32", device="cpu")


def by_mteb(model, task, **settings):
    found = mteb.evaluate(model, task, cache=None, show_progress_bar=False, **settings)
    return found.task_results[0].scores["test"][0]


def test_an_encoder_has_the_ndcg_that_we_give_it(toy, tiny_model):
    model = encoder(tiny_model)
    theirs = by_mteb(MtebEncoder(model, "toy/tiny"), task_of(toy))
    ours = evaluate(ranked(toy, DenseRetriever(model, Flat()), "test", 1000), toy.qrels("test"), ["nDCG@10", "R@100"])
    assert 0 < theirs["ndcg_at_10"] == round(ours.mean["nDCG@10"], 5)
    assert theirs["recall_at_100"] == round(ours.mean["R@100"], 5)


def test_bm25_has_the_ndcg_that_we_give_it(toy):
    theirs = by_mteb(MtebRetriever(BM25(), "toy/bm25", "1"), task_of(toy))
    ours = evaluate(ranked(toy, BM25(), "test", 1000), toy.qrels("test"), ["nDCG@10", "AP@100", "P@5", "RR@10"])
    assert 0 < theirs["ndcg_at_10"] == round(ours.mean["nDCG@10"], 5)
    assert theirs["map_at_100"] == round(ours.mean["AP@100"], 5)
    assert theirs["precision_at_5"] == round(ours.mean["P@5"], 5)
    assert theirs["mrr_at_10"] == pytest.approx(ours.mean["RR@10"], abs=1e-12)


def test_an_encoder_and_a_retriever_with_it_are_the_same_to_mteb(toy, tiny_model):
    model = encoder(tiny_model)
    one = by_mteb(MtebEncoder(model, "toy/tiny"), task_of(toy))
    other = by_mteb(MtebRetriever(DenseRetriever(model, Flat()), "toy/tiny", "1"), task_of(toy))
    assert one["ndcg_at_10"] == other["ndcg_at_10"]


def test_both_are_what_mteb_asks_for(tiny_model):
    assert isinstance(MtebEncoder(encoder(tiny_model), "toy/tiny"), EncoderProtocol)
    assert isinstance(MtebRetriever(BM25(), "toy/bm25", "1"), SearchProtocol)


def test_cosines_are_those_of_the_vectors(tiny_model):
    model = MtebEncoder(encoder(tiny_model), "toy/tiny", metric="cosine")
    a, b = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32), np.array([[0.0, 2.0], [5.0, 0.0]], np.float32)
    np.testing.assert_allclose(model.similarity(a, b), [[0.8, 0.6], [0.0, 1.0]], atol=1e-6)
    np.testing.assert_allclose(model.similarity_pairwise(a, b), [0.8, 1.0], atol=1e-6)
    np.testing.assert_allclose(MtebEncoder(encoder(tiny_model), "toy/tiny").similarity(a, b), [[8, 15], [0, 5]])


def test_candidates_are_all_that_is_ranked_where_a_task_gives_them(toy):
    task = task_of(toy, type="Reranking")
    task.load_data()
    given = {q: [f"d{i}" for i in range(0, 400, 7)] for q in task.dataset["default"]["test"]["queries"]["id"]}
    task.dataset["default"]["test"]["top_ranked"] = given
    found = by_mteb(MtebRetriever(BM25(), "toy/bm25", "1"), task)
    run = ranked(toy, BM25(), "test", 400).to_dict()
    kept = {q: [d for d in docs if d in given[q]] for q, docs in run.items()}
    judged = toy.qrels("test").to_dict()
    expected = np.mean([len({*kept[q][:5]} & {*judged[q]}) / 5 for q in judged])
    assert found["precision_at_5"] == round(expected, 5)


def test_titles_are_fields_of_their_own(toy, tmp_path):
    retriever = BM25(fields={"title": 1.0, "text": 1.0})
    theirs = by_mteb(MtebRetriever(retriever, "toy/fields", "1"), task_of(toy))
    ours = evaluate(ranked(toy, retriever, "test", 1000), toy.qrels("test"), ["nDCG@10"])
    assert theirs["ndcg_at_10"] == round(ours.mean["nDCG@10"], 5)


def test_the_revision_of_an_encoder_follows_its_weights_and_settings(tiny_model):
    one, same = (MtebEncoder(encoder(tiny_model), "toy/tiny").mteb_model_meta.revision for _ in range(2))
    other = Transformer(model=str(tiny_model), pooling="cls", dtype="float32", device="cpu")
    assert one == same != MtebEncoder(other, "toy/tiny").mteb_model_meta.revision
    assert MtebEncoder(other, "toy/tiny", "mine").mteb_model_meta.revision == "mine"


def test_a_task_without_sides_asks_which_it_is(tiny_model):
    task = task_of(None, type="STS", main_score="cosine_spearman").metadata
    inputs, where = [{"text": ["otter", "comet"]}], {"hf_split": "test", "hf_subset": "default"}
    with pytest.raises(ValueError, match="neither queries nor documents: give unsided='queries' or unsided='docs'"):
        MtebEncoder(encoder(tiny_model), "toy/tiny").encode(inputs, task_metadata=task, **where)
    model = MtebEncoder(encoder(tiny_model), "toy/tiny", unsided="docs")
    found = model.encode(inputs, task_metadata=task, **where)
    np.testing.assert_array_equal(found, encoder(tiny_model).encode_docs(["otter", "comet"]).vectors)


def test_an_encoder_of_several_vectors_is_sent_to_the_retriever(tiny_mlm):
    from retrieval.encoders.splade import Splade

    model = Splade(model=str(tiny_mlm), device="cpu", dtype="float32")
    with pytest.raises(ValueError, match="makes no single vectors: give MtebRetriever a retriever"):
        MtebEncoder(model, "toy/splade")


def test_a_sparse_encoder_is_evaluated_as_a_retriever(toy, tiny_mlm):
    from retrieval.encoders.splade import Splade
    from retrieval.retrievers.sparse import SparseRetriever

    retriever = SparseRetriever(Splade(model=str(tiny_mlm), device="cpu", dtype="float32"), Inverted())
    theirs = by_mteb(MtebRetriever(retriever, "toy/splade", "1"), task_of(toy))
    ours = evaluate(ranked(toy, retriever, "test", 1000), toy.qrels("test"), ["nDCG@10"])
    assert theirs["ndcg_at_10"] == round(ours.mean["nDCG@10"], 5)


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("tiny", "1", "MTEB names a model ORGANISATION/MODEL, not 'tiny'"),
        ("a/b/c", "1", "not 'a/b/c'"),
        ("toy/tiny", "", "MTEB keeps the results of toy/tiny by revision: give one"),
    ],
)
def test_a_name_or_revision_that_mteb_cannot_keep_is_refused(name, revision, message):
    with pytest.raises(ValueError, match=message):
        model_meta(name, revision)


def test_without_the_package_the_error_says_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -c requirements.txt -e '.\[mteb\]'"):
        model_meta("toy/tiny", "1")
