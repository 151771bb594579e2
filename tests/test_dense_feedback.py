"""Vector feedback end to end: checked by brute force, over any store, and what is said where there are no vectors."""

from __future__ import annotations

import numpy as np
import pytest

from prf.average import Average
from prf.colbert_prf import ColBERTPRF
from prf.vector_rocchio import VectorRocchio
from retrieval.corpus import Corpus, Document
from retrieval.encoders.promptreps import PromptReps
from retrieval.encoders.transformer import Transformer
from retrieval.indexes.flat import Flat
from retrieval.indexes.quantised import Quantised
from retrieval.retrievers.bm25 import BM25
from retrieval.retrievers.dense import DenseRetriever
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.types import Queries
from tests.conftest import TEXTS

DOCUMENTS = [*TEXTS[::9], ""]
ASKED = Queries(["a", "b", "c"], ["the old comet", "a quiet violin in Norway", "the of"])


@pytest.fixture
def opened(tmp_path):
    corpus = Corpus.build((Document(f"d{i:02}", "", text) for i, text in enumerate(DOCUMENTS)), tmp_path / "corpus")

    def make(retriever):
        retriever.open(corpus, tmp_path)
        return retriever

    return make


def mean(query, documents):
    return np.vstack([[query], documents]).mean(0)


def rocchio(query, documents):
    return 0.4 * query + 0.6 * documents.mean(0)


@pytest.mark.parametrize(
    ("model", "formula"), [(Average(3), mean), (VectorRocchio(fb_docs=3), rocchio), (Average(0), lambda q, _: q)]
)
def test_two_passes_over_minilm_are_as_numpy_has_them(opened, model, formula):
    encoder = Transformer(dtype="float32")
    found = opened(FeedbackRetriever(DenseRetriever(encoder, Flat()), model, depth=10)).retrieve(ASKED, len(DOCUMENTS))
    documents = encoder.encode_docs(DOCUMENTS).vectors.astype(float)
    for place, query in enumerate(encoder.encode_queries(ASKED.texts).vectors.astype(float)):
        first = np.argsort(-(documents @ query), kind="stable")[:3]
        scores = documents @ formula(query, documents[first])
        np.testing.assert_allclose(found.scores[place], np.sort(scores)[::-1], atol=1e-5)
        np.testing.assert_allclose(scores[found.rows[place]], found.scores[place], atol=1e-5)


@pytest.mark.parametrize("still", [Average(0), VectorRocchio(beta=0), VectorRocchio(fb_docs=0)])
def test_what_moves_nothing_reproduces_the_first_pass_exactly(opened, still):
    dense = DenseRetriever(Transformer(dtype="float32"), Flat())
    again, plain = opened(FeedbackRetriever(dense, still)).retrieve(ASKED, 20), dense.retrieve(ASKED, 20)
    np.testing.assert_array_equal(again.rows, plain.rows)
    np.testing.assert_array_equal(again.scores, plain.scores)


@pytest.mark.parametrize(("dtype", "off"), [("float16", 1e-3), ("bfloat16", 1e-2), ("int8", 2e-2)])
def test_the_vectors_may_be_stored_in_fewer_bits(opened, tiny_model, dtype, off):
    encoder = Transformer(str(tiny_model), pooling="mean", normalize=True, dtype="float32")
    index = Quantised() if dtype == "int8" else Flat()
    dense = opened(DenseRetriever(encoder, index, dtype=dtype))
    queries, feedback = dense.feedback(ASKED, dense.retrieve(ASKED, 5))
    moved = Average(3).reformulate(queries, feedback).representations.vectors
    documents = encoder.encode_docs(DOCUMENTS).vectors
    first = feedback.run.rows[:, :3]
    expected = [
        mean(query, documents[rows]) for query, rows in zip(queries.representations.vectors, first, strict=True)
    ]
    np.testing.assert_allclose(moved, expected, atol=off)


def test_llm_vprf_is_the_same_over_the_vectors_of_promptreps(opened, tiny_chat):
    encoder = PromptReps(str(tiny_chat), dtype="float32")
    dense = DenseRetriever(encoder, Flat())
    found = opened(FeedbackRetriever(dense, VectorRocchio(fb_docs=2), depth=5)).retrieve(ASKED, 10)
    documents = encoder.encode_docs(DOCUMENTS).dense.vectors.astype(float)
    for place, query in enumerate(encoder.encode_queries(ASKED.texts).dense.vectors.astype(float)):
        first = np.argsort(-(documents @ query), kind="stable")[:2]
        scores = documents @ rocchio(query, documents[first])
        np.testing.assert_allclose(found.scores[place], np.sort(scores)[::-1][:10], atol=1e-5)


def test_behind_a_sparse_first_pass_it_is_said_what_has_vectors(opened, tiny_model):
    dense = DenseRetriever(Transformer(str(tiny_model), pooling="mean"), Flat())
    with pytest.raises(
        ValueError,
        match="Average needs vectors of the feedback documents, which BM25 does not give: put it behind a source that "
        r"does \(vectors: dense with an encoder of one vector a text\)",
    ):
        opened(FeedbackRetriever(BM25(), Average(), dense)).retrieve(ASKED, 3)
    with pytest.raises(ValueError, match="ColBERTPRF needs tokens .*tokens: dense with the encoder colbert"):
        opened(FeedbackRetriever(dense, ColBERTPRF())).retrieve(ASKED, 3)
    with pytest.raises(
        ValueError, match=r"Average writes representations, and BM25 .* reads representations \(dense\)"
    ):
        FeedbackRetriever(dense, Average(), BM25())


def test_vectors_of_one_encoder_do_not_search_those_of_another(opened, tiny_model):
    one, other = (DenseRetriever(Transformer(str(tiny_model), "mean", max_length=n), Flat()) for n in (32, 31))
    with pytest.raises(ValueError, match="these queries carry representations, .* another encoder each"):
        opened(FeedbackRetriever(one, Average(), other)).retrieve(ASKED, 3)
