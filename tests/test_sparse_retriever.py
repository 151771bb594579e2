"""Learned sparse retrieval: the products of full vectors, terms as queries, feedback, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array

from prf.rm3 import RM3
from prf.rocchio import Rocchio
from retrieval.corpus import Corpus, Document
from retrieval.encoders.splade import Splade
from retrieval.encoders.unicoil import UniCoil
from retrieval.encoding import encode_corpus
from retrieval.indexes.inverted import Inverted
from retrieval.order import top_k
from retrieval.retrievers.feedback import FeedbackRetriever
from retrieval.retrievers.sparse import SparseRetriever
from retrieval.types import Dense, Queries, Sparse
from tests.conftest import TEXTS


class BruteForce:
    """Products of the whole vocabulary vectors in float64: the reference for the inverted index."""

    def build(self, vectors, rank):
        self.docs = np.concatenate([block.toarray() for block in vectors.chunks()]).astype(np.float64)
        self.rank = rank

    def search(self, queries, k):
        scores = queries.matrix.toarray().astype(np.float64) @ self.docs.T
        return top_k(scores.astype(np.float32), self.rank, min(k, len(self.docs)), above=0.0)


@pytest.fixture(params=[BruteForce, Inverted], ids=["brute force", "inverted"])
def index(request):
    return request.param


@pytest.fixture
def corpus(tmp_path):
    return Corpus.build((Document(f"d{i}", "", text) for i, text in enumerate(TEXTS)), tmp_path / "corpus")


@pytest.fixture
def encoder(tiny_mlm):
    return Splade(str(tiny_mlm), dtype="float32", query_terms=8, doc_terms=12)


@pytest.fixture
def retriever(corpus, encoder, index, tmp_path):
    retriever = SparseRetriever(encoder, index())
    retriever.open(corpus, tmp_path / "cache")
    return retriever


QUERIES = Queries(["q1", "q2", "q3"], [TEXTS[7], "the otter", TEXTS[123]])


def same(found, expected):
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)


def test_scores_are_the_products_of_the_full_vectors(corpus, encoder, retriever):
    products = encoder.encode_queries(QUERIES.texts).matrix.toarray() @ encoder.encode_docs(TEXTS).matrix.toarray().T
    run = retriever.retrieve(QUERIES, k=1000)
    for row, scores, product in zip(run.rows, run.scores, products, strict=True):
        assert set(row[row >= 0]) == set(np.flatnonzero(product > 0))  # only what shares a term
        np.testing.assert_allclose(scores[row >= 0], product[row[row >= 0]], rtol=1e-5)
    assert run.name == "sparse" and len(run.rows[0]) <= len(corpus)


def test_impacts_are_rounded_weights(corpus, encoder, index, tmp_path):
    retriever = SparseRetriever(encoder, index(), quantise=100)
    retriever.open(corpus, tmp_path / "cache")
    run = retriever.retrieve(QUERIES, 400)
    queries, docs = (
        np.rint(100 * weights.matrix.toarray().astype(np.float64))
        for weights in (encoder.encode_queries(QUERIES.texts), encoder.encode_docs(TEXTS))
    )
    for row, scores, product in zip(run.rows, run.scores, queries @ docs.T, strict=True):
        assert set(row[row >= 0]) == set(np.flatnonzero(product))
        np.testing.assert_array_equal(scores[row >= 0], product[row[row >= 0]])


def test_the_corpus_is_encoded_once(corpus, encoder, index, tmp_path, monkeypatch):
    first = SparseRetriever(encoder, index())
    first.open(corpus, tmp_path / "cache")
    again = SparseRetriever(encoder, index())
    monkeypatch.setattr(encoder, "encode_docs", None)
    again.open(corpus, tmp_path / "cache")
    assert json.dumps(again.provenance()) == json.dumps(first.provenance())


def test_vectors_that_encode_wrote_are_searched_and_others_refused(corpus, encoder, tiny_mlm, index, tmp_path):
    encode_corpus(corpus, encoder, tmp_path / "store")
    retriever = SparseRetriever(encoder, index(), vectors=tmp_path / "store")
    retriever.open(corpus, tmp_path / "unused")
    assert retriever.retrieve(QUERIES, 3).rows.shape == (3, 3) and not (tmp_path / "unused").exists()
    other = SparseRetriever(Splade(str(tiny_mlm), dtype="float32"), index(), vectors=tmp_path / "store")
    with pytest.raises(ValueError, match=r"another encoder \(doc_terms: 12 there, None here\)"):
        other.open(corpus, tmp_path / "unused")
    another = Corpus.build([Document("x", "", "another")], tmp_path / "other")
    with pytest.raises(ValueError, match=r"of corpus .* \(400 documents\), not of .* \(1 documents\)"):
        SparseRetriever(encoder, index(), vectors=tmp_path / "store").open(another, tmp_path / "unused")


def test_representations_are_searched_as_they_are(encoder, retriever):
    given = replace(QUERIES, representations=encoder.encode_queries(QUERIES.texts))
    same(retriever.retrieve(replace(given, texts=[""] * 3), 20), retriever.retrieve(QUERIES, 20))
    with pytest.raises(TypeError, match="sparse searches sparse vectors, not Dense"):
        retriever.retrieve(replace(QUERIES, representations=Dense(np.ones((3, 8), np.float32))), 20)
    narrow = Sparse(csr_array(np.ones((3, 8), np.float32)))
    with pytest.raises(ValueError, match=r"queries are 8 wide, the vocabulary \d+: not of the same encoder"):
        retriever.retrieve(replace(QUERIES, representations=narrow), 20)


def test_terms_are_searched_by_their_weights_and_unknown_ones_counted(encoder, retriever):
    docs = encoder.encode_docs(TEXTS).matrix.toarray()
    one, other = np.argsort(np.abs(np.count_nonzero(docs, axis=0) - 100), kind="stable")[:2]  # in about 100 each
    names = encoder.vocabulary()
    weights = [{names[one]: 2.0, "xylophone": 9.0, names[other]: 0.5}, {}, {"xylophone": 1.0, names[one]: 0.0}]
    run = retriever.retrieve(replace(QUERIES, terms=weights), 400)
    expected = 2 * docs[:, one] + 0.5 * docs[:, other]
    found = run.rows[0][run.rows[0] >= 0]
    assert set(found) == set(np.flatnonzero(expected > 0)) and 0 < len(found) < 400
    np.testing.assert_allclose(run.scores[0][: len(found)], expected[found], rtol=1e-5)
    assert (run.rows[1:] == -1).all()
    assert retriever.provenance()["unknown terms"] == 2


def test_feedback_terms_bring_the_same_results_back(retriever):
    run = retriever.retrieve(QUERIES, 20)
    queries, _ = retriever.feedback(QUERIES, run)
    assert queries.representations is None and len(queries.terms) == 3
    same(retriever.retrieve(queries, 20), run)


def test_feedback_gives_texts_terms_and_statistics_of_what_was_found(encoder, retriever):
    run = retriever.retrieve(QUERIES, 5)
    queries, feedback = retriever.feedback(QUERIES, run)
    names, docs = encoder.vocabulary(), retriever.store.rows(run.rows[0]).toarray()
    assert feedback.texts(run.rows[0]) == [TEXTS[row] for row in run.rows[0]]
    for terms, doc in zip(feedback.terms(run.rows[0]), docs, strict=True):
        assert terms == {names[i]: float(doc[i]) for i in np.flatnonzero(doc)}
    query = encoder.encode_queries(QUERIES.texts).matrix.toarray()[0]
    assert queries.terms[0] == {names[i]: float(query[i]) for i in np.flatnonzero(query)}
    asked = [*queries.terms[0], "xylophone"]
    counts = np.count_nonzero(encoder.encode_docs(TEXTS).matrix.toarray(), axis=0)
    expected = [counts[list(names).index(term)] for term in queries.terms[0]] + [0]
    assert feedback.statistics.documents == 400
    assert feedback.statistics.frequencies(asked).tolist() == expected
    assert feedback.statistics.idf(asked).tolist() == [1.0] * len(asked)


def test_terms_that_were_given_are_those_of_feedback(retriever):
    given = replace(QUERIES, terms=[{"otter": 1.0}, {}, {"comet": 2.0}])
    queries, _ = retriever.feedback(given, retriever.retrieve(given, 3))
    assert queries.terms == given.terms


@pytest.mark.parametrize("weight", [np.nan, np.inf, -0.5])
def test_a_weight_that_cannot_be_is_refused_with_query_and_term(encoder, retriever, weight):
    message = f"query 'q2': term 'otter' weighs {weight}; a weight is 0 or more, and finite"
    with pytest.raises(ValueError, match=message):
        retriever.retrieve(replace(QUERIES, terms=[{"comet": 1.0}, {"the": 1.0, "otter": weight}, {}]), 3)
    with pytest.raises(ValueError, match="query 'q1': term 'xylophone' weighs"):
        retriever.retrieve(replace(QUERIES, terms=[{"xylophone": weight}, {}, {}]), 3)
    dense = np.zeros((3, len(encoder.vocabulary())), np.float32)
    dense[1, list(encoder.vocabulary()).index("otter")] = weight
    with pytest.raises(ValueError, match=message):
        retriever.retrieve(replace(QUERIES, representations=Sparse(csr_array(dense))), 3)


def test_queries_that_are_cut_are_counted(corpus, tiny_mlm, index, tmp_path):
    retriever = SparseRetriever(Splade(str(tiny_mlm), max_length=6, dtype="float32"), index())
    retriever.open(corpus, tmp_path / "cache")
    retriever.retrieve(QUERIES, 3)
    assert retriever.provenance()["truncated queries"] == 2
    assert retriever.provenance()["truncated documents"] == retriever.store.truncated > 0


def test_two_retrievers_that_share_an_index_search_their_own_vectors(corpus, encoder, tiny_mlm, index, tmp_path):
    """In a recipe equal blocks are one object, so `index: inverted` may be the same index for both."""
    shared = index()
    first = SparseRetriever(encoder, shared)
    first.open(corpus, tmp_path)
    alone = first.retrieve(QUERIES, 5)
    second = SparseRetriever(Splade(str(tiny_mlm), dtype="float32", doc_terms=3), shared)
    second.open(corpus, tmp_path)
    np.testing.assert_array_equal(first.retrieve(QUERIES, 5).scores, alone.scores)
    assert second.retrieve(QUERIES, 5).scores.tolist() != alone.scores.tolist()


def test_a_retriever_takes_any_sparse_encoder(corpus, tiny_model, index, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "unicoil")
    weights = load_file(tmp_path / "unicoil" / "model.safetensors")
    head = {"tok_proj.weight": torch.zeros(1, 32), "tok_proj.bias": torch.ones(1)}
    save_file(weights | head, tmp_path / "unicoil" / "model.safetensors", metadata={"format": "pt"})
    retriever = SparseRetriever(UniCoil(str(tmp_path / "unicoil"), dtype="float32"), index())
    retriever.open(corpus, tmp_path / "cache")
    run = retriever.retrieve(Queries(["q"], ["otter"]), 400)
    assert {TEXTS[row] for row in run.rows[0] if row >= 0} == {text for text in TEXTS if "otter" in text}
    assert set(run.scores[0][run.rows[0] >= 0]) == {1.0}  # each token weighs 1


@pytest.mark.parametrize("model", [RM3(original_query_weight=1.0), Rocchio(beta=0.0)], ids=["rm3", "rocchio"])
def test_feedback_that_adds_nothing_keeps_the_ranking(corpus, retriever, model, tmp_path):
    """Scores are those of the first pass over the norm of the query, so ties aside the order is the same."""
    alone = retriever.retrieve(QUERIES, 30)
    again = FeedbackRetriever(retriever, model)
    again.open(corpus, tmp_path / "cache")
    found = again.retrieve(QUERIES, 30)
    norms = alone.scores[:, :1] / found.scores[:, :1]
    np.testing.assert_allclose(found.scores * norms, alone.scores, rtol=1e-5)
    assert found.name == f"sparse+{type(model).__name__.lower()}"


def test_feedback_moves_the_query(corpus, retriever, tmp_path):
    moved = FeedbackRetriever(retriever, RM3(max_df=None, filter_terms=False))
    moved.open(corpus, tmp_path / "cache")
    assert (moved.retrieve(QUERIES, 30).rows != retriever.retrieve(QUERIES, 30).rows).any()


def test_no_queries_give_an_empty_run(retriever):
    assert len(retriever.retrieve(Queries([], []), 5).rows) == 0
    assert len(retriever.retrieve(Queries([], [], terms=[]), 5).rows) == 0
